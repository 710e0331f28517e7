/** A port of the switch for a network device. */
import type { NetFrame, NetOutcome, NetReceiver, Network, NetworkSink } from '@vmm/devices/virtio'
import {
  NetFrame as Frame,
  FrameQueue,
  NET_BUSY,
  NET_DONE,
  NET_DROPPED,
  NET_OFFLOADS_ALL,
} from '@vmm/devices/virtio'
import { NetError } from '../error.ts'
import type { MutablePortCounters, PortCounters } from './counters.ts'
import { newPortCounters } from './counters.ts'
import type { Inlet } from './outlet.ts'

/** Options of {@link Switch.port}. */
export interface PortOptions {
  /**
   * The one address that the guest may send from, and to which frames for it go: it cannot take those of others. Default any.
   */
  readonly mac?: string | Uint8Array | undefined
  /**
   * Room for frames that the guest has no room for, in bytes, for each pair of queues: 65569 at least; default 1 MiB. Taken when it
   * is first needed.
   */
  readonly queueBytes?: number | undefined
  /** Pairs of queues, 1 to 64; default 1. */
  readonly queuePairs?: number | undefined
}

/** Options, checked. */
export interface PortSettings {
  readonly inlet: Inlet
  readonly fixedMac: number | undefined
  readonly queueBytes: number
  readonly queuePairs: number
}

/** A network of a switch: give it to one `Net`. Made by `Switch.port`. */
export class SwitchPort implements Network, Disposable {
  readonly offloads: number = NET_OFFLOADS_ALL
  readonly queuePairs: number
  /** @internal */
  readonly fixedMac: number | undefined
  /** @internal */
  takes = 0
  /** @internal */
  isTouched = false
  /** @internal */
  readonly tally: MutablePortCounters = newPortCounters()
  readonly #inlet: Inlet
  readonly #queues: readonly FrameQueue[]
  readonly #queued = new Frame()
  #receivers: readonly NetReceiver[] = []
  #sink: NetworkSink | undefined
  #pairs = 0
  #isClosed = false

  /** @internal Use `Switch.port`. */
  constructor({ inlet, fixedMac, queueBytes, queuePairs }: PortSettings) {
    this.#inlet = inlet
    this.fixedMac = fixedMac
    this.queuePairs = queuePairs
    this.#queues = Array.from({ length: queuePairs }, () => new FrameQueue(queueBytes))
  }

  /** What passed and what did not. */
  get counters(): PortCounters {
    return this.tally
  }

  /** Whether {@link close} has been called. */
  get closed(): boolean {
    return this.#isClosed
  }

  /** @internal Whether the guest receives. */
  get isUp(): boolean {
    return this.#receivers[0]?.isUp === true
  }

  /** `Net` calls this. @throws NetError ERR_NET_OPTION for a second device */
  attach(sink: NetworkSink): void {
    if (this.#sink !== undefined) {
      throw new NetError('ERR_NET_OPTION', 'this port of the switch has a device already: make one for each')
    }
    this.#sink = sink
    this.#receivers = sink.receivers
    if (this.#isClosed) sink.linkChanged(false)
  }

  configure(offloads: number, queuePairs: number): void {
    this.takes = offloads
    this.#pairs = queuePairs
    if (queuePairs > 0) return
    // What waits is for a driver that is gone.
    for (const queue of this.#queues) this.tally.dropped += queue.clear()
    this.#inlet.forget(this)
  }

  transmit(frame: NetFrame, pair: number): NetOutcome {
    if (this.#isClosed) return NET_DROPPED
    return this.#inlet.forward(frame, this, pair)
  }

  commit(): void {
    this.#inlet.flush()
  }

  refill(pair: number): void {
    const queue = this.#queues[pair]
    const receiver = this.#receivers[pair]
    if (queue === undefined || receiver === undefined) return
    while (queue.peek(this.#queued)) {
      const { length } = this.#queued
      const outcome = receiver.deliver(this.#queued)
      if (outcome === NET_BUSY) break
      queue.shift()
      this.#count(outcome, length)
    }
    receiver.flush()
  }

  /** @internal */
  put(frame: NetFrame, pair: number): void {
    const index = this.#pairs > 1 ? pair % this.#pairs : 0
    const receiver = this.#receivers[index]
    const queue = this.#queues[index]
    const { length } = frame
    let outcome: NetOutcome = NET_DROPPED
    if (receiver !== undefined && queue !== undefined) {
      // Those that wait come first.
      outcome = queue.count > 0 ? NET_BUSY : receiver.deliver(frame)
      if (outcome === NET_BUSY) {
        frame.rewind()
        if (queue.push(frame)) return
        outcome = NET_DROPPED
      }
    }
    this.#count(outcome, length)
  }

  /** @internal */
  flush(): void {
    for (let i = 0; i < this.#receivers.length; i += 1) this.#receivers[i]?.flush()
  }

  /** @internal */
  resume(): void {
    for (let pair = 0; pair < this.#pairs; pair += 1) this.#sink?.resume(pair)
  }

  /** Takes the port away: the guest's link goes down. Idempotent. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#inlet.remove(this)
    for (const queue of this.#queues) this.tally.dropped += queue.clear()
    this.#sink?.linkChanged(false)
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #count(outcome: NetOutcome, length: number): void {
    if (outcome !== NET_DONE) {
      this.tally.dropped += 1
      return
    }
    this.tally.framesOut += 1
    this.tally.bytesOut += length
  }
}
