/** The network device's numbers: virtio 1.2 section 5.1, as in <linux/virtio_net.h>. */

/** Features (5.1.3). */
export const VIRTIO_NET_F_CSUM = 0
export const VIRTIO_NET_F_GUEST_CSUM = 1
export const VIRTIO_NET_F_CTRL_GUEST_OFFLOADS = 2
export const VIRTIO_NET_F_MTU = 3
export const VIRTIO_NET_F_MAC = 5
export const VIRTIO_NET_F_GUEST_TSO4 = 7
export const VIRTIO_NET_F_GUEST_TSO6 = 8
export const VIRTIO_NET_F_GUEST_ECN = 9
export const VIRTIO_NET_F_HOST_TSO4 = 11
export const VIRTIO_NET_F_HOST_TSO6 = 12
export const VIRTIO_NET_F_HOST_ECN = 13
export const VIRTIO_NET_F_MRG_RXBUF = 15
export const VIRTIO_NET_F_STATUS = 16
export const VIRTIO_NET_F_CTRL_VQ = 17
export const VIRTIO_NET_F_GUEST_ANNOUNCE = 21
export const VIRTIO_NET_F_MQ = 22
export const VIRTIO_NET_F_CTRL_MAC_ADDR = 23

/** In `status` of the configuration space (5.1.4). */
export const VIRTIO_NET_S_LINK_UP = 0b01
export const VIRTIO_NET_S_ANNOUNCE = 0b10

/** In `flags` of the header (5.1.6): the checksum from `csum_start` on is the receiver's to complete; or was verified. */
export const VIRTIO_NET_HDR_F_NEEDS_CSUM = 0b01
export const VIRTIO_NET_HDR_F_DATA_VALID = 0b10

/** `gso_type` of the header. */
export const VIRTIO_NET_HDR_GSO_NONE = 0
export const VIRTIO_NET_HDR_GSO_TCPV4 = 1
export const VIRTIO_NET_HDR_GSO_TCPV6 = 4
/** Beside one of the types. */
export const VIRTIO_NET_HDR_GSO_ECN = 0x80

/** `struct virtio_net_hdr_v1`: what comes before each frame, in both directions. */
export const VIRTIO_NET_HDR_SIZE = 12
export const HDR_FLAGS_OFFSET = 0
export const HDR_GSO_TYPE_OFFSET = 1
export const HDR_LEN_OFFSET = 2
export const HDR_GSO_SIZE_OFFSET = 4
export const HDR_CSUM_START_OFFSET = 6
export const HDR_CSUM_OFFSET_OFFSET = 8
export const HDR_NUM_BUFFERS_OFFSET = 10

/** Commands of the control queue (5.1.6.5): class and command. */
export const VIRTIO_NET_CTRL_MAC = 1
export const VIRTIO_NET_CTRL_MAC_ADDR_SET = 1
export const VIRTIO_NET_CTRL_ANNOUNCE = 3
export const VIRTIO_NET_CTRL_ANNOUNCE_ACK = 0
export const VIRTIO_NET_CTRL_MQ = 4
export const VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET = 0
export const VIRTIO_NET_CTRL_GUEST_OFFLOADS = 5
export const VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET = 0

/** The device's answer to a command. */
export const VIRTIO_NET_OK = 0
export const VIRTIO_NET_ERR = 1

/** `struct virtio_net_config` (5.1.4), as far as features here show it. */
export const VIRTIO_NET_CONFIG_SIZE = 12
export const CONFIG_MAC_OFFSET = 0
export const CONFIG_STATUS_OFFSET = 6
export const CONFIG_MAX_VIRTQUEUE_PAIRS_OFFSET = 8
export const CONFIG_MTU_OFFSET = 10

/** An Ethernet address, and the header of a frame: two of them and the type. In bytes. */
export const MAC_SIZE = 6
export const ETHERNET_HEADER_SIZE = 14
/** What VLAN tags may add to a frame: two of them. */
export const VLAN_TAGS_SIZE = 8
/** The longest frame: one IP packet of 65535 bytes, or a piece of TCP stream as long, in Ethernet. */
export const FRAME_BYTES_MAX: number = 65535 + ETHERNET_HEADER_SIZE + VLAN_TAGS_SIZE
