/** What a VM owns. */

/** Closes what was made, last first, when the VM ends or its making fails half-way. */
export class Cleanup {
  readonly #owners: { close(): void }[] = []

  add<T extends { close(): void }>(owner: T): T {
    this.#owners.push(owner)
    return owner
  }

  /**
   * Closes everything, each once, whatever one of them throws.
   * @throws what was thrown first, when all have been closed
   */
  close(): void {
    const thrown: unknown[] = []
    for (let owner = this.#owners.pop(); owner !== undefined; owner = this.#owners.pop()) {
      try {
        owner.close()
      } catch (error) {
        thrown.push(error)
      }
    }
    if (thrown.length > 0) throw thrown[0]
  }

  /** Closes everything because of a failure, and throws that: what failed first says most. */
  closeAfter(failure: unknown): never {
    try {
      this.close()
    } catch {
      // It failed because of the first failure, as like as not.
    }
    throw failure
  }
}
