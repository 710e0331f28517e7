/**
 * Whether to do at once what may have to wait. Writes to the page cache take microseconds, until the host holds up those who
 * dirty it: then each takes up to 200 ms, and the event loop with it. After that it is left to others for a while. So it is with
 * reads where the file system cannot say whether they have to wait.
 *
 * What took long may not have waited at all: others had the CPU. So the first slow one makes those after it be watched, and
 * one that is seen to wait is what counts.
 */
import { countThreadWaits } from '@vmm/sys-util'

/** What takes longer has waited, or its thread was not run. In milliseconds, as all here. */
const SLOW_MS = 5
/** How long the next ones are watched after a slow one. */
const WATCHED_MS = 1000
/** How long it is left to others: doubled while the next that is tried waits, too. */
const PAUSE_MS = 1000
const PAUSE_MAX_MS = 16_000

/** What it asks of the host. */
export interface PatienceHost {
  /** A clock, in milliseconds. */
  now(): number
  /** How often this thread has waited. */
  waits(): number
}

const HOST: PatienceHost = { now: () => performance.now(), waits: countThreadWaits }

export class Patience {
  readonly #host: PatienceHost
  #started = 0
  #waits = -1
  #watchedUntil = Number.NEGATIVE_INFINITY
  #pausedUntil = Number.NEGATIVE_INFINITY
  #pause = PAUSE_MS

  constructor(host: PatienceHost = HOST) {
    this.#host = host
  }

  /** Asked before: whether to do it. {@link end} follows where it is done. */
  start(): boolean {
    const now = this.#host.now()
    if (now < this.#pausedUntil) return false
    this.#started = now
    const isWatched = now < this.#watchedUntil
    this.#waits = isWatched ? this.#host.waits() : -1
    if (!isWatched) this.#pause = PAUSE_MS
    return true
  }

  /** Told after. */
  end(): void {
    const now = this.#host.now()
    if (now - this.#started < SLOW_MS) return
    if (this.#waits >= 0 && this.#host.waits() > this.#waits) {
      this.#pausedUntil = now + this.#pause
      this.#pause = Math.min(2 * this.#pause, PAUSE_MAX_MS)
    }
    this.#watchedUntil = Math.max(now, this.#pausedUntil) + WATCHED_MS
  }
}
