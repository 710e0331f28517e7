/**
 * The memory map that a kernel gets: e820 entries, for the zero page and for PVH alike.
 *
 * Linux: Documentation/arch/x86/boot.rst; ACPI 6.5, table 15.4 (address range types).
 */

import { EBDA_START, HIMEM_START } from './boot-layout.ts'
import { type AddressRange, type GuestMemory, ramRanges } from './guest-memory.ts'
import { formatRange, LoaderError } from './loader-error.ts'

/** Usable RAM. */
export const E820_TYPE_RAM = 1
/** Not to be touched. */
export const E820_TYPE_RESERVED = 2
/** ACPI tables, reclaimable once read. */
export const E820_TYPE_ACPI = 3
/** ACPI non-volatile storage. */
export const E820_TYPE_NVS = 4
/** Defective RAM. */
export const E820_TYPE_UNUSABLE = 5
/** Persistent memory. */
export const E820_TYPE_PMEM = 7

/** Entries that the zero page holds. */
export const E820_MAX_ENTRIES_ZEROPAGE = 128

/** One range of the memory map. */
export interface E820Entry extends AddressRange {
  /** One of the `E820_TYPE_` numbers. */
  readonly type: number
}

/** A range that is not to be used as RAM. */
export interface ReservedRange extends AddressRange {
  /** One of the `E820_TYPE_` numbers; default {@link E820_TYPE_RESERVED}. */
  readonly type?: number
}

/**
 * The memory map of a PC: the regions of guest memory as RAM, less the legacy hole from the EBDA at 0x9fc00 to 1 MiB,
 * less `reserved`, which is listed with its own type whether RAM lies there or not (an MMIO window, ACPI tables).
 *
 * @returns entries in ascending order, apart from each other
 * @throws {LoaderError} `ERR_LAYOUT_OVERLAP` when reserved ranges overlap each other; `ERR_E820_TOO_MANY`
 */
export const buildE820 = (memory: GuestMemory, reserved: readonly ReservedRange[] = []): E820Entry[] => {
  const own: E820Entry[] = reserved
    .filter(({ size }) => size > 0)
    .map(({ start, size, type = E820_TYPE_RESERVED }) => ({ start, size, type }))
    .sort((a, b) => a.start - b.start)
  const holes = [...own, { start: EBDA_START, size: HIMEM_START - EBDA_START }].sort(
    (a, b) => a.start - b.start,
  )
  const ranges = ramRanges(memory)
  const entries = ranges.flatMap((region) =>
    subtract(region, holes).map((range) => ({ ...range, type: E820_TYPE_RAM })),
  )
  // The part of the legacy hole that guest memory covers is reserved, so that the kernel puts no device there.
  for (const region of ranges) {
    const start = Math.max(region.start, EBDA_START)
    const end = Math.min(region.start + region.size, HIMEM_START)
    if (start < end)
      entries.push(
        ...subtract({ start, size: end - start }, own).map((range) => ({
          ...range,
          type: E820_TYPE_RESERVED,
        })),
      )
  }
  return checkE820([...entries, ...own])
}

/**
 * Sorts a memory map and holds it against what the zero page can say.
 * @throws {LoaderError} `ERR_E820_TOO_MANY`, `ERR_LAYOUT_OVERLAP`
 */
export const checkE820 = (map: readonly E820Entry[]): E820Entry[] => {
  if (map.length > E820_MAX_ENTRIES_ZEROPAGE)
    throw new LoaderError(
      'ERR_E820_TOO_MANY',
      `the memory map has ${map.length} entries, but the zero page holds ${E820_MAX_ENTRIES_ZEROPAGE}`,
      { entries: map.length },
    )
  const entries = [...map].sort((a, b) => a.start - b.start)
  for (const [i, entry] of entries.entries()) {
    const next = entries[i + 1]
    if (next !== undefined && entry.start + entry.size > next.start)
      throw new LoaderError(
        'ERR_LAYOUT_OVERLAP',
        `the memory map's ranges at ${formatRange(entry.start, entry.size)} and ` +
          `${formatRange(next.start, next.size)} overlap`,
        { start: entry.start, nextStart: next.start },
      )
  }
  return entries
}

/** What is left of a range without `holes`, which are in ascending order. */
const subtract = (range: AddressRange, holes: readonly AddressRange[]): AddressRange[] => {
  const rest: AddressRange[] = []
  const end = range.start + range.size
  let start = range.start
  for (const hole of holes) {
    if (hole.start >= end) break
    if (hole.start > start) rest.push({ start, size: hole.start - start })
    start = Math.max(start, hole.start + hole.size)
  }
  if (start < end) rest.push({ start, size: end - start })
  return rest
}
