/**
 * How long a queue is worth looking at, by what its driver did lately: kvm's halt polling and the iothreads of QEMU decide
 * alike.
 */

/** Answers in a row that a driver must have followed up soon. One may be chance. */
const SOON_IN_A_ROW = 2
/** Twice what it took: the next one may be somewhat later. */
const MARGIN = 2

/** All times are milliseconds. */
export class PollWindow {
  readonly #max: number
  #length = 0
  #soon = 0

  /** @param max the longest window; what comes later is not worth waiting for */
  constructor(max: number) {
    this.#max = max
  }

  /** How long to look from now on; 0 for not at all. */
  get length(): number {
    return this.#length
  }

  /**
   * Learns from a notification.
   * @param gap since the driver was answered; what the notification took is part of it, and may be the most of it
   */
  note(gap: number): void {
    if (gap > this.#max) {
      this.#soon = 0
      this.#length = 0
      return
    }
    this.#soon += 1
    if (this.#soon < SOON_IN_A_ROW) return
    this.#length = Math.max(this.#length, Math.min(this.#max, MARGIN * gap))
  }
}
