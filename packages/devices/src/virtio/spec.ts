/**
 * Numbers common to every virtio device: virtio 1.2 sections 2.1 (status), 5 (device types) and 6 (features), as in
 * <linux/virtio_config.h> and <linux/virtio_ids.h>.
 */

/** Device status: the guest has noticed the device (2.1). */
export const VIRTIO_CONFIG_S_ACKNOWLEDGE = 0b0000_0001
/** The guest has a driver for it. */
export const VIRTIO_CONFIG_S_DRIVER = 0b0000_0010
/** The driver is set up; the device works. */
export const VIRTIO_CONFIG_S_DRIVER_OK = 0b0000_0100
/** The features are negotiated. */
export const VIRTIO_CONFIG_S_FEATURES_OK = 0b0000_1000
/** Set by the device: only a reset helps. */
export const VIRTIO_CONFIG_S_NEEDS_RESET = 0b0100_0000
/** Set by the driver: it has given up. */
export const VIRTIO_CONFIG_S_FAILED = 0b1000_0000

/** Device types (5). */
export const VIRTIO_ID_NET = 1
export const VIRTIO_ID_BLOCK = 2
export const VIRTIO_ID_CONSOLE = 3
export const VIRTIO_ID_RNG = 4
export const VIRTIO_ID_BALLOON = 5
export const VIRTIO_ID_VSOCK = 19
export const VIRTIO_ID_FS = 26

/** The device follows virtio 1.0 or later (6). */
export const VIRTIO_F_VERSION_1 = 32

/** One bit of a feature word. @param feature number of the feature, in either word */
export function featureBit(feature: number): number {
  return (1 << (feature % 32)) >>> 0
}
