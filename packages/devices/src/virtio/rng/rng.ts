/**
 * The entropy device: virtio 1.2 section 5.4. One queue of buffers, which it fills with random bytes. No rate limit.
 */
import { randomFillSync } from 'node:crypto'
import type { DescriptorChain } from '@vmm/virtio-queue'
import { attachOnce } from '../attached.ts'
import type { VirtioDevice, VirtioTransport } from '../device.ts'
import { QueueRunner } from '../queue-runner.ts'
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
}

/** virtio-rng. */
export class Rng implements VirtioDevice {
  readonly type: number = VIRTIO_ID_RNG
  readonly featuresLow = 0
  readonly featuresHigh = 0
  readonly queueSizes: readonly number[] = [QUEUE_SIZE]
  readonly config: Uint8Array = new Uint8Array(0)
  readonly #source: RandomSource
  #transport: VirtioTransport | undefined
  #runner: QueueRunner | undefined

  constructor(options: RngOptions = {}) {
    this.#source = options.source ?? CRYPTO_RANDOM
  }

  attach(transport: VirtioTransport): void {
    this.#transport = attachOnce(this.#transport, transport, 'virtio-rng')
    this.#runner = new QueueRunner(transport, 0, { serve: (chain) => this.#fill(chain) }, QUEUE_SIZE)
  }

  notify(): void {
    this.#runner?.run()
  }

  reset(): void {}

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
