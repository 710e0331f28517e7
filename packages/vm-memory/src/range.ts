/**
 * Ranges of guest addresses as a VMM writes them down, and their division into regions.
 */
import { guestAddress } from './address.ts'
import { hex, MemoryError } from './errors.ts'
import { REGION_SIZE_MAX } from './region.ts'

/** A range of guest addresses. */
export interface MemoryRange {
  /** Guest address of the first byte. */
  readonly start: number
  /** In bytes, above 0. */
  readonly size: number
}

/**
 * Cuts a range into pieces of at most {@link REGION_SIZE_MAX} bytes.
 * @throws MemoryError ERR_MEMORY_INVALID_ADDRESS, ERR_MEMORY_INVALID_ARGUMENT
 */
export function splitRange(range: MemoryRange): MemoryRange[] {
  const { start, size } = range
  if (!(Number.isSafeInteger(size) && size > 0)) {
    throw new MemoryError('ERR_MEMORY_INVALID_ARGUMENT', `a memory range of ${size} bytes at ${hex(start)}`)
  }
  guestAddress(start)
  guestAddress(start + (size - 1))
  const pieces: MemoryRange[] = []
  for (let done = 0; done < size; done += REGION_SIZE_MAX) {
    pieces.push({ start: start + done, size: Math.min(size - done, REGION_SIZE_MAX) })
  }
  return pieces
}
