import { describe, expect, it } from 'vitest'
import { writePvhStartInfo } from '../src/hvm-start-info.ts'
import { expectLoaderError } from './expect-error.ts'
import { PlainMemory } from './plain-memory.ts'

const e820 = [
  { start: 0, size: 0x9fc00, type: 1 },
  { start: 0x1_0000_0000, size: 0x2_0000_0000, type: 1 },
]
/** Little-endian words of 32 bits, from 64-bit values where they are bigints. */
const words = (...values: readonly (number | bigint)[]): Uint8Array => {
  const flat = values.flatMap((value) =>
    typeof value === 'bigint' ? [Number(value & 0xffff_ffffn), Number(value >> 32n)] : [value],
  )
  return new Uint8Array(Uint32Array.from(flat).buffer)
}

describe('the PVH start info', () => {
  it('has the bytes of xen/include/public/arch-x86/hvm/start_info.h', () => {
    const memory = new PlainMemory([{ start: 0, size: 0x10000 }])
    const range = writePvhStartInfo(memory, 0x6000, {
      e820,
      cmdline: 0x20000,
      modules: [{ start: 0x3_0000_0000, size: 0x1234, cmdline: 0x500 }],
      acpiRsdp: 0xe0000,
    })
    const modlist = 0x6000 + 56
    const memmap = modlist + 32
    expect(range).toEqual({ start: 0x6000, size: 56 + 32 + 2 * 24 })
    expect(memory.read(0x6000, range.size)).toEqual(
      words(
        // magic, version, flags, nr_modules, modlist, cmdline, rsdp, memmap, memmap_entries, reserved
        ...[0x336ec578, 1, 0, 1, BigInt(modlist), 0x20000n, 0xe0000n, BigInt(memmap), 2, 0],
        // paddr, size, cmdline_paddr, reserved
        ...[0x3_0000_0000n, 0x1234n, 0x500n, 0n],
        // addr, size, type, reserved
        ...[0n, 0x9fc00n, 1, 0],
        ...[0x1_0000_0000n, 0x2_0000_0000n, 1, 0],
      ),
    )
  })

  it('has no module list without modules', () => {
    const memory = new PlainMemory([{ start: 0, size: 0x1000 }])
    expect(writePvhStartInfo(memory, 0, { e820 }).size).toBe(56 + 48)
    expect(memory.read(0, 56)).toEqual(words(0x336ec578, 1, 0, 0, 0n, 0n, 0n, 56n, 2, 0))
  })

  it('must lie in RAM, with all that belongs to it', () => {
    const memory = new PlainMemory([{ start: 0, size: 0x1000 }])
    writePvhStartInfo(memory, 0x1000 - 104, { e820 })
    expectLoaderError(
      'ERR_TABLE_DOES_NOT_FIT',
      () => writePvhStartInfo(memory, 0x1000 - 103, { e820 }),
      /the PVH start info needs 104 bytes/,
    )
  })
})
