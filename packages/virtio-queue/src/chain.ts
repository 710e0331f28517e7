/**
 * A descriptor chain as a device sees it: its buffers as pieces of guest memory, looked up and checked once.
 * A chain is a reusable container. It does not follow the guest: a descriptor that changes after the pop changes
 * nothing here.
 */
import type { GuestMemory, GuestRegion } from './guest-memory.ts'
import { UNMAPPED } from './guest-memory.ts'
import { Reader } from './reader.ts'
import { Writer } from './writer.ts'

/** Enough for the requests of usual drivers; more makes the arrays grow, once. */
const INITIAL_CAPACITY = 8

/**
 * Holds one popped request, from `Virtqueue.pop` to `Virtqueue.addUsed`. Make as many as requests shall be in flight,
 * and use them again and again: after the first long chain nothing is allocated.
 *
 * The buffers are segments, numbered in the driver's order: first `readableCount` that the device reads, then those
 * that it writes. Segment `i` is `lengths[i]` bytes at `offsets[i]` in `regions[i]`. A buffer that runs on from one
 * region into the next is two segments; an empty one is none. Where a buffer is not in guest memory (the pop said
 * `POP_BUFFER_ADDRESS`) the region is {@link UNMAPPED}.
 *
 * What is read-only here is set by the queue. Elements at `segmentCount` and above are left-overs.
 */
export class DescriptorChain {
  /** Split: index of the first descriptor. Packed: the buffer ID. */
  readonly head: number = 0
  /** Segments that the device reads: 0 to `readableCount - 1`. */
  readonly readableCount: number = 0
  /** All segments: those that the device writes are `readableCount` to `segmentCount - 1`. */
  readonly segmentCount: number = 0
  /** Bytes that the device may read, up to 2^32. */
  readonly readableBytes: number = 0
  /** Bytes that the device may write, up to 2^32. */
  readonly writableBytes: number = 0
  /** Where each segment lies. */
  readonly regions: GuestRegion[] = Array.from({ length: INITIAL_CAPACITY }, () => UNMAPPED)
  /** Offset of each segment in its region, in bytes. */
  readonly offsets: Float64Array = new Float64Array(INITIAL_CAPACITY)
  /** Length of each segment, in bytes; never 0. */
  readonly lengths: Uint32Array = new Uint32Array(INITIAL_CAPACITY)

  /** @internal Descriptors taken from the ring: packed rings skip as many. */
  slots = 0
  /** @internal The activation of the queue that this chain is to be returned to; 0 for none. */
  ticket = 0
  /** @internal Where the queue stood after this pop. */
  position = 0
  /** @internal Whether any segment ever lay in memory that tracks writes: saves looking in all others. */
  tracked = false

  readonly #reader = new Reader()
  readonly #writer = new Writer()

  /** Whether the chain holds a request that has not been returned. A reset of the queue goes unnoticed. */
  get inFlight(): boolean {
    return this.ticket !== 0
  }

  /** The chain's own reader, put at the first readable byte. Each call rewinds the same one. */
  reader(): Reader {
    return this.#reader.attach(this)
  }

  /** The chain's own writer, put at the first writable byte. Each call rewinds the same one. */
  writer(): Writer {
    return this.#writer.attach(this)
  }

  /**
   * Notes bytes as written, where the memory tracks that: for data that came by a system call, once it is there.
   * `Writer` notes what it writes itself, and `addUsed` the bytes it reports.
   * @param start offset from the first writable byte
   * @param length in bytes; what is past the last writable byte is ignored
   */
  markWritten(start: number, length: number): void {
    let from = start
    let left = length
    for (let i = this.readableCount; i < this.segmentCount && left > 0; i += 1) {
      const size = this.lengths[i] as number
      if (from >= size) {
        from -= size
        continue
      }
      const piece = Math.min(size - from, left)
      const { dirty } = this.regions[i] as GuestRegion
      if (dirty !== undefined) dirty.mark((this.offsets[i] as number) + from, piece)
      left -= piece
      from = 0
    }
  }

  /** @internal Makes room for twice the segments. */
  grow(): void {
    const chain = this as Mutable<DescriptorChain>
    const capacity = 2 * this.lengths.length
    const offsets = new Float64Array(capacity)
    const lengths = new Uint32Array(capacity)
    offsets.set(this.offsets)
    lengths.set(this.lengths)
    chain.offsets = offsets
    chain.lengths = lengths
    while (chain.regions.length < capacity) chain.regions.push(UNMAPPED)
  }

  /**
   * @internal Adds a buffer that the caller's own region does not hold: in another one, in several, or in none.
   * @param count segments so far
   * @returns segments now, or the one's complement of that where a part is not in memory
   */
  addBuffer(memory: GuestMemory, count: number, address: number, length: number): number {
    let n = count
    let at = address
    let left = length
    let mapped = true
    while (left > 0) {
      if (n === this.lengths.length) this.grow()
      const region = memory.findRegion(at)
      const offset = region === undefined ? 0 : at - region.start
      const piece = region === undefined ? left : Math.min(left, region.size - offset)
      this.regions[n] = region ?? UNMAPPED
      if (region?.dirty !== undefined) this.tracked = true
      this.offsets[n] = offset
      this.lengths[n] = piece
      n += 1
      if (region === undefined) mapped = false
      at += piece
      left -= piece
    }
    return mapped ? n : ~n
  }
}

/** @internal The queue's side of what devices only read. */
export type Mutable<T> = { -readonly [K in keyof T]: T[K] }

/** @internal Empties a chain whose descriptors make no request. It keeps its head: that goes back to the driver. */
export function clearSegments(chain: Mutable<DescriptorChain>): void {
  chain.readableCount = 0
  chain.segmentCount = 0
  chain.readableBytes = 0
  chain.writableBytes = 0
}
