import { describe, expect, it } from 'vitest'
import { EBDA_START, HIMEM_START, MMIO_GAP_START, ramRegions } from '../src/boot-layout.ts'
import {
  buildE820,
  E820_MAX_ENTRIES_ZEROPAGE,
  E820_TYPE_ACPI,
  E820_TYPE_RAM,
  E820_TYPE_RESERVED,
} from '../src/e820.ts'
import type { AddressRange, GuestMemory } from '../src/guest-memory.ts'
import { expectLoaderError } from './expect-error.ts'

const GIB = 2 ** 30
const mapOf = (regions: readonly AddressRange[], reserved?: Parameters<typeof buildE820>[1]) =>
  buildE820({ regions } as GuestMemory, reserved).map(({ start, size, type }) => [start, start + size, type])

describe('buildE820', () => {
  it('lists RAM without the legacy hole', () => {
    expect(mapOf([{ start: 0, size: GIB / 2 }])).toEqual([
      [0, EBDA_START, E820_TYPE_RAM],
      [EBDA_START, HIMEM_START, E820_TYPE_RESERVED],
      [HIMEM_START, GIB / 2, E820_TYPE_RAM],
    ])
  })

  it('lists RAM above 4 GiB apart', () => {
    expect(mapOf(ramRegions(4 * GIB)).slice(2)).toEqual([
      [HIMEM_START, MMIO_GAP_START, E820_TYPE_RAM],
      [4 * GIB, 8 * GIB - MMIO_GAP_START, E820_TYPE_RAM],
    ])
  })

  it('takes reserved ranges out of RAM, and lists them where there is none', () => {
    const reserved = [
      { start: MMIO_GAP_START, size: 4096 },
      { start: 0x8000_0000, size: 0x1000, type: E820_TYPE_ACPI },
      { start: 0xe0000, size: 0x1000, type: E820_TYPE_ACPI },
      { start: 0x5000, size: 0 },
    ]
    expect(mapOf(ramRegions(3 * GIB), reserved)).toEqual([
      [0, EBDA_START, E820_TYPE_RAM],
      [EBDA_START, 0xe0000, E820_TYPE_RESERVED],
      [0xe0000, 0xe1000, E820_TYPE_ACPI],
      [0xe1000, HIMEM_START, E820_TYPE_RESERVED],
      [HIMEM_START, 0x8000_0000, E820_TYPE_RAM],
      [0x8000_0000, 0x8000_1000, E820_TYPE_ACPI],
      [0x8000_1000, 3 * GIB, E820_TYPE_RAM],
      [MMIO_GAP_START, MMIO_GAP_START + 4096, E820_TYPE_RESERVED],
    ])
  })

  it('lists regions that adjoin as one', () => {
    const regions = [
      { start: 0, size: 0x20000 },
      { start: 0x20000, size: GIB },
      { start: GIB + 0x20000, size: GIB },
    ]
    expect(mapOf(regions)).toEqual(mapOf([{ start: 0, size: 2 * GIB + 0x20000 }]))
  })

  it('lists memory without low RAM as it is', () => {
    expect(mapOf([{ start: GIB, size: GIB }])).toEqual([[GIB, 2 * GIB, E820_TYPE_RAM]])
    expect(mapOf([{ start: 0, size: 0x8000 }])).toEqual([[0, 0x8000, E820_TYPE_RAM]])
  })

  it('holds 128 entries', () => {
    const regions = (count: number) =>
      Array.from({ length: count }, (_, i) => ({ start: (i + 1) * GIB, size: 4096 }))
    expect(mapOf(regions(E820_MAX_ENTRIES_ZEROPAGE))).toHaveLength(128)
    expectLoaderError('ERR_E820_TOO_MANY', () => mapOf(regions(E820_MAX_ENTRIES_ZEROPAGE + 1)), /129 entries/)
  })

  it('refuses reserved ranges that overlap', () => {
    const reserved = [
      { start: 0x1000, size: 0x1001 },
      { start: 0x2000, size: 0x1000 },
    ]
    expectLoaderError('ERR_LAYOUT_OVERLAP', () => mapOf([], reserved), /0x1000-0x2000 and 0x2000-0x2fff/)
  })
})

describe('ramRegions', () => {
  it.each([
    [GIB / 2, [[0, GIB / 2]]],
    [MMIO_GAP_START, [[0, MMIO_GAP_START]]],
    [
      4 * GIB,
      [
        [0, MMIO_GAP_START],
        [4 * GIB, 4 * GIB - MMIO_GAP_START],
      ],
    ],
    [
      6 * GIB,
      [
        [0, MMIO_GAP_START],
        [4 * GIB, 6 * GIB - MMIO_GAP_START],
      ],
    ],
  ])('splits %d bytes at the MMIO gap', (size, expected) => {
    expect(ramRegions(size).map((region) => [region.start, region.size])).toEqual(expected)
  })

  it('refuses sizes and gaps that make no sense', () => {
    for (const size of [0, -4096, 4097, Number.NaN, 2 ** 60])
      expectLoaderError('ERR_LOADER_ARGUMENT', () => ramRegions(size))
    for (const gap of [0, HIMEM_START, 2 ** 32 + 1])
      expectLoaderError('ERR_LOADER_ARGUMENT', () => ramRegions(GIB, gap))
  })
})
