/** The bytes of the instruction at RIP: those that came with KVM's exit, then, on demand, guest memory. */

/** No instruction is longer; a longer one raises `#GP(0)`. Intel SDM vol. 2, section 2.3.11. */
export const MAX_INSTRUCTION_LENGTH = 15

/** Adds to `bytes` from `length` up what guest memory holds there; gives how many there are now, `length` if it failed. */
export type FetchMore = (bytes: Uint8Array, length: number) => number

export class CodeBytes {
  readonly #bytes = new Uint8Array(MAX_INSTRUCTION_LENGTH)
  readonly #fetchMore: FetchMore
  #length = 0
  #position = 0
  /** Reading went past 15 bytes. */
  isTooLong = false
  /** Bytes could not be fetched; the fetcher knows why. */
  hasFailed = false

  constructor(fetchMore: FetchMore) {
    this.#fetchMore = fetchMore
  }

  start(given: Uint8Array): void {
    this.#length = Math.min(given.length, MAX_INSTRUCTION_LENGTH)
    this.#bytes.set(this.#length === given.length ? given : given.subarray(0, this.#length))
    this.#position = 0
    this.isTooLong = false
    this.hasFailed = false
  }

  /** Bytes read so far. */
  get position(): number {
    return this.#position
  }

  /** What is known of the instruction's bytes: a copy. */
  snapshot(): Uint8Array {
    return this.#bytes.slice(0, this.#length)
  }

  /** The next byte without taking it; 0 when there is none (and {@link isTooLong} or {@link hasFailed} is set). */
  peek(): number {
    if (this.#position === MAX_INSTRUCTION_LENGTH) {
      this.isTooLong = true
      return 0
    }
    if (this.#position === this.#length && !this.hasFailed) {
      this.#length = this.#fetchMore(this.#bytes, this.#length)
      this.hasFailed = this.#position === this.#length
    }
    return this.hasFailed ? 0 : (this.#bytes[this.#position] ?? 0)
  }

  /** Takes the next byte. */
  next(): number {
    const byte = this.peek()
    if (!this.isTooLong && !this.hasFailed) this.#position++
    return byte
  }

  /** No byte that was read is made up. */
  get isGood(): boolean {
    return !this.isTooLong && !this.hasFailed
  }
}
