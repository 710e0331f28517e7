import { describe, expect, it } from 'vitest'
import {
  ACPI_START,
  CMDLINE_START,
  EBDA_START,
  PAGE_TABLES_START,
  PVH_INFO_START,
  VM_GENERATION_ID_START,
  ZERO_PAGE_START,
} from '../src/boot-layout.ts'
import { BOOT_PARAMS, E820_TABLE_OFFSET } from '../src/boot-params.ts'
import { Cmdline } from '../src/cmdline.ts'
import { configureBoot } from '../src/configure-boot.ts'
import { HVM_START_INFO } from '../src/hvm-start-info.ts'
import { loadInitrd } from '../src/initrd.ts'
import { loadKernel } from '../src/load-kernel.ts'
import { SETUP_DATA, SETUP_RNG_SEED } from '../src/setup-data.ts'
import { SETUP_HEADER, SETUP_HEADER_OFFSET, type SetupHeaderField } from '../src/setup-header.ts'
import { expectLoaderError } from './expect-error.ts'
import { bzImage, elfImage, pattern } from './images.ts'
import { FIXTURE_ENTRY, fixtureKernel } from './payloads.ts'
import { PlainMemory } from './plain-memory.ts'

const MIB = 2 ** 20
const zeroPage = (memory: PlainMemory) => {
  const view = memory.view(ZERO_PAGE_START, 4096)
  return { view, field: (name: SetupHeaderField) => SETUP_HEADER[name].get(view, SETUP_HEADER_OFFSET) }
}
const string = (memory: PlainMemory, address: number): string => {
  const bytes = memory.read(address, 4096)
  return Buffer.from(bytes.subarray(0, bytes.indexOf(0))).toString('latin1')
}

describe('configureBoot', () => {
  it('boots an uncompressed kernel by the 64-bit protocol', async () => {
    const memory = PlainMemory.ofSize(64 * MIB)
    const kernel = await loadKernel(memory, fixtureKernel)
    const initrd = loadInitrd(memory, pattern(1234), { kernel })
    const rngSeed = pattern(32)
    const state = configureBoot(memory, { kernel, initrd, cmdline: 'console=ttyS0', cpus: 2, rngSeed })
    expect(state.regs).toMatchObject({ rip: BigInt(FIXTURE_ENTRY), rsi: BigInt(ZERO_PAGE_START) })
    const { view, field } = zeroPage(memory)
    expect(string(memory, field('cmd_line_ptr'))).toBe('console=ttyS0')
    expect(field('ramdisk_image')).toBe(initrd.start)
    expect(field('ramdisk_size')).toBe(1234)
    expect(BOOT_PARAMS.e820_entries.get(view)).toBe(3)
    expect(view.getUint32(E820_TABLE_OFFSET + 8, true)).toBe(EBDA_START)
    const seed = field('setup_data')
    expect(SETUP_DATA.type.get(memory.view(seed, 16))).toBe(SETUP_RNG_SEED)
    expect(memory.read(seed + 16, 32)).toEqual(rngSeed)
    expect(Buffer.from(memory.read(EBDA_START, 4)).toString('latin1')).toBe('_MP_')
  })

  it('boots a bzImage with its own setup header', async () => {
    const memory = PlainMemory.ofSize(64 * MIB)
    const kernel = await loadKernel(memory, bzImage(pattern(4096)))
    const state = configureBoot(memory, { kernel, cpus: 0 })
    expect(state.regs.rip).toBe(BigInt(FIXTURE_ENTRY + 0x200))
    const { field } = zeroPage(memory)
    expect(field('init_size')).toBe(0x100000)
    expect(field('type_of_loader')).toBe(0xff)
    expect(field('cmdline_size')).toBe(2047)
    expect(field('setup_data')).toBe(0)
    expect(string(memory, CMDLINE_START)).toBe('')
    expect(memory.read(EBDA_START, 4)).toEqual(new Uint8Array(4))
  })

  it.each(['linux64', 'pvh'] as const)('points a kernel to its ACPI tables: %s', async (protocol) => {
    const memory = PlainMemory.ofSize(64 * MIB)
    const kernel = await loadKernel(memory, fixtureKernel, { protocol })
    const acpi = { generationId: { address: VM_GENERATION_ID_START, gsi: 13 } }
    configureBoot(memory, { kernel, cpus: 2, acpi })
    const rsdp =
      protocol === 'pvh'
        ? HVM_START_INFO.rsdp_paddr.get(memory.view(PVH_INFO_START, 56))
        : BOOT_PARAMS.acpi_rsdp_addr.get(zeroPage(memory).view)
    expect(rsdp).toBe(ACPI_START)
    expect(Buffer.from(memory.read(rsdp, 8)).toString('latin1')).toBe('RSD PTR ')
    const onTop = { address: kernel.kernelStart, gsi: 13 }
    expectLoaderError('ERR_LAYOUT_OVERLAP', () =>
      configureBoot(memory, { kernel, acpi: { generationId: onTop } }),
    )
  })

  it('boots by PVH', async () => {
    const memory = PlainMemory.ofSize(64 * MIB)
    const kernel = await loadKernel(memory, fixtureKernel, { protocol: 'pvh' })
    const initrd = loadInitrd(memory, pattern(1234), { kernel })
    const state = configureBoot(memory, { kernel, initrd, cmdline: Cmdline.from('quiet') })
    expect(state.regs).toMatchObject({ rip: BigInt(FIXTURE_ENTRY + 0x40), rbx: BigInt(PVH_INFO_START) })
    const info = memory.view(PVH_INFO_START, 56)
    expect(string(memory, HVM_START_INFO.cmdline_paddr.get(info))).toBe('quiet')
    const module = memory.view(HVM_START_INFO.modlist_paddr.get(info), 16)
    expect([module.getUint32(0, true), module.getUint32(8, true)]).toEqual([initrd.start, 1234])
    expect(HVM_START_INFO.memmap_entries.get(info)).toBe(3)
  })

  it('keeps a command line within what the kernel reads', async () => {
    const memory = PlainMemory.ofSize(64 * MIB)
    const kernel = await loadKernel(memory, bzImage(pattern(4096), { cmdline_size: 10 }))
    configureBoot(memory, { kernel, cmdline: '0123456789' })
    expectLoaderError(
      'ERR_CMDLINE_TOO_LONG',
      () => configureBoot(memory, { kernel, cmdline: '0123456789a' }),
      /takes 12 bytes with its NUL, but the kernel reads at most 11/,
    )
    const elf = await loadKernel(memory, fixtureKernel)
    configureBoot(memory, { kernel: elf, cmdline: 'x'.repeat(2047) })
    expectLoaderError('ERR_CMDLINE_TOO_LONG', () =>
      configureBoot(memory, { kernel: elf, cmdline: 'x'.repeat(2048) }),
    )
    const long = Cmdline.from('x'.repeat(0x10000), 0x20000)
    expectLoaderError('ERR_CMDLINE_TOO_LONG', () => configureBoot(memory, { kernel: elf, cmdline: long }))
  })

  it('puts no two things at one place', async () => {
    const memory = PlainMemory.ofSize(64 * MIB)
    const low = await loadKernel(memory, elfImage(0x7000, [{ paddr: 0x7000, bytes: pattern(99) }]), {
      highmemStart: 0,
    })
    expectLoaderError(
      'ERR_LAYOUT_OVERLAP',
      () => configureBoot(memory, { kernel: low }),
      /the boot tables at 0x500-0x3ffff and the kernel at 0x7000-0x7062 overlap/,
    )
    const kernel = await loadKernel(memory, fixtureKernel)
    const initrd = { start: FIXTURE_ENTRY + 100, size: 10 }
    expectLoaderError(
      'ERR_LAYOUT_OVERLAP',
      () => configureBoot(memory, { kernel, initrd }),
      /the kernel .* the initrd/,
    )
    // A kernel over the MP table, at the end of base memory.
    const high = await loadKernel(memory, elfImage(EBDA_START, [{ paddr: EBDA_START, bytes: pattern(99) }]), {
      highmemStart: 0,
    })
    expectLoaderError('ERR_LAYOUT_OVERLAP', () => configureBoot(memory, { kernel: high }), /the MP table/)
    configureBoot(memory, { kernel: high, cpus: 0 })
  })

  it('maps a kernel above 4 GiB', async () => {
    const memory = new PlainMemory([
      { start: 0, size: MIB },
      { start: 2 ** 32, size: MIB },
    ])
    const fifthGib = () => memory.view(PAGE_TABLES_START + 4096 + 4 * 8, 8).getBigUint64(0, true)
    configureBoot(memory, {
      kernel: await loadKernel(memory, pattern(16), { format: 'flat', address: MIB - 4096 }),
    })
    expect(fifthGib()).toBe(0n)
    configureBoot(memory, {
      kernel: await loadKernel(memory, pattern(16), { format: 'flat', address: 2 ** 32 }),
    })
    expect(fifthGib() & 1n).toBe(1n)
  })

  it('refuses more setup_data than there is room for', async () => {
    const memory = PlainMemory.ofSize(64 * MIB)
    const kernel = await loadKernel(memory, fixtureKernel)
    const setupData = [{ type: 1, data: new Uint8Array(0x10000) }]
    expectLoaderError('ERR_TABLE_DOES_NOT_FIT', () => configureBoot(memory, { kernel, setupData }))
  })

  it('says what a guest with too little memory lacks', async () => {
    const memory = PlainMemory.ofSize(MIB)
    const kernel = await loadKernel(memory, pattern(16), { format: 'flat', address: MIB - 4096 })
    configureBoot(memory, { kernel })
    const tiny = PlainMemory.ofSize(64 * 1024)
    const inTiny = await loadKernel(tiny, pattern(16), { format: 'flat', address: 0x100 })
    expectLoaderError('ERR_CMDLINE_DOES_NOT_FIT', () => configureBoot(tiny, { kernel: inTiny }))
  })
})
