import { describe, expect, it } from 'vitest'
import {
  BOOT_E820_ENTRY,
  BOOT_PARAMS,
  BOOT_PARAMS_SIZE,
  buildBootParams,
  E820_ENTRY_SIZE,
  E820_TABLE_OFFSET,
  writeBootParams,
} from '../src/boot-params.ts'
import { viewOf } from '../src/fields.ts'
import {
  SETUP_DATA,
  SETUP_DATA_HEADER_SIZE,
  SETUP_RNG_SEED,
  setupDataSize,
  writeSetupData,
} from '../src/setup-data.ts'
import {
  BOOT_FLAG,
  SETUP_HEADER,
  SETUP_HEADER_MAGIC,
  SETUP_HEADER_OFFSET,
  SetupHeader,
  type SetupHeaderField,
  TYPE_OF_LOADER_UNDEFINED,
} from '../src/setup-header.ts'
import { expectLoaderError } from './expect-error.ts'
import { pattern } from './images.ts'
import { PlainMemory } from './plain-memory.ts'

const headerField = (page: Uint8Array, field: SetupHeaderField): number =>
  SETUP_HEADER[field].get(viewOf(page), SETUP_HEADER_OFFSET)

describe('the zero page', () => {
  it('of an uncompressed kernel has a header that the kernel takes', () => {
    const page = buildBootParams({ e820: [], cmdline: { start: 0x20000, size: 100 } })
    expect(page).toHaveLength(BOOT_PARAMS_SIZE)
    expect(headerField(page, 'boot_flag')).toBe(BOOT_FLAG)
    expect(headerField(page, 'header')).toBe(SETUP_HEADER_MAGIC)
    expect(headerField(page, 'version')).toBe(0x20f)
    expect(headerField(page, 'type_of_loader')).toBe(TYPE_OF_LOADER_UNDEFINED)
    expect(headerField(page, 'cmd_line_ptr')).toBe(0x20000)
    expect(headerField(page, 'cmdline_size')).toBe(99)
    expect(BOOT_PARAMS.sentinel.get(viewOf(page))).toBe(0)
  })

  it('hands on the header of a bzImage, and does not change the original', () => {
    const setupHeader = new SetupHeader(pattern(200))
    const before = setupHeader.bytes.slice()
    const page = buildBootParams({
      e820: [],
      setupHeader,
      cmdline: { start: 0x20000, size: 100 },
      setupData: 0x5000,
    })
    const expected = new SetupHeader(before)
    expected.set('type_of_loader', TYPE_OF_LOADER_UNDEFINED)
    expected.set('cmd_line_ptr', 0x20000)
    expected.set('setup_data', 0x5000)
    expect(page.subarray(SETUP_HEADER_OFFSET, SETUP_HEADER_OFFSET + before.length)).toEqual(expected.bytes)
    expect(setupHeader.bytes).toEqual(before)
  })

  it('splits addresses above 4 GiB', () => {
    const page = buildBootParams({
      e820: [],
      cmdline: { start: 0x3_1234_5678, size: 1 },
      initrd: { start: 0x7_8765_4321, size: 0x2_0000_0010 },
      setupData: 0x5_0000_0008,
      acpiRsdp: 0x6_0000_0000,
    })
    const view = viewOf(page)
    expect(headerField(page, 'cmd_line_ptr')).toBe(0x1234_5678)
    expect(BOOT_PARAMS.ext_cmd_line_ptr.get(view)).toBe(3)
    expect(headerField(page, 'ramdisk_image')).toBe(0x8765_4321)
    expect(BOOT_PARAMS.ext_ramdisk_image.get(view)).toBe(7)
    expect(headerField(page, 'ramdisk_size')).toBe(0x10)
    expect(BOOT_PARAMS.ext_ramdisk_size.get(view)).toBe(2)
    expect(headerField(page, 'setup_data')).toBe(0x5_0000_0008)
    expect(BOOT_PARAMS.acpi_rsdp_addr.get(view)).toBe(0x6_0000_0000)
  })

  it('holds the memory map in ascending order', () => {
    const page = buildBootParams({
      e820: [
        { start: 2 ** 32, size: 2 ** 33, type: 1 },
        { start: 0, size: 0x9fc00, type: 1 },
      ],
    })
    const view = viewOf(page)
    expect(BOOT_PARAMS.e820_entries.get(view)).toBe(2)
    const entry = (i: number) =>
      [BOOT_E820_ENTRY.addr, BOOT_E820_ENTRY.size, BOOT_E820_ENTRY.type].map((field) =>
        field.get(view, E820_TABLE_OFFSET + i * E820_ENTRY_SIZE),
      )
    expect(entry(0)).toEqual([0, 0x9fc00, 1])
    expect(entry(1)).toEqual([2 ** 32, 2 ** 33, 1])
    expect(entry(2)).toEqual([0, 0, 0])
  })

  it('refuses more entries than it holds', () => {
    const e820 = Array.from({ length: 129 }, (_, i) => ({ start: i * 4096, size: 4096, type: 1 }))
    expectLoaderError('ERR_E820_TOO_MANY', () => buildBootParams({ e820 }))
    const page = buildBootParams({ e820: e820.slice(0, 128) })
    expect(BOOT_PARAMS.e820_entries.get(viewOf(page))).toBe(128)
  })

  it('must lie in RAM', () => {
    const memory = new PlainMemory([{ start: 0, size: 0x8000 }])
    writeBootParams(memory, 0x7000, { e820: [] })
    for (const address of [0x7001, 0x8000, -1, Number.MAX_SAFE_INTEGER])
      expectLoaderError(
        'ERR_TABLE_DOES_NOT_FIT',
        () => writeBootParams(memory, address, { e820: [] }),
        /the zero page/,
      )
  })
})

describe('setup_data', () => {
  const memory = new PlainMemory([{ start: 0, size: 0x1000 }])

  it('is a list that ends with 0', () => {
    const entries = [
      { type: SETUP_RNG_SEED, data: pattern(33) },
      { type: 0x1234, data: pattern(8, 3) },
    ]
    expect(writeSetupData(memory, 0x100, entries)).toBe(0x100)
    const view = memory.view(0, 0x1000)
    const second = SETUP_DATA.next.get(view, 0x100)
    expect(second).toBe(0x100 + 56)
    expect(SETUP_DATA.type.get(view, 0x100)).toBe(SETUP_RNG_SEED)
    expect(SETUP_DATA.len.get(view, 0x100)).toBe(33)
    expect(memory.read(0x100 + SETUP_DATA_HEADER_SIZE, 33)).toEqual(pattern(33))
    expect(SETUP_DATA.next.get(view, second)).toBe(0)
    expect(SETUP_DATA.type.get(view, second)).toBe(0x1234)
    expect(memory.read(second + SETUP_DATA_HEADER_SIZE, 8)).toEqual(pattern(8, 3))
    expect(setupDataSize(entries)).toBe(56 + 24)
  })

  it('is nothing without entries', () => {
    memory.writes = 0
    expect(writeSetupData(memory, 0x100, [])).toBe(0)
    expect(memory.writes).toBe(0)
  })

  it('must lie in RAM', () => {
    const entries = [{ type: SETUP_RNG_SEED, data: pattern(32) }]
    writeSetupData(memory, 0x1000 - 48, entries)
    expectLoaderError('ERR_TABLE_DOES_NOT_FIT', () => writeSetupData(memory, 0x1000 - 40, entries))
  })
})
