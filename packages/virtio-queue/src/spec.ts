/**
 * Layouts and constants of the virtqueues: virtio 1.2 sections 2.7 (split) and 2.8 (packed), as in
 * <linux/virtio_ring.h>. All fields are little-endian.
 */

/** Bytes to a descriptor, in both kinds of ring and in indirect tables (2.7.5, 2.8.13). */
export const VIRTQ_DESC_SIZE = 16
/** `addr`: le64, guest-physical. */
export const VIRTQ_DESC_ADDR_OFFSET = 0
/** `len`: le32, in bytes. */
export const VIRTQ_DESC_LEN_OFFSET = 8
/** Split: `flags`, le16. */
export const VIRTQ_DESC_FLAGS_OFFSET = 12
/** Split: `next`, le16. */
export const VIRTQ_DESC_NEXT_OFFSET = 14
/** Packed: the buffer's `id`, le16. */
export const PVIRTQ_DESC_ID_OFFSET = 12
/** Packed: `flags`, le16. */
export const PVIRTQ_DESC_FLAGS_OFFSET = 14

/** The buffer goes on in another descriptor. */
export const VIRTQ_DESC_F_NEXT = 0b001
/** The device writes to it; otherwise the device reads it. */
export const VIRTQ_DESC_F_WRITE = 0b010
/** It holds a table of descriptors. */
export const VIRTQ_DESC_F_INDIRECT = 0b100
/** Packed: made available when equal to the driver's wrap counter, with {@link VIRTQ_DESC_F_USED} its inverse. */
export const VIRTQ_DESC_F_AVAIL: number = 1 << 7
/** Packed: used when equal to the device's wrap counter, with {@link VIRTQ_DESC_F_AVAIL} equal too. */
export const VIRTQ_DESC_F_USED: number = 1 << 15

/** The available ring: `flags`, `idx`, `ring[size]`, `used_event`, each le16 (2.7.6). */
export const VIRTQ_AVAIL_FLAGS_OFFSET = 0
export const VIRTQ_AVAIL_IDX_OFFSET = 2
export const VIRTQ_AVAIL_RING_OFFSET = 4
/** The driver wants no notification of used buffers; meaningless with EVENT_IDX. */
export const VIRTQ_AVAIL_F_NO_INTERRUPT = 1

/** The used ring: `flags` and `idx`, le16, `ring[size]` of 8 bytes, `avail_event`, le16 (2.7.8). */
export const VIRTQ_USED_FLAGS_OFFSET = 0
export const VIRTQ_USED_IDX_OFFSET = 2
export const VIRTQ_USED_RING_OFFSET = 4
/** An element of the used ring: `id` and `len`, le32 each. */
export const VIRTQ_USED_ELEM_SIZE = 8
export const VIRTQ_USED_ELEM_ID_OFFSET = 0
export const VIRTQ_USED_ELEM_LEN_OFFSET = 4
/** The device wants no notification of available buffers; always 0 with EVENT_IDX. */
export const VIRTQ_USED_F_NO_NOTIFY = 1

/** Packed: an event suppression structure, `desc` and `flags`, le16 each (2.8.14). */
export const PVIRTQ_EVENT_SIZE = 4
export const PVIRTQ_EVENT_DESC_OFFSET = 0
export const PVIRTQ_EVENT_FLAGS_OFFSET = 2
/** Every change of the ring is notified. */
export const RING_EVENT_FLAGS_ENABLE = 0
/** No change of the ring is notified. */
export const RING_EVENT_FLAGS_DISABLE = 1
/** The change of one descriptor is notified, the one that `desc` names; only with EVENT_IDX. */
export const RING_EVENT_FLAGS_DESC = 2
/** Where `desc` holds the wrap counter; the 15 bits below are the descriptor's index. */
export const RING_EVENT_WRAP_SHIFT = 15

/** The largest queue of either kind. */
export const VIRTQ_SIZE_MAX = 32768

/** Feature bits that concern queues (6). */
export const VIRTIO_F_INDIRECT_DESC = 28
export const VIRTIO_F_EVENT_IDX = 29
export const VIRTIO_F_RING_PACKED = 34
export const VIRTIO_F_IN_ORDER = 35
export const VIRTIO_F_RING_RESET = 40

/** Bytes of a split queue's available ring, `used_event` included. */
export function availRingBytes(size: number): number {
  return 6 + 2 * size
}

/** Bytes of a split queue's used ring, `avail_event` included. */
export function usedRingBytes(size: number): number {
  return 6 + VIRTQ_USED_ELEM_SIZE * size
}
