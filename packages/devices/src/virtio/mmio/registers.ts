/** The register layout of virtio-mmio, version 2: virtio 1.2 section 4.2.2, as in <linux/virtio_mmio.h>. */

/** `virt`. */
export const VIRTIO_MMIO_MAGIC = 0x7472_6976
export const VIRTIO_MMIO_VERSION_2 = 2
/** `@VMM`: the subsystem vendor, which no driver matches on. */
export const VIRTIO_MMIO_VENDOR = 0x4d4d_5640

/** Read-only, unless noted. All registers are of 32 bits. */
export const VIRTIO_MMIO_MAGIC_VALUE = 0x000
export const VIRTIO_MMIO_VERSION = 0x004
export const VIRTIO_MMIO_DEVICE_ID = 0x008
export const VIRTIO_MMIO_VENDOR_ID = 0x00c
export const VIRTIO_MMIO_DEVICE_FEATURES = 0x010
/** Write-only. */
export const VIRTIO_MMIO_DEVICE_FEATURES_SEL = 0x014
/** Write-only. */
export const VIRTIO_MMIO_DRIVER_FEATURES = 0x020
/** Write-only. */
export const VIRTIO_MMIO_DRIVER_FEATURES_SEL = 0x024
/** Write-only. */
export const VIRTIO_MMIO_QUEUE_SEL = 0x030
export const VIRTIO_MMIO_QUEUE_NUM_MAX = 0x034
/** Write-only. */
export const VIRTIO_MMIO_QUEUE_NUM = 0x038
/** Read and write. */
export const VIRTIO_MMIO_QUEUE_READY = 0x044
/** Write-only. */
export const VIRTIO_MMIO_QUEUE_NOTIFY = 0x050
export const VIRTIO_MMIO_INTERRUPT_STATUS = 0x060
/** Write-only. */
export const VIRTIO_MMIO_INTERRUPT_ACK = 0x064
/** Read and write. */
export const VIRTIO_MMIO_STATUS = 0x070
/** Write-only, as the five that follow. */
export const VIRTIO_MMIO_QUEUE_DESC_LOW = 0x080
export const VIRTIO_MMIO_QUEUE_DESC_HIGH = 0x084
export const VIRTIO_MMIO_QUEUE_DRIVER_LOW = 0x090
export const VIRTIO_MMIO_QUEUE_DRIVER_HIGH = 0x094
export const VIRTIO_MMIO_QUEUE_DEVICE_LOW = 0x0a0
export const VIRTIO_MMIO_QUEUE_DEVICE_HIGH = 0x0a4
/** Write-only. */
export const VIRTIO_MMIO_SHM_SEL = 0x0ac
export const VIRTIO_MMIO_SHM_LEN_LOW = 0x0b0
export const VIRTIO_MMIO_SHM_LEN_HIGH = 0x0b4
export const VIRTIO_MMIO_SHM_BASE_LOW = 0x0b8
export const VIRTIO_MMIO_SHM_BASE_HIGH = 0x0bc
/** Read and write: 1 resets the selected queue. */
export const VIRTIO_MMIO_QUEUE_RESET = 0x0c0
export const VIRTIO_MMIO_CONFIG_GENERATION = 0x0fc
/** Where the device's configuration space begins. */
export const VIRTIO_MMIO_CONFIG = 0x100

/** InterruptStatus: the device has used a buffer. */
export const VIRTIO_MMIO_INT_VRING = 0b01
/** InterruptStatus: the configuration, or the status, has changed. */
export const VIRTIO_MMIO_INT_CONFIG = 0b10

/** Bytes of a device's registers and configuration space: one page, so that it can be a memory slot of its own. */
export const VIRTIO_MMIO_SIZE = 0x1000
