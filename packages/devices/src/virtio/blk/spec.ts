/** The block device's numbers: virtio 1.2 section 5.2, as in <linux/virtio_blk.h>. */

/** Unit of capacity and of positions, whatever the block size. In bytes. */
export const SECTOR_SIZE = 512

/** Features (5.2.3). */
export const VIRTIO_BLK_F_SIZE_MAX = 1
export const VIRTIO_BLK_F_SEG_MAX = 2
export const VIRTIO_BLK_F_RO = 5
export const VIRTIO_BLK_F_BLK_SIZE = 6
export const VIRTIO_BLK_F_FLUSH = 9
export const VIRTIO_BLK_F_TOPOLOGY = 10
export const VIRTIO_BLK_F_CONFIG_WCE = 11
export const VIRTIO_BLK_F_MQ = 12
export const VIRTIO_BLK_F_DISCARD = 13
export const VIRTIO_BLK_F_WRITE_ZEROES = 14

/** Types of requests (5.2.6). */
export const VIRTIO_BLK_T_IN = 0
export const VIRTIO_BLK_T_OUT = 1
export const VIRTIO_BLK_T_FLUSH = 4
export const VIRTIO_BLK_T_GET_ID = 8
export const VIRTIO_BLK_T_DISCARD = 11
export const VIRTIO_BLK_T_WRITE_ZEROES = 13

/** Status: the last byte of each request. */
export const VIRTIO_BLK_S_OK = 0
export const VIRTIO_BLK_S_IOERR = 1
export const VIRTIO_BLK_S_UNSUPP = 2

/** `type`, `reserved`, le32 each; `sector`, le64. */
export const VIRTIO_BLK_HEADER_SIZE = 16
/** Bytes of the device's ID string, which need not end in a NUL. */
export const VIRTIO_BLK_ID_BYTES = 20
/** A range to discard or zero: `sector`, le64; `num_sectors` and `flags`, le32 each. */
export const VIRTIO_BLK_RANGE_SIZE = 16
/** In such a range's flags: a zeroed range may be deallocated. */
export const VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP = 0b1

/** `struct virtio_blk_config` (5.2.4), as far as features here show it. */
export const VIRTIO_BLK_CONFIG_SIZE = 60
export const CONFIG_CAPACITY_OFFSET = 0
export const CONFIG_SIZE_MAX_OFFSET = 8
export const CONFIG_SEG_MAX_OFFSET = 12
export const CONFIG_BLK_SIZE_OFFSET = 20
export const CONFIG_PHYSICAL_BLOCK_EXP_OFFSET = 24
export const CONFIG_MIN_IO_SIZE_OFFSET = 26
export const CONFIG_OPT_IO_SIZE_OFFSET = 28
export const CONFIG_WRITEBACK_OFFSET = 32
export const CONFIG_NUM_QUEUES_OFFSET = 34
export const CONFIG_MAX_DISCARD_SECTORS_OFFSET = 36
export const CONFIG_MAX_DISCARD_SEG_OFFSET = 40
export const CONFIG_DISCARD_SECTOR_ALIGNMENT_OFFSET = 44
export const CONFIG_MAX_WRITE_ZEROES_SECTORS_OFFSET = 48
export const CONFIG_MAX_WRITE_ZEROES_SEG_OFFSET = 52
export const CONFIG_WRITE_ZEROES_MAY_UNMAP_OFFSET = 56
