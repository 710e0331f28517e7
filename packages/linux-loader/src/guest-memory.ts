/**
 * What this package asks of guest memory, and the range arithmetic over it. `GuestMemory` of @vmm/vm-memory satisfies
 * it; so does anything else with these four members.
 */

import { formatRange, formatSize, LoaderError, type LoaderErrorCode } from './loader-error.ts'

/** A range of guest-physical addresses, `[start, start + size)`. */
export interface AddressRange {
  /** First guest-physical address. */
  readonly start: number
  /** Length in bytes. */
  readonly size: number
}

/** Guest-physical memory, addressed by plain numbers below 2^53. */
export interface GuestMemory {
  /** The RAM, in ascending order; regions may adjoin. */
  readonly regions: readonly AddressRange[]
  /** Whether every byte of `[address, address + length)` is RAM. */
  checkRange(address: number, length: number): boolean
  /** Copies all of `bytes` to `address`, or throws. */
  writeSlice(address: number, bytes: Uint8Array): void
  /** Sets `length` bytes from `address` to `byte`, or throws. */
  fill(address: number, length: number, byte: number): void
}

/** The RAM in ascending order, regions that adjoin put together. */
export const ramRanges = (memory: GuestMemory): AddressRange[] => {
  const ranges: AddressRange[] = []
  for (const { start, size } of memory.regions) {
    const last = ranges.at(-1)
    if (last !== undefined && last.start + last.size === start)
      ranges[ranges.length - 1] = { start: last.start, size: last.size + size }
    else ranges.push({ start, size })
  }
  return ranges
}

/** All RAM in bytes, holes left out. */
export const totalRam = (memory: GuestMemory): number =>
  memory.regions.reduce((sum, region) => sum + region.size, 0)

/** Whether two ranges share a byte. */
export const overlaps = (a: AddressRange, b: AddressRange): boolean =>
  a.size > 0 && b.size > 0 && a.start < b.start + b.size && b.start < a.start + a.size

/** Whether `[address, address + length)` is RAM, whatever the numbers. */
export const isRam = (memory: GuestMemory, address: number, length: number): boolean =>
  Number.isSafeInteger(address) &&
  address >= 0 &&
  Number.isSafeInteger(address + length) &&
  memory.checkRange(address, length)

/** Throws `code` with a sentence that names `what` unless the range is RAM. */
export const requireRam = (
  memory: GuestMemory,
  what: string,
  address: number,
  length: number,
  code: LoaderErrorCode,
): void => {
  if (isRam(memory, address, length)) return
  const ram = ramRanges(memory)
    .map(({ start, size }) => formatRange(start, size))
    .join(', ')
  throw new LoaderError(
    code,
    `${what} needs ${formatSize(length)} of guest memory at ${formatRange(address, length)}, ` +
      `but the guest has ${formatSize(totalRam(memory))} (${ram || 'none'})`,
    { address, length, ram: totalRam(memory) },
  )
}
