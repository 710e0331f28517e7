/** What comes from the guest on one connection, on its way to the stream. */
import type { Reader } from '@vmm/virtio-queue'
import type { ConnectionStream } from './connection-host.ts'
import type { Credit } from './credit.ts'
import { ReceiveBuffer } from './receive-buffer.ts'

/** Bytes, and the end of them. */
export class Incoming {
  readonly #credit: Credit
  readonly #buffer = new ReceiveBuffer()
  /** The stream asks for more. */
  #wants = false
  /** Bytes that are in the stream's own buffer. */
  #inStream = 0
  #isEnded = false
  #isEndTold = false

  constructor(credit: Credit) {
    this.#credit = credit
  }

  /** Whether the guest has said that no more will come. */
  get isEnded(): boolean {
    return this.#isEnded
  }

  /** Whether there are bytes that the stream has not been given. */
  get hasUnread(): boolean {
    return !this.#buffer.isEmpty
  }

  /** As `ReceiveBuffer.add`. */
  add(payload: Reader, length: number): boolean {
    return this.#buffer.add(payload, length)
  }

  /** No more will come. */
  end(): void {
    this.#isEnded = true
  }

  /** Forgets what nobody will read. */
  clear(): void {
    this.#buffer.clear()
  }

  /** The stream asks for more: what it had in a buffer of its own has been read. */
  want(): void {
    this.#wants = true
    this.#credit.forward(this.#inStream)
    this.#inStream = 0
  }

  /** Gives the stream as much as it takes. It may ask for more, or end, meanwhile. */
  deliver(stream: ConnectionStream): void {
    while (this.#wants) {
      const chunk = this.#buffer.take()
      if (chunk === undefined) break
      if (stream.push(chunk)) this.#credit.forward(chunk.length)
      else {
        this.#wants = false
        this.#inStream += chunk.length
      }
    }
    if (!this.#isEnded || !this.#buffer.isEmpty || this.#isEndTold) return
    this.#isEndTold = true
    stream.push(null)
  }
}
