/**
 * The event that tells a restored guest that its connections are gone, and that its CID may be another one
 * (VIRTIO_VSOCK_EVENT_TRANSPORT_RESET, 5.10.6.7), and how the device learns that the guest has dealt with it: the driver gives
 * the buffer back. Nothing is sent to the guest before that. Where a packet and the event come at once, Linux looks at the packet
 * first: it makes a connection of a request, answers from its old CID, and then resets it with all the others.
 */
import { ChainPool, type DescriptorChain, POP_EMPTY, POP_OK, type Virtqueue } from '@vmm/virtio-queue'
import type { Timers } from '../../host.ts'

/** How long until the next look for the buffer, while packets wait, */
const LOOK_MS = 5
/** and how many looks until they are sent all the same: a driver may have no use for that buffer any more. */
const LOOKS_MAX = 1000

const NONE = 0
const DUE = 1
const SENT = 2

export class TransportReset {
  readonly #timers: Timers
  readonly #pool = new ChainPool()
  #stage: typeof NONE | typeof DUE | typeof SENT = NONE
  /** Buffers for events that the driver has left, once the event has taken one. */
  #left = 0
  #looks = 0
  #isLooking = false

  constructor(timers: Timers) {
    this.#timers = timers
  }

  /** The guest is to be told. */
  begin(): void {
    this.#stage = DUE
    this.#looks = 0
  }

  /** The guest has nothing to be told any more. */
  cancel(): void {
    this.#stage = NONE
  }

  /** The event has not been sent. */
  get isDue(): boolean {
    return this.#stage === DUE
  }

  /** The guest may not know yet. */
  get isUnderWay(): boolean {
    return this.#stage !== NONE
  }

  /** The event is in a buffer, which is about to be returned. */
  sent(queue: Virtqueue): void {
    this.#stage = SENT
    this.#left = this.#available(queue)
  }

  /** Whether packets can be sent. @param again called soon after where they cannot */
  isOver(queue: Virtqueue | undefined, again: () => void): boolean {
    if (this.#stage === SENT && queue !== undefined && this.#available(queue) > this.#left) this.#stage = NONE
    if (this.#stage === NONE || this.#looks === LOOKS_MAX) return true
    if (this.#isLooking) return false
    this.#looks += 1
    this.#isLooking = true
    this.#timers.after(LOOK_MS, () => {
      this.#isLooking = false
      again()
    })
    return false
  }

  /** Buffers that the driver has there: takes them, and puts them back. */
  #available(queue: Virtqueue): number {
    const taken: DescriptorChain[] = []
    for (;;) {
      const chain = this.#pool.take()
      const result = queue.pop(chain)
      if (result === POP_OK) {
        taken.push(chain)
        continue
      }
      // A malformed one is no use for events, either.
      if (result !== POP_EMPTY) queue.addUsed(chain)
      this.#pool.give(chain)
      break
    }
    let count = 0
    for (const chain of taken.reverse()) {
      // Those that a malformed one came after cannot go back into the ring: they are used, for nothing.
      if (queue.unpop(chain)) count += 1
      else queue.addUsed(chain)
      this.#pool.give(chain)
    }
    return count
  }
}
