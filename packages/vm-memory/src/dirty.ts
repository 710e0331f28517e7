/**
 * Which pages of a region have been written. Bits are laid out as KVM_GET_DIRTY_LOG lays them out (bit n of the
 * little-endian bitmap is page n), so that the two merge.
 *
 * A bitmap belongs to one thread: another thread that writes guest memory keeps a bitmap of its own, and what
 * {@link DirtyBitmap.take} gives there is merged here, as KVM's own log is.
 */
import { exactLog2 } from './address.ts'
import { MemoryError } from './errors.ts'

const SIZE_MAX = 2 ** 32

/** A stretch of dirty bytes, whole pages but for the last page of a region. */
export interface DirtyRange {
  /** In bytes from the start of the region. */
  readonly offset: number
  /** In bytes. */
  readonly length: number
}

/** One bit for every page of a region. Offsets are in bytes from the start of the region. */
export class DirtyBitmap {
  /** Bytes that the bitmap covers. */
  readonly size: number
  /** Bytes to a page. */
  readonly pageSize: number
  /** Number of pages: `size / pageSize`, rounded up. */
  readonly pageCount: number
  readonly #shift: number
  #words: Uint32Array

  /**
   * @param size bytes to cover, from 1 to 2^32
   * @param pageSize bytes to a page, a power of two up to 2^31; default 4096
   * @throws MemoryError ERR_MEMORY_INVALID_ARGUMENT
   */
  constructor(size: number, pageSize = 4096) {
    if (!(Number.isInteger(size) && size > 0 && size <= SIZE_MAX)) {
      throw new MemoryError('ERR_MEMORY_INVALID_ARGUMENT', `a dirty bitmap of ${size} bytes`)
    }
    const shift = exactLog2(pageSize)
    if (shift === undefined || shift > 31) {
      throw new MemoryError('ERR_MEMORY_INVALID_ARGUMENT', `a page size of ${pageSize} bytes`)
    }
    this.size = size
    this.pageSize = pageSize
    this.pageCount = Math.ceil(size / pageSize)
    this.#shift = shift
    this.#words = new Uint32Array(2 * Math.ceil(this.pageCount / 64))
  }

  /** Marks every page that the range touches. What lies outside the region is ignored. */
  mark(offset: number, length: number): void {
    const first = offset >>> this.#shift
    // The common case: a scalar inside one page.
    if (offset >= 0 && length > 0 && offset + length <= this.size) {
      const last = (offset + length - 1) >>> this.#shift
      const words = this.#words
      words[first >>> 5] = (words[first >>> 5] as number) | (1 << (first & 31))
      if (last !== first) this.#setPages(first + 1, last, true)
      return
    }
    this.#clipped(offset, length, true)
  }

  /** Whether the page that holds `offset` has been written; false outside the region. */
  isDirty(offset: number): boolean {
    if (!(offset >= 0 && offset < this.size)) return false
    const page = offset >>> this.#shift
    return ((this.#words[page >>> 5] as number) & (1 << (page & 31))) !== 0
  }

  /** Forgets the writes to every page that the range touches; without arguments to all of them. */
  clear(offset = 0, length: number = this.size): void {
    this.#clipped(offset, length, false)
  }

  /** Takes the bitmap and clears it: bit n of the result is page n, in whole 64-bit words. */
  take(): Uint8Array {
    const taken = this.#words
    this.#words = new Uint32Array(taken.length)
    return new Uint8Array(taken.buffer)
  }

  /**
   * Adds the pages of another bitmap with the same page size: KVM's dirty log, or what {@link take} gave.
   * Bits past the last page are ignored, and so is what a shorter bitmap does not have.
   */
  merge(bitmap: Uint8Array): void {
    const bytes = new Uint8Array(this.#words.buffer)
    const whole = Math.min(bitmap.length, this.pageCount >>> 3)
    for (let i = 0; i < whole; i += 1) bytes[i] = (bytes[i] as number) | (bitmap[i] as number)
    const rest = this.pageCount & 7
    if (rest === 0 || bitmap.length <= whole) return
    bytes[whole] = (bytes[whole] as number) | ((bitmap[whole] as number) & ((1 << rest) - 1))
  }

  /** How many pages are dirty. */
  get dirtyPages(): number {
    let count = 0
    for (let word of this.#words) for (; word !== 0; word &= word - 1) count += 1
    return count
  }

  /** The dirty stretches in ascending order, neighbours joined. */
  *ranges(): Generator<DirtyRange, void, undefined> {
    let start = -1
    for (let page = 0; page < this.pageCount; page += 1) {
      const word = this.#words[page >>> 5] as number
      if (start < 0 && word === 0) {
        page |= 31
      } else if ((word & (1 << (page & 31))) !== 0) {
        if (start < 0) start = page * this.pageSize
      } else if (start >= 0) {
        yield { offset: start, length: page * this.pageSize - start }
        start = -1
      }
    }
    if (start >= 0) yield { offset: start, length: this.size - start }
  }

  #setPages(first: number, last: number, dirty: boolean): void {
    const words = this.#words
    for (let page = first; page <= last; ) {
      const count = Math.min(last + 1 - page, 32 - (page & 31))
      const mask = count === 32 ? 0xffff_ffff : ((1 << count) - 1) << (page & 31)
      const word = words[page >>> 5] as number
      words[page >>> 5] = dirty ? word | mask : word & ~mask
      page += count
    }
  }

  #clipped(offset: number, length: number, dirty: boolean): void {
    const start = Math.max(offset, 0)
    const end = Math.min(offset + length, this.size)
    if (!(start < end)) return
    this.#setPages(start >>> this.#shift, (end - 1) >>> this.#shift, dirty)
  }
}
