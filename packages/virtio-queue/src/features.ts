/**
 * What the driver has negotiated, as far as queues are concerned.
 */
import { VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC, VIRTIO_F_RING_PACKED } from './spec.ts'

/** The features that change how a queue works. */
export interface VirtqueueFeatures {
  /** VIRTIO_F_RING_PACKED: the packed format instead of the split one. */
  readonly packed: boolean
  /** VIRTIO_F_EVENT_IDX: each side says at which buffer it wants the next notification. */
  readonly eventIndex: boolean
  /** VIRTIO_F_INDIRECT_DESC: a descriptor may hold a table of them. */
  readonly indirect: boolean
}

/**
 * The queue features among those negotiated.
 * @param low feature bits 0 to 31
 * @param high feature bits 32 to 63
 */
export function virtqueueFeatures(low: number, high: number): VirtqueueFeatures {
  return {
    packed: (high & (1 << (VIRTIO_F_RING_PACKED - 32))) !== 0,
    eventIndex: (low & (1 << VIRTIO_F_EVENT_IDX)) !== 0,
    indirect: (low & (1 << VIRTIO_F_INDIRECT_DESC)) !== 0,
  }
}
