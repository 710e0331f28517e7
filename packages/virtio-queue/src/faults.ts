/**
 * What `Virtqueue.pop` may find: nothing, a chain, or a fault of the driver. Faults are small integers on the hot
 * path, since whatever a guest does must neither throw nor allocate; {@link faultOf} has the words for them.
 */

/** Nothing is available. */
export const POP_EMPTY = 0
/** A chain. */
export const POP_OK = 1
/** A chain with a buffer that is not, or not wholly, in guest memory. */
export const POP_BUFFER_ADDRESS = 2
/** A readable descriptor after a writable one. */
export const POP_DIRECTION = 3
/** More than 2^32 bytes in the buffers of a chain. */
export const POP_TOTAL_LENGTH = 4
/** `next` names no descriptor of the table. */
export const POP_NEXT_INDEX = 5
/** More descriptors than the queue has: a loop, for one. */
export const POP_CHAIN_LENGTH = 6
/** An indirect descriptor though the feature was not negotiated. */
export const POP_INDIRECT_UNNEGOTIATED = 7
/** An indirect descriptor in an indirect table. */
export const POP_INDIRECT_NESTED = 8
/** An indirect descriptor where the chain may not have one. */
export const POP_INDIRECT_LINKED = 9
/** An indirect table whose length makes no table. */
export const POP_INDIRECT_LENGTH = 10
/** An indirect table that is not in one region of guest memory. */
export const POP_INDIRECT_ADDRESS = 11
/** The available ring names a head that is no descriptor. */
export const POP_HEAD_INDEX = 12
/** More buffers are available than the queue can hold. */
export const POP_AVAIL_INDEX = 13
/** Packed: a list runs on into descriptors that are not available. */
export const POP_UNAVAILABLE = 14

/** What `Virtqueue.pop` returns: {@link POP_EMPTY}, {@link POP_OK}, or the number of a fault. */
export type PopResult = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 11 | 12 | 13 | 14

/** The stable name of a fault. */
export type VirtqueueFaultCode =
  | 'ERR_VIRTQ_BUFFER_ADDRESS'
  | 'ERR_VIRTQ_DIRECTION'
  | 'ERR_VIRTQ_TOTAL_LENGTH'
  | 'ERR_VIRTQ_NEXT_INDEX'
  | 'ERR_VIRTQ_CHAIN_LENGTH'
  | 'ERR_VIRTQ_INDIRECT_UNNEGOTIATED'
  | 'ERR_VIRTQ_INDIRECT_NESTED'
  | 'ERR_VIRTQ_INDIRECT_LINKED'
  | 'ERR_VIRTQ_INDIRECT_LENGTH'
  | 'ERR_VIRTQ_INDIRECT_ADDRESS'
  | 'ERR_VIRTQ_HEAD_INDEX'
  | 'ERR_VIRTQ_AVAIL_INDEX'
  | 'ERR_VIRTQ_UNAVAILABLE'

/** A driver's fault, in words. */
export interface VirtqueueFault {
  /** For programs to match on. */
  readonly code: VirtqueueFaultCode
  /**
   * Whether the device should set DEVICE_NEEDS_RESET (2.1.2) and stop serving the queue: the driver broke a MUST of
   * the ring format, and nothing says that what it writes next is any better. False where the device can answer the
   * request itself, with an error status.
   */
  readonly needsReset: boolean
  /** One sentence. */
  readonly message: string
}

const fault = (code: VirtqueueFaultCode, needsReset: boolean, message: string): VirtqueueFault =>
  Object.freeze({ code, needsReset, message })

const faults: readonly (VirtqueueFault | undefined)[] = Object.freeze([
  undefined,
  undefined,
  fault('ERR_VIRTQ_BUFFER_ADDRESS', false, 'a buffer is not in guest memory'),
  fault('ERR_VIRTQ_DIRECTION', true, 'a device-readable descriptor follows a device-writable one (2.7.4.2)'),
  fault('ERR_VIRTQ_TOTAL_LENGTH', true, 'the buffers of a chain have more than 2^32 bytes (2.7.5.2)'),
  fault('ERR_VIRTQ_NEXT_INDEX', true, 'the next descriptor is outside the table (2.7.5)'),
  fault('ERR_VIRTQ_CHAIN_LENGTH', true, 'a chain has more descriptors than the queue (2.7.5.3.1, 2.8.17)'),
  fault('ERR_VIRTQ_INDIRECT_UNNEGOTIATED', true, 'VIRTIO_F_INDIRECT_DESC was not negotiated (2.7.5.3.1)'),
  fault('ERR_VIRTQ_INDIRECT_NESTED', true, 'an indirect table has an indirect descriptor (2.7.5.3.1)'),
  fault('ERR_VIRTQ_INDIRECT_LINKED', true, 'an indirect descriptor is linked by NEXT (2.7.5.3.1, 2.8.19)'),
  fault('ERR_VIRTQ_INDIRECT_LENGTH', true, 'an indirect table is empty, odd or too long (2.7.5.3)'),
  fault('ERR_VIRTQ_INDIRECT_ADDRESS', true, 'an indirect table is not in one region of guest memory'),
  fault('ERR_VIRTQ_HEAD_INDEX', true, 'an available head is outside the descriptor table (2.7.6)'),
  fault('ERR_VIRTQ_AVAIL_INDEX', true, 'more buffers are available than the queue can hold (2.7.6.1)'),
  fault('ERR_VIRTQ_UNAVAILABLE', true, 'a list runs on into descriptors not made available (2.8.6)'),
])

/** The fault that a pop returned; undefined for {@link POP_EMPTY} and {@link POP_OK}. */
export function faultOf(result: PopResult): VirtqueueFault | undefined {
  return faults[result]
}
