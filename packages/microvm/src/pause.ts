/**
 * How the vCPUs of a VM are held: each comes to a gate between two runs, and waits there while it is shut.
 */

/** A gate for a number of loops. */
export class PauseGate {
  readonly #loops: number
  #waiting = 0
  #left = 0
  /** Settles when the gate is opened; undefined while it is open. */
  #opened: Promise<void> | undefined
  #open: () => void = () => {}
  #arrived: () => void = () => {}

  /** @param loops how many there are */
  constructor(loops: number) {
    this.#loops = loops
  }

  get isShut(): boolean {
    return this.#opened !== undefined
  }

  /**
   * Shuts the gate. The loops have to be told to come to it.
   * @returns settles when each of them waits at it, or has left for good; or when the gate is opened before that
   */
  shut(): Promise<void> {
    this.#opened = new Promise((resolve) => {
      this.#open = resolve
    })
    return new Promise((resolve) => {
      this.#arrived = resolve
      this.#check()
    })
  }

  /** Lets the loops go on. */
  open(): void {
    this.#opened = undefined
    this.#waiting = 0
    this.#open()
    this.#arrived()
  }

  /** A loop is at the gate: waits while that is shut. */
  async wait(): Promise<void> {
    if (this.#opened === undefined) return
    this.#waiting++
    this.#check()
    await this.#opened
  }

  /** A loop has ended, and comes to the gate no more. */
  leave(): void {
    this.#left++
    this.#check()
  }

  #check(): void {
    if (this.#waiting + this.#left >= this.#loops) this.#arrived()
  }
}
