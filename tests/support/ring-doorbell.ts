/**
 * Machine code of the smallest virtio driver: it starts the first device with one queue that is empty, and rings its doorbell.
 */
import {
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_F_VERSION_1,
  VIRTIO_MMIO_BASE,
} from '@vmm/devices/virtio'
import * as register from '../../packages/devices/src/virtio/mmio/registers.ts'

const QUEUE_SIZE = 4
const PAGE_SIZE = 4096
const PROBED = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER
const NEGOTIATED = PROBED | VIRTIO_CONFIG_S_FEATURES_OK

const word = (value: number): number[] => [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff)
/** movl $value, offset(%rbx) */
const store = (offset: number, value: number): number[] => [0xc7, 0x83, ...word(offset), ...word(value)]

/** @param ring guest address of three pages of zeros */
export const ringDoorbell = (ring: number): number[] => [
  ...[0xbb, ...word(VIRTIO_MMIO_BASE)], // mov $VIRTIO_MMIO_BASE, %ebx
  ...store(register.VIRTIO_MMIO_STATUS, PROBED),
  ...store(register.VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1),
  ...store(register.VIRTIO_MMIO_DRIVER_FEATURES, 1 << (VIRTIO_F_VERSION_1 - 32)),
  ...store(register.VIRTIO_MMIO_STATUS, NEGOTIATED),
  ...store(register.VIRTIO_MMIO_QUEUE_NUM, QUEUE_SIZE),
  ...store(register.VIRTIO_MMIO_QUEUE_DESC_LOW, ring),
  ...store(register.VIRTIO_MMIO_QUEUE_DRIVER_LOW, ring + PAGE_SIZE),
  ...store(register.VIRTIO_MMIO_QUEUE_DEVICE_LOW, ring + 2 * PAGE_SIZE),
  ...store(register.VIRTIO_MMIO_QUEUE_READY, 1),
  ...store(register.VIRTIO_MMIO_STATUS, NEGOTIATED | VIRTIO_CONFIG_S_DRIVER_OK),
  ...store(register.VIRTIO_MMIO_QUEUE_NOTIFY, 0),
]
