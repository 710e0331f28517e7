/**
 * The receive FIFO of a 16550A: 16 bytes, each with its line status. With the FIFOs off only the
 * receiver buffer is left, one byte.
 */

/** Bytes in the FIFO of a 16550A. */
export const FIFO_SIZE = 16
/** Bytes held while the FIFOs are off, as a 16450 does. */
export const BUFFER_SIZE = 1

/** A ring of {@link FIFO_SIZE} entries. How many of them may be used is the UART's business. */
export class ReceiveFifo {
  readonly #bytes = new DataView(new ArrayBuffer(FIFO_SIZE))
  readonly #errors = new DataView(new ArrayBuffer(FIFO_SIZE))
  #head = 0
  #length = 0
  #errorCount = 0

  get length(): number {
    return this.#length
  }

  /** Whether any entry carries an error. */
  get hasError(): boolean {
    return this.#errorCount !== 0
  }

  /** LSR error bits of the entry to be read next. */
  get headErrors(): number {
    return this.#length === 0 ? 0 : this.#errors.getUint8(this.#head)
  }

  /** Adds an entry. The caller has seen to it that there is room. */
  push(byte: number, errors: number): void {
    const tail = (this.#head + this.#length) % FIFO_SIZE
    this.#bytes.setUint8(tail, byte)
    this.#errors.setUint8(tail, errors)
    this.#length += 1
    if (errors !== 0) this.#errorCount += 1
  }

  /** Takes the oldest byte; 0 when there is none. */
  shift(): number {
    if (this.#length === 0) return 0
    this.acknowledgeErrors()
    const byte = this.#bytes.getUint8(this.#head)
    this.#head = (this.#head + 1) % FIFO_SIZE
    this.#length -= 1
    return byte
  }

  /** Forgets the error bits of the entry to be read next, as a read of LSR does. */
  acknowledgeErrors(): void {
    if (this.headErrors === 0) return
    this.#errors.setUint8(this.#head, 0)
    this.#errorCount -= 1
  }

  clear(): void {
    this.#length = 0
    this.#errorCount = 0
  }

  /** The bytes, oldest first. */
  bytes(): number[] {
    return this.#entries(this.#bytes)
  }

  /** The LSR error bits of each byte, oldest first. */
  errors(): number[] {
    return this.#entries(this.#errors)
  }

  #entries(view: DataView): number[] {
    return Array.from({ length: this.#length }, (_, i) => view.getUint8((this.#head + i) % FIFO_SIZE))
  }
}
