/** What a rate limiter is asked for, and what is saved of one: options and states, and their checks. */
import { DevicesError } from '../error.ts'
import { StateChecker } from '../state.ts'
import type { TokenBucketSettings } from './token-bucket.ts'

/** The burst by default: what comes in a tenth of a second, as in QEMU. A hundred times what Node's timers are late. */
const DEFAULT_BURST_SECONDS = 0.1
/** No rate and no burst is larger: sums of them are still exact. */
const AMOUNT_MAX = 2 ** 50
/** How much of one thing may pass. Firecracker's `size` is `burst`, and its `refill_time` is `burst / perSecond`. */
export interface TokenRate {
  /** In the long run, a second: 0.001 to 2^50. */
  readonly perSecond: number
  /**
   * At once, after a pause: 1 to 2^50; default a tenth of `perSecond`, and 1 at least. Timers are milliseconds late: a burst
   * below a hundredth of `perSecond` passes less than that in the long run.
   */
  readonly burst?: number | undefined
  /** Once, before anything else counts: 0 to 2^50; default 0. For a guest that boots. */
  readonly oneTimeBurst?: number | undefined
}

/** What may pass. Without either there is no limit. */
export interface RateLimit {
  /** Data, in bytes; default no limit. */
  readonly bytes?: TokenRate | undefined
  /** Requests or packets; default no limit. */
  readonly operations?: TokenRate | undefined
}

/** A bucket, to be saved. */
export interface TokenBucketState {
  /** Whole tokens; negative where a request was larger than the bucket. */
  readonly tokens: number
  /** What is left of the one-time burst. */
  readonly oneTimeBurst: number
}

/** What `RateLimiter.state` returns: plain data that survives JSON. Null for what has no limit. */
export interface RateLimiterState {
  readonly version: 1
  readonly bytes: TokenBucketState | null
  readonly operations: TokenBucketState | null
}

/**
 * Fills in the defaults.
 * @throws DevicesError ERR_DEVICE_OPTION
 */
export function rateSettings(name: string, rate: TokenRate | undefined): TokenBucketSettings | undefined {
  if (rate === undefined) return undefined
  const { perSecond, oneTimeBurst = 0 } = rate
  const burst = rate.burst ?? Math.max(1, perSecond * DEFAULT_BURST_SECONDS)
  const check = (what: string, value: number, least: number): void => {
    if (value >= least && value <= AMOUNT_MAX) return
    throw new DevicesError(
      'ERR_DEVICE_OPTION',
      `rate limit: ${what} of ${name} is ${least} to 2^50, got ${value}`,
    )
  }
  check('perSecond', perSecond, 0.001)
  check('burst', burst, 1)
  check('oneTimeBurst', oneTimeBurst, 0)
  return { perSecond, burst, oneTimeBurst }
}

/**
 * One bucket of a state.
 * @throws DevicesError ERR_DEVICE_STATE
 */
export function checkBucket(
  check: StateChecker,
  state: RateLimiterState,
  field: 'bytes' | 'operations',
): TokenBucketState | null {
  const saved: unknown = state[field]
  if (saved === null) return null
  if (typeof saved !== 'object') check.refuse(field, 'null or an object')
  const inner = new StateChecker(`rate limiter ${field}`, saved as object)
  return {
    tokens: inner.integer('tokens', -AMOUNT_MAX, AMOUNT_MAX),
    oneTimeBurst: inner.integer('oneTimeBurst', 0, AMOUNT_MAX),
  }
}
