/**
 * The entropy device: virtio 1.2 section 5.4. One queue of buffers, which it fills with random bytes.
 */
import { randomFillSync } from 'node:crypto'
import type { DescriptorChain } from '@vmm/virtio-queue'
import { StateChecker } from '../../state.ts'
import { attachOnce } from '../attached.ts'
import type { VirtioDevice, VirtioTransport } from '../device.ts'
import { BUSY, QueueRunner } from '../queue-runner.ts'
import type { RateLimiterState } from '../rate-limit.ts'
import type { RateLane, RateLimiter, RateLimiterOptions } from '../rate-limiter.ts'
import { limiterOf } from '../rate-limiter.ts'
import { VIRTIO_ID_RNG } from '../spec.ts'

/** Entries of the queue. Linux has one request at a time. */
const QUEUE_SIZE = 8

/** The most bytes for one buffer; 5.4.6.2 lets a device use less than the whole. Linux asks for at most 64 at a time. */
export const RNG_BYTES_MAX = 4096

/** Where random bytes come from. */
export interface RandomSource {
  /** Fills the target, up to {@link RNG_BYTES_MAX} bytes of guest memory, with bytes fit for keys. */
  fill(target: Uint8Array): void
}

/** Node's own generator. */
export const CRYPTO_RANDOM: RandomSource = Object.freeze({
  fill(target: Uint8Array): void {
    randomFillSync(target)
  },
})

/** Options of {@link Rng}. */
export interface RngOptions {
  /** Default {@link CRYPTO_RANDOM}. */
  readonly source?: RandomSource | undefined
  /**
   * Limits on random bytes, and on buffers filled: a guest that reads without end costs the host a CPU otherwise. A limiter can
   * be shared with other devices. Default none.
   */
  readonly rateLimit?: RateLimiterOptions | RateLimiter | undefined
}

/** What {@link Rng.state} returns: plain data that survives JSON. */
export interface RngState {
  readonly version: 1
  /** What is left of its limits; null without any, and where the limiter is shared and its owner's to save. */
  readonly rateLimit: RateLimiterState | null
}

/** virtio-rng. */
export class Rng implements VirtioDevice {
  readonly type: number = VIRTIO_ID_RNG
  readonly featuresLow = 0
  readonly featuresHigh = 0
  readonly queueSizes: readonly number[] = [QUEUE_SIZE]
  readonly config: Uint8Array = new Uint8Array(0)
  /** What limits this device: `update` it at any time. Without the option it limits nothing yet. */
  readonly rateLimiter: RateLimiter
  readonly #ownsLimiter: boolean
  readonly #lane: RateLane
  readonly #source: RandomSource
  #transport: VirtioTransport | undefined
  #runner: QueueRunner | undefined

  /** @throws DevicesError ERR_DEVICE_OPTION */
  constructor(options: RngOptions = {}) {
    this.#source = options.source ?? CRYPTO_RANDOM
    this.rateLimiter = limiterOf(options.rateLimit)
    this.#ownsLimiter = this.rateLimiter !== options.rateLimit
    this.#lane = this.rateLimiter.lane(() => this.#runner?.run())
  }

  attach(transport: VirtioTransport): void {
    this.#transport = attachOnce(this.#transport, transport, 'virtio-rng')
    this.#runner = new QueueRunner(transport, 0, { serve: (chain) => this.#serve(chain) }, QUEUE_SIZE)
  }

  notify(): void {
    this.#runner?.run()
  }

  resetQueue(): void {
    this.#lane.cancel()
  }

  reset(): void {
    this.#lane.cancel()
  }

  state(): RngState {
    const isOwn = this.#ownsLimiter && this.rateLimiter.isLimited
    return { version: 1, rateLimit: isOwn ? this.rateLimiter.state() : null }
  }

  /** @throws DevicesError ERR_DEVICE_STATE */
  restore(state: unknown): void {
    new StateChecker('virtio-rng', state as object).version(1)
    const { rateLimit } = state as RngState
    if (rateLimit !== null && this.#ownsLimiter) this.rateLimiter.restore(rateLimit)
  }

  #serve(chain: DescriptorChain): number {
    const bytes = Math.min(chain.writableBytes, RNG_BYTES_MAX)
    return this.#lane.take(bytes) ? this.#fill(chain) : BUSY
  }

  /** Straight into guest memory: up to what is not there, or the limit. */
  #fill(chain: DescriptorChain): number {
    const writer = chain.writer()
    let done = 0
    try {
      for (;;) {
        const piece = writer.takePiece(RNG_BYTES_MAX - done)
        if (piece === 0) break
        const { pieceRegion, pieceOffset } = writer
        this.#source.fill(pieceRegion.bytes.subarray(pieceOffset, pieceOffset + piece))
        done += piece
      }
    } catch (error) {
      // A buffer must get a random byte or more: without a source there is no answer.
      this.#transport?.hostFailure(error, true)
    }
    return done
  }
}
