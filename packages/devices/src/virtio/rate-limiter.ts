/**
 * Limits on bytes and operations in a time, for devices: two token buckets, one timer, and those who wait.
 *
 * A request that must wait stays where it is, in the ring or in its stream, and is asked for again when the tokens are
 * there: nothing is dropped, and nothing is kept for it here but its place in the row.
 */
import type { Clock, PendingCall, Timers } from '../host.ts'
import { MONOTONIC_CLOCK, NODE_TIMERS } from '../host.ts'
import { StateChecker } from '../state.ts'
import type { RateLimit, RateLimiterState, TokenBucketState } from './rate-limit.ts'
import { checkBucket, rateSettings } from './rate-limit.ts'
import type { TokenBucketSettings } from './token-bucket.ts'
import { TokenBucket } from './token-bucket.ts'

/** The longest delay that `Timers` take. */
const DELAY_MAX_MS = 86_400_000

/** Options of {@link RateLimiter}. */
export interface RateLimiterOptions extends RateLimit {
  /** Default the host's monotonic clock. One that is set back costs nobody tokens. */
  readonly clock?: Clock | undefined
  /** Default Node's, which do not keep the process alive. */
  readonly timers?: Timers | undefined
}

/**
 * One of those who share a limiter: a queue, or a direction of a stream. Made by {@link RateLimiter.lane}.
 */
export class RateLane {
  readonly #limiter: RateLimiter
  /** @internal */
  readonly ready: () => void
  /** @internal Waits in the limiter's row, with what it has asked for. */
  waiting = false
  /** @internal */
  bytes = 0
  /** @internal */
  operations = 0

  /** @internal */
  constructor(limiter: RateLimiter, ready: () => void) {
    this.#limiter = limiter
    this.ready = ready
  }

  /**
   * Asks whether something may pass, and counts it if so. Never throws or allocates.
   * @param bytes 0 or more
   * @param operations default 1
   * @returns false where it has to wait: `ready` is called when it is worth while to ask again
   */
  take(bytes: number, operations = 1): boolean {
    return this.#limiter.take(this, bytes, operations)
  }

  /** Whether anything would ever have to wait. */
  get isLimited(): boolean {
    return this.#limiter.isLimited
  }

  /** There is nothing to pass any more: gives up the place in the row. Harmless when there is none. */
  cancel(): void {
    this.#limiter.leave(this)
  }
}

/**
 * Limits what passes through any number of lanes to `perSecond * time + burst` bytes, and as many operations, over any
 * time. While somebody waits no token is lost: then as much passes as may.
 *
 * A request that is larger than the burst passes when the bucket is full, and leaves a debt that those after it wait
 * for: it would never pass otherwise, and over any time no more than `perSecond * time` and the larger of the burst and that one
 * request passes. Those who wait come in turn, and nobody overtakes them, so that small requests do not
 * keep the tokens from a large one.
 *
 * @example
 * ```ts
 * const limiter = new RateLimiter({ bytes: { perSecond: 10e6 }, operations: { perSecond: 1000, burst: 50 } })
 * // A queue: the chain stays in the ring.
 * const lane = limiter.lane(() => runner.run())
 * const serve = (chain) => (lane.take(chain.readableBytes) ? send(chain) : BUSY)
 * // A stream: the packet stays at its head.
 * const packets = limiter.lane(pump)
 * function pump() {
 *   while (source.length > 0 && packets.take(source[0].length)) send(source.shift())
 * }
 * ```
 */
export class RateLimiter {
  readonly #clock: Clock
  readonly #timers: Timers
  readonly #waiting: RateLane[] = []
  readonly #onTimer: () => void = () => {
    this.#timer = undefined
    this.#dispatch()
  }
  #bytes: TokenBucket | undefined
  #operations: TokenBucket | undefined
  #now: number
  /** Whose turn it is: nobody who waits comes before. */
  #turn: RateLane | undefined
  #timer: PendingCall | undefined
  #timerAt = 0

  /** @throws DevicesError ERR_DEVICE_OPTION */
  constructor(options: RateLimiterOptions = {}) {
    const { clock = MONOTONIC_CLOCK, timers = NODE_TIMERS } = options
    const bytes = rateSettings('bytes', options.bytes)
    const operations = rateSettings('operations', options.operations)
    this.#clock = clock
    this.#timers = timers
    this.#now = clock.now()
    this.#bytes = bytes && new TokenBucket(bytes, this.#now)
    this.#operations = operations && new TokenBucket(operations, this.#now)
  }

  /** Whether anything is limited. */
  get isLimited(): boolean {
    return this.#bytes !== undefined || this.#operations !== undefined
  }

  /**
   * A lane of this limiter.
   * @param ready called when it is worth while to ask again, in a turn of the event loop of its own or within
   * {@link update}. Once for each time that the lane was told to wait
   */
  lane(ready: () => void): RateLane {
    return new RateLane(this, ready)
  }

  /**
   * Other limits from now on, for those who wait, too. Tokens that are there stay, as far as they fit; what is paid of a debt
   * takes no longer than it would have. What was not limited before begins with a full bucket.
   * @throws DevicesError ERR_DEVICE_OPTION, with nothing changed
   */
  update(limit: RateLimit): void {
    const bytes = rateSettings('bytes', limit.bytes)
    const operations = rateSettings('operations', limit.operations)
    const now = this.#time()
    this.#bytes = replace(this.#bytes, bytes, now)
    this.#operations = replace(this.#operations, operations, now)
    this.#dispatch()
  }

  /** What is left, to be saved. The limits are not part of it: they are the host's to choose anew. */
  state(): RateLimiterState {
    const now = this.#time()
    return { version: 1, bytes: save(this.#bytes, now), operations: save(this.#operations, now) }
  }

  /**
   * Takes what was left. Tokens for which the limits of now have no room are dropped.
   * @throws DevicesError ERR_DEVICE_STATE, with nothing changed
   */
  restore(state: unknown): void {
    const check = new StateChecker('rate limiter', state as object)
    check.version(1)
    const bytes = checkBucket(check, state as RateLimiterState, 'bytes')
    const operations = checkBucket(check, state as RateLimiterState, 'operations')
    const now = this.#time()
    if (bytes !== null) this.#bytes?.fill(bytes.tokens, bytes.oneTimeBurst, now)
    if (operations !== null) this.#operations?.fill(operations.tokens, operations.oneTimeBurst, now)
    this.#dispatch()
  }

  /** @internal See {@link RateLane.take}. */
  take(lane: RateLane, bytes: number, operations: number): boolean {
    const isFree =
      (this.#bytes === undefined || bytes === 0) && (this.#operations === undefined || operations === 0)
    if (isFree) {
      if (lane.waiting) this.leave(lane)
      return true
    }
    const now = this.#time()
    const first = this.#turn ?? this.#waiting[0] ?? lane
    if (first === lane && this.#delay(bytes, operations, now) === 0) {
      if (lane.waiting) this.leave(lane)
      this.#bytes?.take(bytes, now)
      this.#operations?.take(operations, now)
      return true
    }
    lane.bytes = bytes
    lane.operations = operations
    if (!lane.waiting) {
      lane.waiting = true
      this.#waiting.push(lane)
    }
    // In a turn the timer is set at its end.
    if (this.#turn === undefined && this.#waiting[0] === lane) this.#arm(now)
    return false
  }

  /** @internal See {@link RateLane.cancel}. */
  leave(lane: RateLane): void {
    if (!lane.waiting) return
    const isFirst = this.#waiting[0] === lane
    this.#waiting.splice(this.#waiting.indexOf(lane), 1)
    lane.waiting = false
    if (isFirst && this.#turn === undefined) this.#arm(this.#time())
  }

  /** A turn for each of those who wait, in order, as far as the tokens go. */
  #dispatch(): void {
    if (this.#turn !== undefined) return
    try {
      for (let left = this.#waiting.length; left > 0; left -= 1) {
        const lane = this.#waiting[0]
        if (lane === undefined || this.#delay(lane.bytes, lane.operations, this.#time()) > 0) return
        this.#waiting.shift()
        lane.waiting = false
        this.#turn = lane
        lane.ready()
      }
    } finally {
      this.#turn = undefined
      this.#arm(this.#time())
    }
  }

  /** Sets the timer for the first in the row. */
  #arm(now: number): void {
    const lane = this.#waiting[0]
    if (lane === undefined) {
      this.#timer?.cancel()
      this.#timer = undefined
      return
    }
    const delay = Math.min(Math.ceil(this.#delay(lane.bytes, lane.operations, now)), DELAY_MAX_MS)
    if (this.#timer !== undefined) {
      // One that comes too early does no harm: it is set again.
      if (this.#timerAt <= now + delay) return
      this.#timer.cancel()
    }
    this.#timerAt = now + delay
    this.#timer = this.#timers.after(delay, this.#onTimer)
  }

  #delay(bytes: number, operations: number, now: number): number {
    return Math.max(this.#bytes?.delay(bytes, now) ?? 0, this.#operations?.delay(operations, now) ?? 0)
  }

  /** The time. When the clock was set back, the buckets go with it. */
  #time(): number {
    const now = this.#clock.now()
    const back = now - this.#now
    if (back < 0) {
      this.#bytes?.shift(back)
      this.#operations?.shift(back)
      this.#timerAt += back
    }
    this.#now = now
    return now
  }
}

/**
 * The limiter that an option asks for.
 * @param option a limiter that is shared, or what one of its own shall have
 * @throws DevicesError ERR_DEVICE_OPTION
 */
export function limiterOf(option: RateLimiterOptions | RateLimiter | undefined): RateLimiter {
  return option instanceof RateLimiter ? option : new RateLimiter(option)
}

function replace(
  old: TokenBucket | undefined,
  settings: TokenBucketSettings | undefined,
  now: number,
): TokenBucket | undefined {
  if (settings === undefined) return undefined
  const bucket = new TokenBucket(settings, now)
  if (old !== undefined) {
    bucket.fill(old.tokens(now), settings.oneTimeBurst, now)
    bucket.limitDebt(old.debt(now), now)
  }
  return bucket
}

function save(bucket: TokenBucket | undefined, now: number): TokenBucketState | null {
  return bucket === undefined
    ? null
    : { tokens: Math.floor(bucket.tokens(now)), oneTimeBurst: Math.floor(bucket.oneTime) }
}
