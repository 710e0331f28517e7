/** Connections in turn: a first-in-first-out queue of bounded length that allocates nothing once it is as long as it gets. */

/** A ring that grows to the most it ever held. Who is in it notes that himself. */
export class ReadyQueue<T> {
  #ring: (T | undefined)[] = new Array(16).fill(undefined)
  #head = 0
  #length = 0

  get length(): number {
    return this.#length
  }

  push(item: T): void {
    if (this.#length === this.#ring.length) this.#grow()
    this.#ring[(this.#head + this.#length) % this.#ring.length] = item
    this.#length += 1
  }

  shift(): T | undefined {
    if (this.#length === 0) return undefined
    const item = this.#ring[this.#head]
    this.#ring[this.#head] = undefined
    this.#head = (this.#head + 1) % this.#ring.length
    this.#length -= 1
    return item
  }

  #grow(): void {
    const ring: (T | undefined)[] = new Array(2 * this.#ring.length).fill(undefined)
    for (let i = 0; i < this.#length; i += 1) ring[i] = this.#ring[(this.#head + i) % this.#ring.length]
    this.#ring = ring
    this.#head = 0
  }
}
