/**
 * One stretch of guest memory and the views of it that its users keep: plain buffers here, mappings in mmap.ts.
 */
import type { GuestAddress } from './address.ts'
import { guestAddress } from './address.ts'
import type { DirtyBitmap } from './dirty.ts'
import { hex, MemoryError } from './errors.ts'

/** Regions begin at multiples of this, so that no naturally aligned access up to 16 bytes lies in two of them. */
export const REGION_ALIGNMENT = 16

/** The largest region: what one ArrayBuffer view covers. More memory is several adjacent regions. */
export const REGION_SIZE_MAX: number = 2 ** 32

/** A part of a file behind a region. */
export interface FileRange {
  /** An open descriptor; who made the region says who closes it. */
  readonly fd: number
  /** Where the region begins in the file, in bytes. */
  readonly offset: number
}

/** Bytes that nobody has looked at yet: V8 counts a view of mapped memory as its own, and collects garbage for a large one. */
export interface LazyBytes {
  /** In bytes. */
  readonly size: number
  /** Called once at most; what it throws goes to whoever looks first. */
  open(): Uint8Array
}

/** What a region is made of. */
export interface GuestRegionOptions {
  /** Guest address of the first byte, a multiple of {@link REGION_ALIGNMENT}. */
  readonly start: number
  /** The memory, from 1 to 2^32 bytes, at a multiple of 8 in its buffer. May be shared with other threads. */
  readonly bytes: Uint8Array | LazyBytes
  /** Address of the first byte in this process; default unknown, as of any plain buffer. */
  readonly hostAddress?: bigint | undefined
  /** The file behind it; default none. */
  readonly file?: FileRange | undefined
  /** Where writes are noted; default nowhere. */
  readonly dirty?: DirtyBitmap | undefined
  /** Whether huge pages back it; default unknown. */
  readonly hugetlb?: boolean | undefined
  /** Whether pages that are not there yet come from elsewhere when they are touched, instead of being zeros; default false. */
  readonly onDemand?: boolean | undefined
  /** Says why what is read may not be what was there: pages that could not be had are zeros. Default they can always be had. */
  readonly failure?: (() => Error | undefined) | undefined
}

/**
 * A region of guest memory. Immutable but for the bytes themselves, which guest and host write at any time.
 *
 * `view` and `bytes` are for device code on hot paths: find the region with `GuestMemory.regionOf`, then access at
 * `address - region.start`. Whoever writes through them notes it: `region.dirty?.mark(offset, length)`. An access
 * may be torn against a concurrent one (until V8 has compiled it, a DataView goes byte by byte); where that matters,
 * and for the order of accesses, use `Atomics` on `u16`, `u32` or `u64`.
 */
export class GuestRegion {
  /** Guest address of the first byte. */
  readonly start: GuestAddress
  /** Bytes, from 1 to {@link REGION_SIZE_MAX}. */
  readonly size: number
  /** Guest address of the last byte. */
  readonly last: GuestAddress
  /** Address of the first byte in this process; undefined for a plain buffer. */
  readonly hostAddress: bigint | undefined
  /** The file behind it, if any. */
  readonly file: FileRange | undefined
  /** Where writes are noted; undefined when they are not. */
  readonly dirty: DirtyBitmap | undefined
  /** Whether huge pages back it; undefined when nobody knows. */
  readonly hugetlb: boolean | undefined
  readonly #options: GuestRegionOptions
  // Each by itself: one object for all of them is 0.2 ns more for each access.
  #view: DataView | undefined
  #bytes: Uint8Array | undefined
  #u16: Uint16Array | undefined
  #u32: Uint32Array | undefined
  #u64: BigUint64Array | undefined

  /**
   * @throws MemoryError ERR_MEMORY_MISALIGNED for the start or the bytes, ERR_MEMORY_INVALID_ADDRESS for a region
   * that leaves the address space, ERR_MEMORY_INVALID_ARGUMENT for no bytes, too many, or a bitmap of another size
   */
  constructor(options: GuestRegionOptions) {
    const { start, bytes, dirty } = options
    const isLazy = 'size' in bytes
    const size = isLazy ? bytes.size : bytes.length
    if (!(size > 0 && size <= REGION_SIZE_MAX)) {
      throw new MemoryError('ERR_MEMORY_INVALID_ARGUMENT', `a region of ${size} bytes at ${hex(start)}`)
    }
    if (dirty !== undefined && dirty.size !== size) {
      const message = `a dirty bitmap for ${dirty.size} bytes on a region of ${size} bytes at ${hex(start)}`
      throw new MemoryError('ERR_MEMORY_INVALID_ARGUMENT', message)
    }
    this.start = guestAddress(start)
    this.size = size
    this.last = guestAddress(start + (size - 1))
    if (start % REGION_ALIGNMENT !== 0) {
      const message = `a region at ${hex(start)}, a multiple of ${REGION_ALIGNMENT} is needed`
      throw new MemoryError('ERR_MEMORY_MISALIGNED', message, { address: start })
    }
    this.hostAddress = options.hostAddress
    this.file = options.file
    this.dirty = dirty
    this.hugetlb = options.hugetlb
    this.#options = options
    if (!isLazy) this.#look(bytes)
  }

  /** Whether pages that are not there yet are anything but zeros: whoever counts pages or saves them has to touch them. */
  get onDemand(): boolean {
    return this.#options.onDemand ?? false
  }

  /**
   * Says why what was read may not be what was there; undefined where that never happens. Whoever has read pages to keep them asks
   * then, in a later turn.
   */
  get failure(): (() => Error | undefined) | undefined {
    return this.#options.failure
  }

  /** The region's memory, for numbers. */
  get view(): DataView {
    if (this.#view === undefined) this.#open()
    return this.#view as DataView
  }

  /** The same memory, for copies. */
  get bytes(): Uint8Array {
    if (this.#bytes === undefined) this.#open()
    return this.#bytes as Uint8Array
  }

  /** The same bytes for 16-bit atomics, indexed by `offset >>> 1`. */
  get u16(): Uint16Array {
    if (this.#u16 === undefined) this.#open()
    return this.#u16 as Uint16Array
  }

  /** The same bytes for 32-bit atomics, indexed by `offset >>> 2`. */
  get u32(): Uint32Array {
    if (this.#u32 === undefined) this.#open()
    return this.#u32 as Uint32Array
  }

  /** The same bytes for 64-bit atomics, indexed by `offset >>> 3`. */
  get u64(): BigUint64Array {
    if (this.#u64 === undefined) this.#open()
    return this.#u64 as BigUint64Array
  }

  /**
   * A region of the same bytes that differs in what is given: `region.with({ start })` moves it.
   * @throws what the constructor throws
   */
  with(changes: Partial<GuestRegionOptions>): GuestRegion {
    const bytes = this.#bytes ?? this.#options.bytes
    return new GuestRegion({ ...this.#options, bytes, ...changes })
  }

  /** The rest were looked at when they came. */
  #open(): void {
    this.#look((this.#options.bytes as LazyBytes).open())
  }

  #look(bytes: Uint8Array): void {
    const { buffer, byteOffset, length: size } = bytes
    if (byteOffset % 8 !== 0) {
      const message = `the region at ${hex(this.start)} begins at ${byteOffset} of its buffer, a multiple of 8 is needed`
      throw new MemoryError('ERR_MEMORY_MISALIGNED', message, { address: this.start })
    }
    this.#view = new DataView(buffer, byteOffset, size)
    this.#bytes = bytes
    this.#u16 = new Uint16Array(buffer, byteOffset, Math.floor(size / 2))
    this.#u32 = new Uint32Array(buffer, byteOffset, Math.floor(size / 4))
    this.#u64 = new BigUint64Array(buffer, byteOffset, Math.floor(size / 8))
  }
}
