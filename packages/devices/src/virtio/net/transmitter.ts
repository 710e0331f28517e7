/** The way from the guest through one transmit queue: virtio 1.2, 5.1.6.2. */
import type { DescriptorChain, Virtqueue } from '@vmm/virtio-queue'
import type { VirtioTransport } from '../device.ts'
import { BUSY, type ChainHandler, type QueueRunner } from '../queue-runner.ts'
import type { RateLane } from '../rate-limiter.ts'
import type { MutableNetCounters } from './counters.ts'
import { NetFrame } from './frame.ts'
import { type FrameRules, frameFault, SIZE_FAULT } from './header.ts'
import { NET_BUSY, NET_DONE, NET_DROPPED, type NetOutcome, type Network } from './network.ts'

/** What a transmitter asks of its device. */
export interface TransmitterOptions {
  readonly transport: VirtioTransport
  readonly pair: number
  readonly network: Network
  readonly counters: MutableNetCounters
  /** What is negotiated, and whether the link is up. */
  readonly rules: FrameRules & { readonly isLinkUp: boolean }
  readonly lane: RateLane
}

/** One for each pair of queues. */
export class Transmitter implements ChainHandler {
  readonly #options: TransmitterOptions
  readonly #frame = new NetFrame()
  /** The next frame has passed the limit, and the network had no room for it. */
  #isPaid = false

  constructor(options: TransmitterOptions) {
    this.#options = options
  }

  serve(chain: DescriptorChain, _queue: Virtqueue, runner: QueueRunner, isMapped: boolean): number {
    const { transport, counters, rules, lane } = this.#options
    const frame = this.#frame
    const isWhole = frame.setChain(chain)
    // The pop has reported memory that is not there.
    const fault = isWhole ? frameFault(frame, rules) : SIZE_FAULT
    if (isMapped && fault !== undefined) transport.fault(fault, runner.index)
    if (!isMapped || fault !== undefined || !rules.isLinkUp) {
      counters.txDropped += 1
      return 0
    }
    const { length } = frame
    if (!this.#isPaid && !lane.take(length)) return BUSY
    const outcome = this.#transmit(frame)
    this.#isPaid = outcome === NET_BUSY
    if (outcome === NET_BUSY) return BUSY
    if (outcome === NET_DONE) {
      counters.txFrames += 1
      counters.txBytes += length
    } else counters.txDropped += 1
    return 0
  }

  endBatch(): void {
    const { network, pair } = this.#options
    network.commit?.(pair)
  }

  /** The driver takes the queue away. */
  reset(): void {
    this.#isPaid = false
    this.#options.lane.cancel()
  }

  #transmit(frame: NetFrame): NetOutcome {
    const { network, transport, pair } = this.#options
    try {
      return network.transmit(frame, pair)
    } catch (error) {
      transport.hostFailure(error)
      return NET_DROPPED
    }
  }
}
