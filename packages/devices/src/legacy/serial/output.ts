/**
 * From the bytes that a UART transmits to chunks that a stream can take at a price. A write to a terminal
 * costs about as much as a VM exit, and drivers transmit byte by byte.
 */

/** Where transmitted bytes go. A Node `Writable` is one, but see {@link boundedOutput}. */
export interface SerialOutput {
  /**
   * Takes a chunk, never empty, which belongs to the callee from then on. What it throws is reported as lost
   * output; the guest does not notice.
   */
  write(chunk: Uint8Array): unknown
}

/** Runs `flush` soon, once. `queueMicrotask`, `setImmediate` and `(flush) => flush()` are three. */
export type FlushScheduler = (flush: () => void) => void

/** The longest chunk: more is written out at once. It bounds what a guest can make the host hold here. */
export const OUTPUT_CHUNK_BYTES = 4096

/** Collects bytes until the scheduled flush, or until a chunk is full. */
export class OutputBatch {
  readonly #output: SerialOutput
  readonly #schedule: FlushScheduler
  readonly #lost: (count: number, cause: unknown) => void
  readonly #chunk = new Uint8Array(OUTPUT_CHUNK_BYTES)
  readonly #flushScheduled = (): void => {
    this.#scheduled = false
    this.flush()
  }
  #length = 0
  #scheduled = false

  constructor(output: SerialOutput, schedule: FlushScheduler, lost: (count: number, cause: unknown) => void) {
    this.#output = output
    this.#schedule = schedule
    this.#lost = lost
  }

  put(byte: number): void {
    this.#chunk[this.#length++] = byte
    if (this.#length === OUTPUT_CHUNK_BYTES) this.flush()
    else if (!this.#scheduled) {
      this.#scheduled = true
      this.#schedule(this.#flushScheduled)
    }
  }

  flush(): void {
    if (this.#length === 0) return
    const chunk = this.#chunk.slice(0, this.#length)
    this.#length = 0
    try {
      this.#output.write(chunk)
    } catch (cause) {
      this.#lost(chunk.length, cause)
    }
  }
}

/** What {@link boundedOutput} needs of a stream. Node's `Writable` has it. */
export interface BufferingStream {
  /** Bytes accepted but not yet passed on. */
  readonly writableLength: number
  /** False once the stream has ended or failed. */
  readonly writable: boolean
  /** Takes a chunk; what it returns does not matter. */
  write(chunk: Uint8Array): unknown
}

/**
 * An output to a Node stream that a guest cannot fill the host's memory with: while the stream holds back
 * more than `limitBytes`, and after it has ended, chunks are refused and count as lost output.
 *
 * @param limitBytes - 1 MiB unless given
 */
export function boundedOutput(stream: BufferingStream, limitBytes: number = 2 ** 20): SerialOutput {
  return {
    write(chunk: Uint8Array): void {
      if (!stream.writable) throw new Error('the output stream has ended')
      if (stream.writableLength + chunk.length > limitBytes) {
        throw new Error(`the output stream is more than ${limitBytes} bytes behind`)
      }
      stream.write(chunk)
    },
  }
}
