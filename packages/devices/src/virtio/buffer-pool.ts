/** Buffers for host sides that do not see guest memory: so many and no more, whatever a guest asks for. */

/** Lends buffers of one size. Makes one only when all are out, up to a number; those who come then wait their turn. */
export class BufferPool {
  readonly #size: number
  readonly #limit: number
  readonly #idle: Uint8Array[] = []
  #made = 0
  readonly #waiting: ((buffer: Uint8Array) => void)[] = []

  /** @param size of each, in bytes */
  constructor(size: number, limit: number) {
    this.#size = size
    this.#limit = limit
  }

  /** A buffer that nobody else has, in this turn if there is one. What is in it is left over. */
  take(): Uint8Array | Promise<Uint8Array> {
    const idle = this.#idle.pop()
    if (idle !== undefined) return idle
    if (this.#made < this.#limit) {
      this.#made += 1
      return new Uint8Array(this.#size)
    }
    return new Promise((resolve) => {
      this.#waiting.push(resolve)
    })
  }

  /** Takes a buffer back, once. */
  give(buffer: Uint8Array): void {
    const next = this.#waiting.shift()
    if (next === undefined) this.#idle.push(buffer)
    else next(buffer)
  }
}
