/** A small seeded generator (xorshift32), so that fast-check's one seed stands for a whole case. */
export class Random {
  #state: number

  constructor(seed: number) {
    this.#state = seed | 0 || 0x9e3779b9
    for (let i = 0; i < 8; i++) this.word()
  }

  /** 32 random bits, unsigned. */
  word(): number {
    let state = this.#state
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    this.#state = state
    return state >>> 0
  }

  /** 0 to `bound` - 1. */
  below(bound: number): number {
    return this.word() % bound
  }

  /** True once in `n` times. */
  oneIn(n: number): boolean {
    return this.below(n) === 0
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)] as T
  }

  /** A 64-bit number of a shape that finds mistakes: small, negative, one bit, all bits, random. */
  quad(): bigint {
    const random = (BigInt(this.word()) << 32n) | BigInt(this.word())
    switch (this.below(6)) {
      case 0:
        return BigInt(this.below(300))
      case 1:
        return BigInt.asUintN(64, -BigInt(this.below(300)))
      case 2:
        return 1n << BigInt(this.below(64))
      case 3:
        return random >> BigInt(this.below(64))
      default:
        return random
    }
  }

  fill(bytes: Uint8Array): void {
    let word = 0
    for (let i = 0; i < bytes.length; i++) {
      word = i % 4 === 0 ? this.word() : word >>> 8
      bytes[i] = word
    }
  }
}
