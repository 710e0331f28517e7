/**
 * Walks the regions under a range of guest addresses without allocating: for device code that moves data itself.
 */
import type { GuestRegion } from './region.ts'

/** What the cursor asks of a map: the region that holds an address. */
export interface RegionLookup {
  findRegion(address: number): GuestRegion | undefined
}

/**
 * A reusable walk over a range. Each {@link next} gives a region, with the part of it in `offset` and `length`; it
 * gives `undefined` at the end of the range, or at a hole, and then `remaining` is not 0 and `address` is where
 * the hole begins.
 *
 * @example
 * ```ts
 * const cursor = new RangeCursor() // once
 * cursor.reset(memory, address, length)
 * for (let region = cursor.next(); region !== undefined; region = cursor.next()) {
 *   hash.update(region.bytes.subarray(cursor.offset, cursor.offset + cursor.length))
 * }
 * if (cursor.remaining !== 0) return INVALID
 * ```
 */
export class RangeCursor {
  #memory: RegionLookup | undefined
  /** Where the part begins in its region, in bytes. */
  offset = 0
  /** Bytes in the part. */
  length = 0
  /** Guest address of what comes after the part. */
  address = 0
  /** Bytes that come after the part. */
  remaining = 0

  /** Puts the cursor before the first part. A length that is not above 0 makes an empty walk. */
  reset(memory: RegionLookup, address: number, length: number): this {
    this.#memory = memory
    this.address = address
    this.remaining = length
    this.offset = 0
    this.length = 0
    return this
  }

  /** The region of the next part, `undefined` at the end or at a hole. */
  next(): GuestRegion | undefined {
    if (!(this.remaining > 0)) return undefined
    const region = this.#memory?.findRegion(this.address)
    if (region === undefined) return undefined
    const offset = this.address - region.start
    const length = Math.min(this.remaining, region.size - offset)
    this.offset = offset
    this.length = length
    this.address += length
    this.remaining -= length
    return region
  }
}
