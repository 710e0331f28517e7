/** What a VM owns. */

/** Closes what was made, last first, when the VM ends or its making fails half-way. */
export class Cleanup {
  readonly #owners: { close(): void }[] = []

  add<T extends { close(): void }>(owner: T): T {
    this.#owners.push(owner)
    return owner
  }

  /** Closes everything, each once. */
  close(): void {
    for (let owner = this.#owners.pop(); owner !== undefined; owner = this.#owners.pop()) owner.close()
  }
}
