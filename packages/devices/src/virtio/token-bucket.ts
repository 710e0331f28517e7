/**
 * A token bucket: the arithmetic of a rate limit, without timers and queues.
 *
 * The one thing that is kept of the bucket itself is the time at which it will be full again (the generic cell rate
 * algorithm). Looking at it changes nothing, so that no fraction of a token is lost however often somebody looks, and however
 * short the time in between.
 */

/** What a bucket lets through. Checked. */
export interface TokenBucketSettings {
  readonly perSecond: number
  readonly burst: number
  readonly oneTimeBurst: number
}

/** All times are milliseconds of one clock that does not go back. */
export class TokenBucket {
  readonly #perMs: number
  readonly #burst: number
  #oneTime: number
  #fullAt: number

  /** Full. */
  constructor({ perSecond, burst, oneTimeBurst }: TokenBucketSettings, now: number) {
    this.#perMs = perSecond / 1000
    this.#burst = burst
    this.#oneTime = oneTimeBurst
    this.#fullAt = now
  }

  /** What is left of the one-time burst. */
  get oneTime(): number {
    return this.#oneTime
  }

  /**
   * How long until an amount may pass, in milliseconds: 0 for now. More than the bucket holds passes when it is full.
   */
  delay(amount: number, now: number): number {
    const rest = amount - this.#oneTime
    if (rest <= 0) return 0
    const passesAt = this.#fullAt - (this.#burst - Math.min(rest, this.#burst)) / this.#perMs
    return Math.max(0, passesAt - now)
  }

  /** Takes an amount out, whether it is there or not: the one-time burst first, and what is missing as a debt. */
  take(amount: number, now: number): void {
    const fromOneTime = Math.min(amount, this.#oneTime)
    this.#oneTime -= fromOneTime
    this.#fullAt = Math.max(this.#fullAt, now) + (amount - fromOneTime) / this.#perMs
  }

  /** What is in it: negative for a debt. */
  tokens(now: number): number {
    return this.#burst - Math.max(0, this.#fullAt - now) * this.#perMs
  }

  /** Puts in what another one had. A bucket holds its burst and no more. */
  fill(tokens: number, oneTime: number, now: number): void {
    this.#fullAt = now + Math.max(0, this.#burst - tokens) / this.#perMs
    this.#oneTime = oneTime
  }

  /** A debt is paid off within a time, in milliseconds, whatever it is. */
  limitDebt(ms: number, now: number): void {
    this.#fullAt = Math.min(this.#fullAt, now + ms + this.#burst / this.#perMs)
  }

  /** The clock was set: everything is so much later, or earlier where that is negative, in milliseconds. */
  shift(ms: number): void {
    this.#fullAt += ms
  }

  /** How long the debt takes to pay, in milliseconds; 0 without one. */
  debt(now: number): number {
    return Math.max(0, this.#fullAt - now - this.#burst / this.#perMs)
  }
}
