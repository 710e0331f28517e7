/**
 * The device side of a virtqueue, of either format. Made by `VirtqueueRegisters.activate`.
 */
import type { DescriptorChain } from './chain.ts'
import type { PopResult } from './faults.ts'
import type { VirtqueueFeatures } from './features.ts'

/**
 * Where a queue stands. Split: free-running indices, 0 to 65535. Packed: the index of a descriptor in bits 0 to 14
 * and the wrap counter in bit 15.
 */
export interface VirtqueuePosition {
  /** What the device takes next. */
  readonly nextAvail: number
  /** Where the device returns next. */
  readonly nextUsed: number
  /** Used buffers (split) or descriptors (packed) since the last decision on a notification. */
  readonly unnotified: number
}

/**
 * A queue in use. No method throws for anything a driver does, waits, or allocates.
 *
 * @example
 * ```ts
 * do {
 *   queue.disableNotification()
 *   for (;;) {
 *     const result = queue.pop(chain)
 *     if (result === POP_EMPTY) break
 *     if (result !== POP_OK && faultOf(result)?.needsReset) setNeedsReset()
 *     queue.addUsed(chain, result === POP_OK ? serve(chain) : 0)
 *   }
 *   if (queue.needsNotification()) interrupt.trigger()
 * } while (queue.enableNotification())
 * ```
 */
export interface Virtqueue {
  /** Entries. */
  readonly size: number
  /** What was negotiated of it. */
  readonly features: VirtqueueFeatures
  /**
   * The fault after which the queue gives nothing more until it is reset, `POP_EMPTY` for none. Those are the faults of
   * the ring itself, `POP_AVAIL_INDEX` and `POP_UNAVAILABLE`: there is no telling where the next chain begins. `pop`
   * returns it once and `POP_EMPTY` from then on.
   */
  readonly fault: PopResult
  /** Chains that are popped and not returned. Never above `size`, whatever the driver does. */
  readonly inFlight: number

  /**
   * Takes the next available chain. Every field of the guest's is read once.
   *
   * With any fault but those of the ring itself the driver's chain is taken too, and to be returned with
   * {@link addUsed}, with no segments and length 0: a malformed chain never stays in the way. After
   * `POP_BUFFER_ADDRESS` it has its segments, so that a device can put an error status where there is memory.
   * @param chain filled unless nothing is available
   * @throws VirtqueueError ERR_VIRTQ_CHAIN_IN_FLIGHT when the chain holds a request of this queue
   */
  pop(chain: DescriptorChain): PopResult

  /**
   * Undoes the last pop: for a device that cannot serve the chain yet. The driver may have changed it by the time it
   * is popped again.
   * @returns false, with nothing done, unless the chain was the last one popped and is still in flight
   */
  unpop(chain: DescriptorChain): boolean

  /**
   * Returns a chain to the driver and publishes it: {@link pushUsed} and {@link publishUsed}.
   * @param length bytes written from the first writable byte on; default 0
   * @returns as pushUsed
   */
  addUsed(chain: DescriptorChain, length?: number): boolean

  /**
   * Returns a chain to the driver, who does not see it before {@link publishUsed}. Chains may be returned in any
   * order.
   * @param length bytes written from the first writable byte on; default 0
   * @returns false, with nothing done, where the chain holds nothing to return: it was returned, the queue was
   * reset, or its head was not a descriptor (`POP_HEAD_INDEX`)
   */
  pushUsed(chain: DescriptorChain, length?: number): boolean

  /** Shows the driver all that was pushed: one index, or one descriptor's flags, for any number of chains. */
  publishUsed(): void

  /**
   * Whether the driver is to be notified of what was published since the last call, which decides on it: the second
   * of two calls is always false. Honours NO_INTERRUPT, `used_event` and the driver's event suppression structure.
   */
  needsNotification(): boolean

  /** Asks the driver for no notifications. A hint: they may come all the same. */
  disableNotification(): void

  /**
   * Asks the driver for a notification of the next buffer.
   * @returns true when one became available meanwhile, of which no notification may come: go on popping
   */
  enableNotification(): boolean

  /**
   * Ends this use of the queue, on reset of the device or of the queue (2.4, 2.6.1). From now on `pop` finds
   * nothing, chains in flight are not returned, and guest memory is neither read nor written.
   */
  reset(): void

  /**
   * Where the queue stands, to be saved.
   * @throws VirtqueueError ERR_VIRTQ_BUSY while chains are in flight or pushed and not published
   */
  position(): VirtqueuePosition
}

let lastTicket = 0

/** A number that no other activation of any queue has. */
export function newTicket(): number {
  lastTicket += 1
  return lastTicket
}
