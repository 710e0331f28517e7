/** What the host sends on one connection: the one write that is under way, and the end. Nothing is copied. */
import type { Writer } from '@vmm/virtio-queue'
import type { StreamCallback } from './connection-host.ts'
import { SendBuffer, type WriteChunk } from './send-buffer.ts'

export class Outgoing {
  readonly #buffer = new SendBuffer()
  #written: StreamCallback | undefined
  #finished: StreamCallback | undefined
  /** The write under way did not reach the guest as a whole. */
  #isLost = false

  /** Bytes to be sent. */
  get left(): number {
    return this.#buffer.left
  }

  /** Begins a write; none is under way. */
  write(chunk: Uint8Array | readonly WriteChunk[], callback: StreamCallback): void {
    if (chunk instanceof Uint8Array) this.#buffer.set(chunk)
    else this.#buffer.setAll(chunk)
    this.#written = callback
  }

  /** As `SendBuffer.fill`. */
  fill(writer: Writer, length: number): void {
    this.#buffer.fill(writer, length)
  }

  /** No more will be written. */
  finish(callback: StreamCallback): void {
    this.#finished = callback
  }

  /** What is not sent never is. */
  drop(): void {
    if (this.#buffer.left > 0) this.#isLost = true
    this.#buffer.clear()
  }

  /** Nobody asks any more. */
  forget(): void {
    this.#buffer.clear()
    this.#written = undefined
    this.#finished = undefined
  }

  /**
   * Tells the stream what has been done.
   * @param isEndSent whether the guest has been told of the end
   * @param why what to say where bytes were lost
   */
  settle(isEndSent: boolean, why: () => Error): void {
    const written = this.#written
    if (written !== undefined && this.#buffer.left === 0) {
      this.#written = undefined
      written(this.#isLost ? why() : null)
    }
    const finished = this.#finished
    if (finished !== undefined && isEndSent) {
      this.#finished = undefined
      finished()
    }
  }
}
