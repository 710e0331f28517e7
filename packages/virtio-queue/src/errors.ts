/**
 * The one error class of this package. Thrown for misuse by the host; returned, never thrown, where a guest's
 * registers make no queue. What a driver does wrong in a running queue is in faults.ts.
 */

/** What went wrong. */
export type VirtqueueErrorCode =
  /** The driver has not made the queue ready. */
  | 'ERR_VIRTQ_NOT_READY'
  /** The size is 0, above the maximum, or not a power of two where it must be one. */
  | 'ERR_VIRTQ_SIZE'
  /** A part of the queue is not aligned as 2.7 or 2.8.10.1 ask. */
  | 'ERR_VIRTQ_ALIGNMENT'
  /** A part of the queue does not lie in one region of guest memory. */
  | 'ERR_VIRTQ_RING_ADDRESS'
  /** A saved state that no queue can have. */
  | 'ERR_VIRTQ_STATE'
  /** Chains are in flight, or used buffers are not published: the queue has no state to save. */
  | 'ERR_VIRTQ_BUSY'
  /** The chain still holds a request of this queue. */
  | 'ERR_VIRTQ_CHAIN_IN_FLIGHT'

/** A failure of this package. Match on `code`. */
export class VirtqueueError extends Error {
  override readonly name = 'VirtqueueError'
  readonly code: VirtqueueErrorCode
  /** The address or number at fault, where there is one. */
  readonly value: number | undefined

  constructor(code: VirtqueueErrorCode, message: string, value?: number) {
    super(message)
    this.code = code
    this.value = value
  }
}
