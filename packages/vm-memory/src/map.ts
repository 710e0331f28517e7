/**
 * Where guest memory is: disjoint regions in ascending order, found by address. What is in them is memory.ts.
 */
import type { GuestAddress } from './address.ts'
import { RangeCursor } from './cursor.ts'
import { hex, MemoryError, partialError } from './errors.ts'
import type { MemoryRange } from './range.ts'
import type { GuestRegion } from './region.ts'

/** Where an address lies: see {@link RegionMap.toRegionAddress}. */
export interface RegionAddress {
  readonly region: GuestRegion
  /** In bytes from the start of the region. */
  readonly offset: number
}

/** An immutable map of regions. Remembers the last one found: accesses in a row are mostly to one region. */
export class RegionMap {
  /** The regions, in ascending order. */
  readonly regions: readonly GuestRegion[]
  /** Guest address of the last byte of the last region. */
  readonly lastAddress: GuestAddress
  // What a search reads: a typed array is twice as fast as the regions themselves, and an array that is not frozen
  // is faster too (bench/vm-memory.mjs).
  readonly #starts: Float64Array
  readonly #sorted: readonly GuestRegion[]
  #hit: GuestRegion
  // Start and size of `#hit`: as fields of an object they may be boxed, and cost 2 ns more.
  readonly #bounds: Float64Array

  /**
   * @param regions in any order
   * @throws MemoryError ERR_MEMORY_NO_REGION for none, ERR_MEMORY_OVERLAP
   */
  protected constructor(regions: readonly GuestRegion[]) {
    const sorted = [...regions].sort((a, b) => a.start - b.start)
    let previous: GuestRegion | undefined
    for (const region of sorted) {
      if (previous !== undefined && region.start <= previous.last) {
        const [a, b] = [previous, region].map((r) => `${hex(r.start)}-${hex(r.last)}`)
        throw new MemoryError('ERR_MEMORY_OVERLAP', `regions ${a} and ${b} overlap`, {
          address: region.start,
        })
      }
      previous = region
    }
    const [first] = sorted
    if (previous === undefined || first === undefined) {
      throw new MemoryError('ERR_MEMORY_NO_REGION', 'guest memory needs a region')
    }
    this.regions = Object.freeze([...sorted])
    this.#sorted = sorted
    this.lastAddress = previous.last
    this.#starts = Float64Array.from(sorted, (region) => region.start)
    this.#hit = first
    this.#bounds = Float64Array.of(first.start, first.size)
  }

  /** The region that holds the address. */
  findRegion(address: number): GuestRegion | undefined {
    return this.regionOf(address, 1)
  }

  /**
   * The region that holds all of the range: the way in for hot code, which goes on with `region.view` at
   * `address - region.start`. A naturally aligned range of up to 16 bytes lies in one region or in none.
   * A length of 0 is in the region that holds the address.
   */
  regionOf(address: number, length: number): GuestRegion | undefined {
    const offset = address - (this.#bounds[0] as number)
    if (length > 0 && offset >= 0 && offset <= (this.#bounds[1] as number) - length) return this.#hit
    return this.#search(address, length)
  }

  #search(address: number, length: number): GuestRegion | undefined {
    const starts = this.#starts
    let low = 0
    for (let count = starts.length; count > 1; ) {
      const half = count >>> 1
      if ((starts[low + half] as number) <= address) low += half
      count -= half
    }
    const region = this.#sorted[low] as GuestRegion
    // Said so that NaN is in no region.
    if (!(address >= region.start && address <= region.last)) return undefined
    this.#hit = region
    this.#bounds[0] = region.start
    this.#bounds[1] = region.size
    return length >= 0 && address - region.start <= region.size - length ? region : undefined
  }

  /** Whether the regions are exactly these ranges, in ascending order. */
  isMadeOf(ranges: readonly MemoryRange[]): boolean {
    const regions = this.#sorted
    if (ranges.length !== regions.length) return false
    return ranges.every(({ start, size }, i) => regions[i]?.start === start && regions[i]?.size === size)
  }

  /** Whether a region holds the address. */
  checkAddress(address: number): boolean {
    return this.findRegion(address) !== undefined
  }

  /**
   * Whether regions without a hole between them hold the whole range. A length of 0 is held anywhere; one that is
   * negative or no number, nowhere.
   */
  checkRange(address: number, length: number): boolean {
    if (this.regionOf(address, length) !== undefined) return true
    const cursor = new RangeCursor().reset(this, address, length)
    while (cursor.next() !== undefined);
    return cursor.remaining === 0
  }

  /** `base + offset` where a region holds that address; what lies between the two does not matter. */
  checkedOffset(base: number, offset: number): GuestAddress | undefined {
    const address = base + offset
    return this.checkAddress(address) ? (address as GuestAddress) : undefined
  }

  /** The region that holds the address, and where in it. */
  toRegionAddress(address: number): RegionAddress | undefined {
    const region = this.findRegion(address)
    return region === undefined ? undefined : { region, offset: address - region.start }
  }

  /**
   * The address in this process of a range that is contiguous there: for system calls and KVM.
   * @param length in bytes, from 1; default 1
   * @throws MemoryError ERR_MEMORY_INVALID_ARGUMENT, ERR_MEMORY_INVALID_ADDRESS, ERR_MEMORY_PARTIAL,
   * ERR_MEMORY_NO_HOST_ADDRESS for plain memory and for regions that lie apart in this process
   */
  hostAddress(address: number, length = 1): bigint {
    if (!(Number.isSafeInteger(length) && length > 0 && Number.isSafeInteger(address))) {
      throw new MemoryError('ERR_MEMORY_INVALID_ARGUMENT', `${length} bytes at ${hex(address)}`, { address })
    }
    const cursor = new RangeCursor().reset(this, address, length)
    let start: bigint | undefined
    let end: bigint | undefined
    for (let region = cursor.next(); region !== undefined; region = cursor.next()) {
      const { hostAddress } = region
      if (hostAddress === undefined || (end !== undefined && hostAddress !== end)) {
        const message = `${length} bytes at ${hex(address)} have no one address in this process`
        throw new MemoryError('ERR_MEMORY_NO_HOST_ADDRESS', message, { address, expected: length })
      }
      start ??= hostAddress + BigInt(cursor.offset)
      end = hostAddress + BigInt(region.size)
    }
    if (start === undefined || cursor.remaining !== 0) {
      throw partialError(address, length, length - cursor.remaining)
    }
    return start
  }

  /**
   * Does nothing for a range that {@link checkRange} accepts.
   * @throws MemoryError ERR_MEMORY_INVALID_ADDRESS or ERR_MEMORY_PARTIAL for another, which say where memory ends;
   * ERR_MEMORY_INVALID_ARGUMENT for a length that is negative or no number
   */
  requireRange(address: number, length: number): void {
    if (!(length >= 0)) {
      throw new MemoryError('ERR_MEMORY_INVALID_ARGUMENT', `${length} bytes at ${hex(address)}`, { address })
    }
    if (this.regionOf(address, length) !== undefined) return
    const cursor = new RangeCursor().reset(this, address, length)
    while (cursor.next() !== undefined);
    if (cursor.remaining !== 0) throw partialError(address, length, length - cursor.remaining)
  }
}
