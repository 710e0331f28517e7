/**
 * The host's end of a port: a Duplex. What it reads the guest has written, and the other way round. It holds no more than
 * the port's `bufferBytes` of output and what Node holds of input, one write at a time besides.
 */
import { Duplex } from 'node:stream'
import type { Writer } from '@vmm/virtio-queue'

/** What a stream asks of its port. */
export interface PortStreamHost {
  /** There is room for output again. */
  outputWanted(): void
  /** There is input. */
  inputReady(): void
  /** The host has closed the stream. */
  closed(stream: PortStream): void
}

type Done = (error?: Error | null) => void

const NO_INPUT = new Uint8Array(0)

/** One connection of the host to a port, until it is destroyed. */
export class PortStream extends Duplex {
  readonly #host: PortStreamHost
  #input: Uint8Array = NO_INPUT
  #taken = 0
  #inputDone: Done | undefined
  #wanted = false
  readonly #tellWanted = (): void => {
    this.#wanted = false
    if (!this.destroyed) this.#host.outputWanted()
  }

  /** @param bufferBytes of output */
  constructor(host: PortStreamHost, bufferBytes: number) {
    super({ readableHighWaterMark: bufferBytes })
    this.#host = host
  }

  /** Bytes of output that it takes. */
  get room(): number {
    return this.readableHighWaterMark - this.readableLength
  }

  /** Whether there is input for the guest. */
  get hasInput(): boolean {
    return this.#inputDone !== undefined
  }

  /**
   * Gives the guest input.
   * @returns bytes that were written; 0 where there is no more input, or nowhere to write it
   */
  giveInput(writer: Writer): number {
    const count = writer.write(this.#input, this.#taken)
    this.#taken += count
    if (this.#taken === this.#input.length) {
      const done = this.#inputDone
      this.#input = NO_INPUT
      this.#taken = 0
      this.#inputDone = undefined
      // May come back at once with the next chunk.
      this.#guard(() => done?.())
    }
    return count
  }

  /** Gives the host output, which becomes its own. */
  giveOutput(chunk: Uint8Array): void {
    this.#guard(() => this.push(chunk))
  }

  /** Node asks before it takes what it has been asked for: there is room after that. */
  override _read(): void {
    if (this.#wanted) return
    this.#wanted = true
    process.nextTick(this.#tellWanted)
  }

  override _write(chunk: Uint8Array, _encoding: BufferEncoding, done: Done): void {
    // A buffer with nothing in it is the end of the input to Linux.
    if (chunk.length === 0) {
      done()
      return
    }
    this.#input = chunk
    this.#inputDone = done
    this.#host.inputReady()
  }

  override _destroy(error: Error | null, done: Done): void {
    this.#input = NO_INPUT
    this.#taken = 0
    this.#inputDone = undefined
    this.#host.closed(this)
    done(error)
  }

  /** What a listener throws is uncaught, as with any stream, but the guest gets its buffer back. */
  #guard(action: () => void): void {
    try {
      action()
    } catch (error) {
      process.nextTick(() => {
        throw error
      })
    }
  }
}
