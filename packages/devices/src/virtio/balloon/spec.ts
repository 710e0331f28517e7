/** Numbers of the balloon device: virtio 1.2 section 5.5, as in <linux/virtio_balloon.h>. */

/** There is a queue for statistics (5.5.3). */
export const VIRTIO_BALLOON_F_STATS_VQ = 1
/** The guest may take pages back when it has no others. */
export const VIRTIO_BALLOON_F_DEFLATE_ON_OOM = 2
/** The guest says what its free pages contain. */
export const VIRTIO_BALLOON_F_PAGE_POISON = 4
/** There is a queue on which the guest reports free pages. */
export const VIRTIO_BALLOON_F_REPORTING = 5

/** Of the pages that the balloon counts in, whatever the guest's own are. In bytes. */
export const VIRTIO_BALLOON_PAGE_SIZE = 4096
/** The most pages that the configuration can tell. */
export const VIRTIO_BALLOON_PAGES_MAX = 0xffff_ffff

/** Offsets in the configuration space (5.5.4). */
export const CONFIG_NUM_PAGES_OFFSET = 0
export const CONFIG_ACTUAL_OFFSET = 4
export const CONFIG_POISON_VAL_OFFSET = 12
export const VIRTIO_BALLOON_CONFIG_SIZE = 16

export const INFLATE_QUEUE = 0
export const DEFLATE_QUEUE = 1
/** Where it is negotiated. */
export const STATS_QUEUE = 2

/** One statistic: le16 tag, le64 value, without padding (5.5.6.3). */
export const VIRTIO_BALLOON_STAT_SIZE = 10
