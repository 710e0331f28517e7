/**
 * The loop of a device over one of its queues: takes chains, gives them to the device, returns them, and notifies, such
 * that no notification of either side is lost and no driver can keep the host's thread.
 */
import type { DescriptorChain, Virtqueue } from '@vmm/virtio-queue'
import { ChainPool, faultOf, POP_BUFFER_ADDRESS, POP_EMPTY, POP_OK } from '@vmm/virtio-queue'
import type { VirtioTransport } from './device.ts'

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

  /** @param batch the most chains to take in one turn of the event loop */
  constructor(transport: VirtioTransport, index: number, handler: ChainHandler, batch: number) {
    this.#transport = transport
    this.index = index
    this.#handler = handler
    this.#batch = batch
  }

  /** Serves what is there, up to a batch; what is left is served in a later turn. Call it upon a notification. */
  run(): void {
    const queue = this.#transport.queue(this.index)
    if (queue === undefined || this.#deferred) return
    this.#again = this.#running
    if (this.#running) return
    this.#running = true
    try {
      this.#handler.beginTurn?.()
      this.#serve(queue)
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
  }

  #serve(queue: Virtqueue): void {
    let left = this.#batch
    let isBusy = false
    do {
      const before = left
      queue.disableNotification()
      while (left > 0 && this.#transport.running) {
        const chain = this.#pool.take()
        const result = queue.pop(chain)
        if (result === POP_EMPTY) {
          this.#pool.give(chain)
          break
        }
        left -= 1
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
        } else if (length !== IN_FLIGHT) {
          queue.unpop(chain)
          this.#pool.give(chain)
          left = 0
          isBusy = length === BUSY
        }
      }
      if (left !== before) this.#handler.endBatch?.()
      // Another vCPU may show a chain and take it back, over and over: a look in vain counts as one.
      else left -= 1
      this.flush()
      if (!this.#transport.running) return
      if (isBusy ? this.#again : left === 0) {
        this.#deferred = true
        this.#transport.defer(this.#later)
      }
      if (isBusy || left === 0) return
    } while (queue.enableNotification())
  }
}
