/**
 * The device side of virtqueues: split and packed rings over guest memory (virtio 1.2, 2.6 to 2.8).
 * @packageDocumentation
 */
export { DescriptorChain } from './chain.ts'
export { ChainPool } from './chain-pool.ts'
export { ChainCursor } from './cursor.ts'
export type { VirtqueueErrorCode } from './errors.ts'
export { VirtqueueError } from './errors.ts'
export type { PopResult, VirtqueueFault, VirtqueueFaultCode } from './faults.ts'
export {
  faultOf,
  POP_AVAIL_INDEX,
  POP_BUFFER_ADDRESS,
  POP_CHAIN_LENGTH,
  POP_DIRECTION,
  POP_EMPTY,
  POP_HEAD_INDEX,
  POP_INDIRECT_ADDRESS,
  POP_INDIRECT_LENGTH,
  POP_INDIRECT_LINKED,
  POP_INDIRECT_NESTED,
  POP_INDIRECT_UNNEGOTIATED,
  POP_NEXT_INDEX,
  POP_OK,
  POP_TOTAL_LENGTH,
  POP_UNAVAILABLE,
} from './faults.ts'
export type { VirtqueueFeatures } from './features.ts'
export { virtqueueFeatures } from './features.ts'
export type { DirtyTracker, GuestMemory, GuestRegion } from './guest-memory.ts'
export { UNMAPPED } from './guest-memory.ts'
export { needEvent, needPackedEvent } from './need-event.ts'
export { Reader } from './reader.ts'
export { AddressRegister, VirtqueueRegisters } from './registers.ts'
export {
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_RING_RESET,
  VIRTQ_SIZE_MAX,
} from './spec.ts'
export type { SavedAddress, VirtqueueState } from './state.ts'
export type { Virtqueue, VirtqueuePosition } from './virtqueue.ts'
export { Writer } from './writer.ts'
