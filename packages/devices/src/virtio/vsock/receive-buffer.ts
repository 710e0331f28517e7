/**
 * What the guest has sent on one connection and nobody has read yet. Small packets are put together, so that a guest
 * that sends single bytes fills memory with bytes, not with objects.
 */
import { Buffer } from 'node:buffer'
import type { Reader } from '@vmm/virtio-queue'

/** Packets below this are gathered, in pieces of this size. A packet at a time, with a reader that keeps up, is not. */
const GATHER_BYTES = 4096

/** Bytes, first in first out. Takes at most one piece more memory than it has bytes. */
export class ReceiveBuffer {
  #chunks: Buffer[] = []
  /** Bytes in the last chunk: all others are full. */
  #used = 0

  get isEmpty(): boolean {
    return this.#chunks.length === 0
  }

  /**
   * Copies a payload out of guest memory.
   * @param length available in the reader
   * @returns false where not all of it was in memory
   */
  add(reader: Reader, length: number): boolean {
    let left = length
    const last = this.#chunks.at(-1)
    if (last !== undefined && this.#used < last.length) {
      const piece = Math.min(left, last.length - this.#used)
      if (reader.read(last, this.#used, piece) !== piece) return false
      this.#used += piece
      left -= piece
    }
    if (left === 0) return true
    const size = last === undefined ? left : Math.max(left, GATHER_BYTES)
    const chunk = Buffer.allocUnsafe(size)
    this.#chunks.push(chunk)
    this.#used = left
    return reader.read(chunk, 0, left) === left
  }

  /** The oldest bytes, as they come, which are the caller's from now on; undefined where there are none. */
  take(): Buffer | undefined {
    const chunk = this.#chunks.shift()
    if (chunk === undefined || this.#chunks.length > 0 || this.#used === chunk.length) return chunk
    return chunk.subarray(0, this.#used)
  }

  clear(): void {
    this.#chunks = []
    this.#used = 0
  }
}
