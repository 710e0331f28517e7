/**
 * Whether to do at once what may have to wait. Writes to the page cache take microseconds, until the host holds up those who
 * dirty it: then each takes up to 200 ms, and the event loop with it. After some of those it is left to others for a while.
 */

/** What takes longer has waited, or its thread was not run: in milliseconds. */
const SLOW_MS = 5
/** One says little. */
const SLOW_COUNT = 2
/** How long it is left to others, doubled each time; and for how long a slow one counts. In milliseconds. */
const PAUSE_MS = 1000
const PAUSE_MAX_MS = 16_000

export class Patience {
  readonly #now: () => number
  #slow = 0
  #lastSlow = Number.NEGATIVE_INFINITY
  #until = Number.NEGATIVE_INFINITY
  #started = 0

  /** @param now in milliseconds */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now
  }

  /** Asked before: whether to do it. {@link end} follows where it is done. */
  start(): boolean {
    this.#started = this.#now()
    return this.#started >= this.#until
  }

  /** Told after. */
  end(): void {
    const now = this.#now()
    if (now - this.#started < SLOW_MS) return
    // Pauses do not count.
    const since = Math.max(this.#lastSlow, this.#until)
    this.#slow = this.#started - since > PAUSE_MS ? 1 : this.#slow + 1
    this.#lastSlow = now
    if (this.#slow < SLOW_COUNT) return
    this.#until = now + Math.min(PAUSE_MS * 2 ** (this.#slow - SLOW_COUNT), PAUSE_MAX_MS)
  }
}
