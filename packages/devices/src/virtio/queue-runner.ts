/**
 * The loop of a device over one of its queues: takes chains, gives them to the device, returns them, and notifies, such
 * that no notification of either side is lost and no driver can keep the host's thread.
 *
 * A driver that has been answered is not asked for a notification at once, if it is likely to go on soon: the queue is looked at
 * instead, see `poller.ts`. The last look is `enableNotification`, as without polling: what came before it is found.
 */
import type { DescriptorChain, Virtqueue } from '@vmm/virtio-queue'
import { ChainPool, faultOf, POP_BUFFER_ADDRESS, POP_EMPTY, POP_OK } from '@vmm/virtio-queue'
import type { VirtioTransport } from './device.ts'
import { PollWindow } from './poll-window.ts'
import { LOOK_NOTHING, LOOK_OVER, LOOK_SERVED } from './poller.ts'

/** What {@link ChainHandler.serve} returns for a chain that it keeps, to be returned later. */
export const IN_FLIGHT = -1
/** What {@link ChainHandler.serve} returns for a chain that it cannot take now: the queue waits for `run`. */
export const BUSY = -2
/** What {@link ChainHandler.serve} returns for a chain that is to be served in a later turn: this one has had enough. */
export const LATER = -3

/** What a device does with chains. */
export interface ChainHandler {
  /**
   * Serves a chain.
   * @param chain whose it is until it is returned
   * @param queue for `QueueRunner.complete`, when this returns {@link IN_FLIGHT}
   * @param runner of that queue
   * @param isMapped false where a segment is `UNMAPPED`, outside guest memory
   * @returns bytes that were written, from the first writable byte on; or {@link IN_FLIGHT}, {@link BUSY}, {@link LATER}
   */
  serve(chain: DescriptorChain, queue: Virtqueue, runner: QueueRunner, isMapped: boolean): number

  /** A turn of the event loop begins, with up to a batch of chains: for devices that bound it in other ways, too. */
  beginTurn?(): void

  /** The chains that were there have been served: for devices that collect work. Before the driver is notified. */
  endBatch?(): void
}

/** {@link QueueRunner.served}: the driver does not owe anything. */
const NOT_IDLE = -1

/** The runner of one queue, for the device's life: across resets. */
export class QueueRunner {
  /** Of the queue. */
  readonly index: number
  readonly #transport: VirtioTransport
  readonly #handler: ChainHandler
  readonly #batch: number
  readonly #pool = new ChainPool()
  readonly #later: () => void = () => {
    this.#deferred = false
    this.run()
  }
  #deferred = false
  #running = false
  /** Asked to run while it does. */
  #again = false
  /** The device has to wait for something of the host's. */
  #isBusy = false
  /** Chains were returned that the driver was not shown before, or it was not given the time to follow them up. */
  #isAnswered = false
  /** Chains that were returned and not followed up by others. */
  #toFollow = 0
  #isPolled = false
  readonly #window: PollWindow
  /** When the driver had all its answers; {@link NOT_IDLE} where more is to be served without its doing. */
  #idleSince = NOT_IDLE
  /** @internal */
  deadline = 0

  /** @param batch the most chains to take in one turn of the event loop */
  constructor(transport: VirtioTransport, index: number, handler: ChainHandler, batch: number) {
    this.#transport = transport
    this.index = index
    this.#handler = handler
    this.#batch = batch
    this.#window = new PollWindow((transport.polling?.maxMicroseconds ?? 0) / 1000)
  }

  /** Serves what is there, up to a batch; what is left is served in a later turn. Call it upon a notification. */
  run(): void {
    const queue = this.#transport.queue(this.index)
    if (queue === undefined || this.#deferred) return
    this.#again = this.#running
    if (this.#running) return
    this.#running = true
    const polling = this.#transport.polling
    const now = polling === undefined || this.#idleSince === NOT_IDLE ? 0 : polling.poller.now()
    try {
      this.#handler.beginTurn?.()
      this.#serve(queue, now)
    } finally {
      this.#running = false
    }
  }

  /**
   * Returns a chain that was in flight. The driver sees it, and may be notified, with the next {@link flush}.
   * @param queue that it was taken from; the chain is dropped where that was reset
   * @param length bytes that were written
   */
  complete(chain: DescriptorChain, queue: Virtqueue, length: number): void {
    queue.pushUsed(chain, length)
    this.#pool.give(chain)
    this.#isAnswered = true
    this.#toFollow += 1
  }

  /** Whether a chain that was taken from `queue` can still be written to: the queue was not reset meanwhile. */
  isCurrent(queue: Virtqueue): boolean {
    return this.#transport.queue(this.index) === queue
  }

  /** Shows the driver what was completed. */
  flush(): void {
    const queue = this.#transport.queue(this.index)
    if (queue === undefined) return
    queue.publishUsed()
    if (queue.needsNotification()) this.#transport.interruptQueue(this.index)
    // Within a run its end sees to it.
    if (this.#isAnswered && !this.#running) this.#poll(queue)
  }

  /** @internal How long a driver may take to follow up. */
  get window(): number {
    return this.#window.length
  }

  /** @internal Chains are in flight. */
  get waitsForEvents(): boolean {
    return (this.#transport.queue(this.index)?.inFlight ?? 0) > 0
  }

  /** @internal */
  look(): number {
    const queue = this.#transport.queue(this.index)
    if (queue === undefined || !this.#transport.running || this.#deferred) {
      this.#isPolled = false
      return LOOK_OVER
    }
    this.#running = true
    this.#again = false
    try {
      this.#handler.beginTurn?.()
      const left = this.#take(queue, this.#batch)
      if (left === this.#batch) return LOOK_NOTHING
      this.#handler.endBatch?.()
      this.flush()
      this.#isPolled = !this.#ends(left)
      if (!this.#isPolled) return LOOK_OVER
      if (this.#isAnswered || this.#toFollow > 0) return LOOK_SERVED
      // All of it is under way, and the driver has nothing more to follow up: this was the last look.
      this.#idleSince = NOT_IDLE
      this.deadline = 0
      return LOOK_NOTHING
    } finally {
      this.#running = false
    }
  }

  /** @internal */
  served(now: number): void {
    this.#idleSince = now
    this.#isAnswered = false
  }

  /** @internal */
  rearm(): void {
    this.#isPolled = false
    const queue = this.#transport.queue(this.index)
    if (queue !== undefined && this.#transport.running && queue.enableNotification()) this.run()
  }

  #serve(queue: Virtqueue, now: number): void {
    let left = this.#batch
    do {
      const before = left
      queue.disableNotification()
      left = this.#take(queue, left)
      if (left !== before) {
        if (this.#idleSince !== NOT_IDLE) this.#window.note(now - this.#idleSince)
        this.#idleSince = NOT_IDLE
        this.#handler.endBatch?.()
      }
      // Another vCPU may show a chain and take it back, over and over: a look in vain counts as one.
      else left -= 1
      this.flush()
      if (this.#ends(left) || this.#poll(queue)) return
    } while (queue.enableNotification())
  }

  /** Takes chains until there are none, or the batch is over. @returns what is left of the batch */
  #take(queue: Virtqueue, batch: number): number {
    let left = batch
    this.#isBusy = false
    while (left > 0 && this.#transport.running) {
      const chain = this.#pool.take()
      const result = queue.pop(chain)
      if (result === POP_EMPTY) {
        this.#pool.give(chain)
        break
      }
      left -= 1
      if (this.#toFollow > 0) this.#toFollow -= 1
      if (result !== POP_OK) {
        const fault = faultOf(result)
        if (fault !== undefined) this.#transport.fault(fault, this.index)
        if (result !== POP_BUFFER_ADDRESS) {
          queue.pushUsed(chain)
          this.#pool.give(chain)
          continue
        }
      }
      const length = this.#handler.serve(chain, queue, this, result === POP_OK)
      if (length >= 0) {
        queue.pushUsed(chain, length)
        this.#pool.give(chain)
        this.#isAnswered = true
      } else if (length !== IN_FLIGHT) {
        queue.unpop(chain)
        this.#pool.give(chain)
        left = 0
        this.#isBusy = length === BUSY
      }
    }
    return left
  }

  /** Whether there is nothing more to do in this turn; sees to what is to be done in another. */
  #ends(left: number): boolean {
    if (!this.#transport.running) return true
    if (this.#isBusy ? this.#again : left === 0) {
      this.#deferred = true
      this.#transport.defer(this.#later)
    }
    return this.#isBusy || left === 0
  }

  /**
   * Has the queue looked at, if its driver has something to follow up and is quick to do so.
   * @returns whether it is looked at, and the driver need not be asked for a notification
   */
  #poll(queue: Virtqueue): boolean {
    const polling = this.#transport.polling
    if (polling === undefined || !this.#isAnswered || this.#deferred || this.#isBusy) return this.#isPolled
    const { poller } = polling
    const now = poller.now()
    this.served(now)
    this.deadline = now + this.window
    if (this.#isPolled) return true
    if (this.window === 0 || !poller.add(this, now)) return false
    queue.disableNotification()
    this.#isPolled = true
    return true
  }
}
