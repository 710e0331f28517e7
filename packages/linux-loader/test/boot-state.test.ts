import { describe, expect, it } from 'vitest'
import {
  BOOT_STACK_POINTER,
  GDT_START,
  PAGE_TABLES_END,
  PAGE_TABLES_START,
  PVH_INFO_START,
  ZERO_PAGE_START,
} from '../src/boot-layout.ts'
import {
  BOOT_CS,
  BOOT_DS,
  BOOT_TR,
  type BootState,
  CR0_ET,
  CR0_PE,
  CR0_PG,
  CR4_PAE,
  EFER_LMA,
  EFER_LME,
  encodeDescriptor,
  longModeState,
  protectedModeState,
  realModeState,
  type Segment,
} from '../src/boot-state.ts'
import { expectLoaderError } from './expect-error.ts'
import { PlainMemory } from './plain-memory.ts'

const MIB = 2 ** 20
const GIB = 2 ** 30

/** A segment as the CPU would load it from 8 bytes of a descriptor table. */
const decodeDescriptor = (descriptor: bigint) => {
  const bits = (from: number, count: number): number =>
    Number((descriptor >> BigInt(from)) & ((1n << BigInt(count)) - 1n))
  const g = bits(55, 1)
  const rawLimit = bits(0, 16) + bits(48, 4) * 0x10000
  return {
    base: BigInt(bits(16, 24) + bits(56, 8) * 2 ** 24),
    limit: g === 1 ? rawLimit * 4096 + 4095 : rawLimit,
    type: bits(40, 4),
    s: bits(44, 1),
    dpl: bits(45, 2),
    present: bits(47, 1),
    avl: bits(52, 1),
    l: bits(53, 1),
    db: bits(54, 1),
    g,
  }
}
const expectSegmentsInGdt = (memory: PlainMemory, { sregs }: BootState): void => {
  const view = memory.view(Number(sregs.gdt.base), sregs.gdt.limit + 1)
  expect(view.getBigUint64(0)).toBe(0n)
  const { cs, ds, es, fs, gs, ss, tr } = sregs
  for (const segment of [cs, ds, es, fs, gs, ss, tr]) {
    expect(segment.selector + 8).toBeLessThanOrEqual(sregs.gdt.limit + 1)
    expect(segment).toMatchObject(decodeDescriptor(view.getBigUint64(segment.selector, true)))
  }
}

/** What a physical address is for a linear one, by the page tables at `cr3`. */
const translate = (memory: PlainMemory, cr3: bigint, address: number): number | undefined => {
  const entry = (table: bigint, shift: number): bigint => {
    const index = Math.floor(address / 2 ** shift) % 512
    return memory.view(Number(table & 0xf_ffff_ffff_f000n) + index * 8, 8).getBigUint64(0, true)
  }
  const PRESENT_WRITABLE = 0b11n
  const PAGE_SIZE = 1n << 7n
  let table = cr3
  for (const shift of [39, 30, 21]) {
    const value = entry(table, shift)
    if ((value & PRESENT_WRITABLE) !== PRESENT_WRITABLE) return undefined
    if ((value & PAGE_SIZE) !== 0n) {
      const base = Number(value & 0xf_ffff_ffff_f000n)
      expect(base % 2 ** shift).toBe(0)
      return base + (address % 2 ** shift)
    }
    table = value
  }
  return undefined
}

describe('long mode', () => {
  const memory = PlainMemory.ofSize(MIB)
  const state = longModeState(memory, { entry: 0x1000000 })

  it('is what the 64-bit boot protocol asks for', () => {
    expect(state.regs).toMatchObject({
      rip: 0x1000000n,
      rsi: BigInt(ZERO_PAGE_START),
      rsp: BigInt(BOOT_STACK_POINTER),
      rflags: 2n,
    })
    expect(Object.keys(state.regs)).toHaveLength(18)
    const { sregs } = state
    expect(sregs.cr0).toBe(CR0_PE | CR0_ET | CR0_PG)
    expect(sregs.cr4).toBe(CR4_PAE)
    expect(sregs.efer).toBe(EFER_LME | EFER_LMA)
    expect(sregs.cr3).toBe(BigInt(PAGE_TABLES_START))
    expect(sregs.cs).toMatchObject({ selector: BOOT_CS, l: 1, db: 0, s: 1, type: 0b1011 })
    expect(sregs.ss).toMatchObject({ selector: BOOT_DS, s: 1, type: 0b0011, limit: 0xffff_ffff })
    expect(sregs.tr).toMatchObject({ selector: BOOT_TR, s: 0, type: 0b1011, present: 1 })
    expect(sregs.ldt).toMatchObject({ present: 0, unusable: 1 })
    expect(sregs.gdt.base).toBe(BigInt(GDT_START))
  })

  it('has its segments in the GDT', () => expectSegmentsInGdt(memory, state))

  it('maps 4 GiB to themselves and no more', () => {
    for (const address of [
      0,
      0x1234,
      16 * MIB + 1,
      GIB - 1,
      GIB,
      3 * GIB + 0x1ff_fff,
      0xfee0_0000,
      4 * GIB - 1,
    ])
      expect(translate(memory, state.sregs.cr3, address)).toBe(address)
    expect(translate(memory, state.sregs.cr3, 4 * GIB)).toBeUndefined()
    expect(translate(memory, state.sregs.cr3, 512 * GIB)).toBeUndefined()
  })

  it('maps more where it is asked to, in larger pages if need be', () => {
    const other = PlainMemory.ofSize(MIB)
    const { sregs } = longModeState(other, { entry: 0, identityMapSize: 20 * GIB + 1 })
    expect(translate(other, sregs.cr3, 21 * GIB - 1)).toBe(21 * GIB - 1)
    expect(translate(other, sregs.cr3, 21 * GIB)).toBeUndefined()
    expectLoaderError(
      'ERR_TABLE_DOES_NOT_FIT',
      () => longModeState(other, { entry: 0, identityMapSize: 22 * GIB }),
      /there is room for 21 GiB/,
    )
    longModeState(other, { entry: 0, identityMapSize: 512 * GIB, pageSize: 0x4000_0000 })
    expect(translate(other, sregs.cr3, 512 * GIB - 1)).toBe(512 * GIB - 1)
    for (const identityMapSize of [0, -1, 513 * GIB, Number.NaN])
      expectLoaderError('ERR_TABLE_DOES_NOT_FIT', () =>
        longModeState(other, { entry: 0, identityMapSize, pageSize: 0x4000_0000 }),
      )
  })

  it('leaves what follows its page tables alone', () => {
    const other = PlainMemory.ofSize(MIB)
    longModeState(other, { entry: 0, identityMapSize: 21 * GIB })
    expect(other.read(PAGE_TABLES_END, 4096)).toEqual(new Uint8Array(4096))
    expect(other.read(PAGE_TABLES_END - 8, 8)).not.toEqual(new Uint8Array(8))
  })

  it('needs RAM for its tables', () => {
    const small = (size: number) => new PlainMemory([{ start: 0, size }])
    expectLoaderError(
      'ERR_TABLE_DOES_NOT_FIT',
      () => longModeState(small(0xa000), { entry: 0 }),
      /the page tables/,
    )
    expectLoaderError(
      'ERR_TABLE_DOES_NOT_FIT',
      () => protectedModeState(small(0x500), { entry: 0 }),
      /the GDT/,
    )
  })
})

describe('protected mode', () => {
  it('is what PVH asks for', () => {
    const memory = PlainMemory.ofSize(MIB)
    const state = protectedModeState(memory, { entry: 0x1000500 })
    expect(state.regs).toMatchObject({ rip: 0x1000500n, rbx: BigInt(PVH_INFO_START), rflags: 2n })
    const { sregs } = state
    expect([sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer]).toEqual([CR0_PE | CR0_ET, 0n, 0n, 0n])
    expect(sregs.cs).toMatchObject({ base: 0n, limit: 0xffff_ffff, db: 1, l: 0, type: 0b1011 })
    expect(sregs.tr).toMatchObject({ base: 0n, limit: 0x67, type: 0b1011 })
    expectSegmentsInGdt(memory, state)
  })

  it('reaches 4 GiB', () => {
    const memory = PlainMemory.ofSize(MIB)
    expectLoaderError('ERR_LOADER_ARGUMENT', () => protectedModeState(memory, { entry: 2 ** 32 }))
    expectLoaderError('ERR_LOADER_ARGUMENT', () =>
      protectedModeState(memory, { entry: 0, startInfo: 2 ** 32 }),
    )
  })
})

describe('real mode', () => {
  it('starts at a segment and an offset', () => {
    const { regs, sregs } = realModeState(0x7c05)
    expect(sregs.cs).toMatchObject({ base: 0x7c00n, selector: 0x7c0, limit: 0xffff, db: 0, g: 0 })
    expect(regs.rip).toBe(5n)
    expect(sregs.ds).toMatchObject({ base: 0n, selector: 0 })
    expect([sregs.cr0, sregs.efer]).toEqual([CR0_ET, 0n])
  })

  it('starts below 1 MiB', () => {
    for (const entry of [MIB, -1, 0.5]) expectLoaderError('ERR_LOADER_ARGUMENT', () => realModeState(entry))
  })
})

describe('encodeDescriptor', () => {
  it('puts every field where the CPU looks for it', () => {
    const segment: Segment = {
      base: 0xfedc_ba98n,
      limit: 0xabcde,
      selector: 0x28,
      type: 0b0101,
      present: 1,
      dpl: 2,
      db: 1,
      s: 0,
      l: 0,
      g: 0,
      avl: 1,
      unusable: 0,
    }
    const { selector: _, unusable: __, ...fields } = segment
    expect(decodeDescriptor(encodeDescriptor(segment))).toEqual(fields)
    // The flat 64-bit code segment and data segment of many a boot loader.
    const code = {
      ...segment,
      base: 0n,
      limit: 0xffff_ffff,
      type: 0b1011,
      dpl: 0,
      db: 0,
      s: 1,
      l: 1,
      g: 1,
      avl: 0,
    }
    expect(encodeDescriptor(code)).toBe(0x00af_9b00_0000_ffffn)
    expect(encodeDescriptor({ ...code, type: 0b0011, db: 1, l: 0 })).toBe(0x00cf_9300_0000_ffffn)
  })
})
