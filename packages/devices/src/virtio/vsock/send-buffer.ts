/** The one write of a connection that is under way: what a stream was given, until the guest has it. Nothing is copied. */
import type { Writer } from '@vmm/virtio-queue'

/** As Node's `_writev` has them. */
export interface WriteChunk {
  readonly chunk: Uint8Array
}

/** Where the bytes of a write stand. */
export class SendBuffer {
  #chunk: Uint8Array | undefined
  #offset = 0
  #more: readonly WriteChunk[] = []
  #next = 0
  #left = 0

  /** Bytes to be sent. */
  get left(): number {
    return this.#left
  }

  /** Begins a write of one chunk. The one before has ended. */
  set(chunk: Uint8Array): void {
    this.#chunk = chunk
    this.#offset = 0
    this.#left = chunk.length
  }

  /** Begins a write of several, that may share packets. */
  setAll(chunks: readonly WriteChunk[]): void {
    this.#more = chunks
    this.#next = 0
    for (const { chunk } of chunks) this.#left += chunk.length
  }

  /** Puts bytes into a packet. @param length at most {@link left}, and what the writer has room for */
  fill(writer: Writer, length: number): void {
    let wanted = length
    while (wanted > 0) {
      if (this.#chunk === undefined || this.#offset === this.#chunk.length) {
        this.#chunk = this.#more[this.#next]?.chunk
        this.#next += 1
        this.#offset = 0
        if (this.#chunk === undefined) break
      }
      const piece = Math.min(wanted, this.#chunk.length - this.#offset)
      writer.write(this.#chunk, this.#offset, piece)
      this.#offset += piece
      wanted -= piece
    }
    this.#left -= length
    if (this.#left === 0) this.clear()
  }

  clear(): void {
    this.#chunk = undefined
    this.#more = []
    this.#left = 0
  }
}
