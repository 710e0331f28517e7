/** The feature bits that are a transport's to offer, whatever the device (virtio 1.2, section 6). */
import {
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_RING_RESET,
} from '@vmm/virtio-queue'
import { featureBit, VIRTIO_F_VERSION_1 } from './spec.ts'

/** Bits 24 to 31 are not the device type's. */
export const DEVICE_FEATURES_LOW_MASK = 0x00ff_ffff
/** Nor are bits 32 to 49. */
export const DEVICE_FEATURES_HIGH_MASK = 0xfffc_0000

/** What a transport offers for the queues. */
export interface QueueFeatureOptions {
  /** VIRTIO_F_INDIRECT_DESC; default true. */
  readonly indirect?: boolean | undefined
  /** VIRTIO_F_EVENT_IDX; default true. */
  readonly eventIndex?: boolean | undefined
  /** VIRTIO_F_RING_PACKED; default false: the split ring costs less here. */
  readonly packed?: boolean | undefined
  /** VIRTIO_F_RING_RESET; default true. */
  readonly ringReset?: boolean | undefined
}

/** Bits 0 to 31 of what a transport offers for the queues. */
export function queueFeaturesLow(options: QueueFeatureOptions): number {
  const { indirect = true, eventIndex = true } = options
  const bits =
    (indirect ? featureBit(VIRTIO_F_INDIRECT_DESC) : 0) | (eventIndex ? featureBit(VIRTIO_F_EVENT_IDX) : 0)
  return bits >>> 0
}

/** Bits 32 to 63 of what a transport offers. */
export function queueFeaturesHigh(options: QueueFeatureOptions): number {
  const { packed = false, ringReset = true } = options
  const bits =
    featureBit(VIRTIO_F_VERSION_1) |
    (packed ? featureBit(VIRTIO_F_RING_PACKED) : 0) |
    (ringReset ? featureBit(VIRTIO_F_RING_RESET) : 0)
  return bits >>> 0
}
