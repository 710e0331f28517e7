/** Frames that wait, in order, in memory of a fixed size: copies, header and all. */
import type { NetFrame } from './frame.ts'
import { FRAME_BYTES_MAX, VIRTIO_NET_HDR_SIZE } from './spec.ts'

/** The least that a queue can have: it takes any frame when it is empty. */
export const FRAME_QUEUE_BYTES_MIN: number = FRAME_BYTES_MAX + VIRTIO_NET_HDR_SIZE
/** Each frame takes as much besides: tiny ones must not take more memory than they seem to. */
const BYTES_PER_PLACE = 64

/**
 * A bounded queue. Frames lie one after another in a ring of bytes, none across its end. The memory is taken when the
 * first frame comes, and nothing is allocated after that.
 */
export class FrameQueue {
  readonly #size: number
  readonly #places: number
  #bytes: Uint8Array = new Uint8Array(0)
  #starts: Uint32Array = new Uint32Array(0)
  #lengths: Uint32Array = new Uint32Array(0)
  #first = 0
  #count = 0
  /** Where the oldest frame begins, and where the next one goes, if it fits. */
  #head = 0
  #tail = 0

  /** @param size in bytes, at least {@link FRAME_QUEUE_BYTES_MIN} */
  constructor(size: number) {
    this.#size = size
    this.#places = Math.floor(size / BYTES_PER_PLACE)
  }

  /** Frames that wait. */
  get count(): number {
    return this.#count
  }

  /**
   * Adds a copy of a frame, from its first byte on.
   * @returns false where there is no room
   */
  push(frame: NetFrame): boolean {
    const length = VIRTIO_NET_HDR_SIZE + frame.length
    const start = this.#place(length)
    if (start < 0 || this.#count === this.#places) return false
    if (this.#bytes.length === 0) {
      this.#bytes = new Uint8Array(this.#size)
      this.#starts = new Uint32Array(this.#places)
      this.#lengths = new Uint32Array(this.#places)
    }
    this.#bytes.set(frame.header, start)
    const copied = frame.copyTo(this.#bytes, start + VIRTIO_NET_HDR_SIZE)
    const place = (this.#first + this.#count) % this.#places
    this.#starts[place] = start
    this.#lengths[place] = VIRTIO_NET_HDR_SIZE + copied
    this.#count += 1
    this.#tail = start + length
    return true
  }

  /**
   * Shows the oldest frame, which stays.
   * @param frame becomes it, until the queue is changed
   * @returns false where there is none
   */
  peek(frame: NetFrame): boolean {
    if (this.#count === 0) return false
    const start = this.#head
    const length = this.#lengths[this.#first] as number
    frame.setBytes(this.#bytes, start + VIRTIO_NET_HDR_SIZE, length - VIRTIO_NET_HDR_SIZE)
    for (let i = 0; i < VIRTIO_NET_HDR_SIZE; i += 1) frame.header[i] = this.#bytes[start + i] as number
    return true
  }

  /** Drops the oldest frame. Nothing happens where there is none. */
  shift(): void {
    if (this.#count === 0) return
    this.#first = (this.#first + 1) % this.#places
    this.#count -= 1
    this.#head = this.#count === 0 ? 0 : (this.#starts[this.#first] as number)
    if (this.#count === 0) this.#tail = 0
  }

  /** Drops all. @returns how many there were */
  clear(): number {
    const count = this.#count
    this.#count = 0
    this.#head = 0
    this.#tail = 0
    return count
  }

  /** Where so many bytes fit; -1 where they do not. */
  #place(length: number): number {
    if (this.#count === 0) return length <= this.#size ? 0 : -1
    // Used bytes run from head to tail, or, round the end, from head on and up to tail.
    if (this.#tail > this.#head) {
      if (this.#tail + length <= this.#size) return this.#tail
      return length <= this.#head ? 0 : -1
    }
    return this.#tail + length <= this.#head ? this.#tail : -1
  }
}
