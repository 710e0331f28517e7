/** Numbers of the socket device: virtio 1.2 section 5.10, as in <linux/virtio_vsock.h> and <linux/vm_sockets.h>. */

/** The queues, named for the driver's direction (5.10.2). */
export const VIRTIO_VSOCK_QUEUE_RX = 0
export const VIRTIO_VSOCK_QUEUE_TX = 1
export const VIRTIO_VSOCK_QUEUE_EVENT = 2

/** `struct virtio_vsock_config`: the guest's CID, 64 bits (5.10.4). */
export const VIRTIO_VSOCK_CONFIG_SIZE = 8

/** `struct virtio_vsock_hdr` (5.10.6). */
export const VIRTIO_VSOCK_HDR_SIZE = 44

export const VIRTIO_VSOCK_TYPE_STREAM = 1

export const VIRTIO_VSOCK_OP_REQUEST = 1
export const VIRTIO_VSOCK_OP_RESPONSE = 2
export const VIRTIO_VSOCK_OP_RST = 3
export const VIRTIO_VSOCK_OP_SHUTDOWN = 4
export const VIRTIO_VSOCK_OP_RW = 5
export const VIRTIO_VSOCK_OP_CREDIT_UPDATE = 6
export const VIRTIO_VSOCK_OP_CREDIT_REQUEST = 7

/** Flags of SHUTDOWN: who sends it receives no more, */
export const VIRTIO_VSOCK_SHUTDOWN_RCV = 0b01
/** or sends no more. */
export const VIRTIO_VSOCK_SHUTDOWN_SEND = 0b10
/** Both: the connection is at its end (5.10.6.5). */
export const VIRTIO_VSOCK_SHUTDOWN_BOTH = 0b11

/** All connections are gone, and the guest's CID may be another one (5.10.6.7). */
export const VIRTIO_VSOCK_EVENT_TRANSPORT_RESET = 0
/** `struct virtio_vsock_event`. */
export const VIRTIO_VSOCK_EVENT_SIZE = 4

/** The host's CID. */
export const VMADDR_CID_HOST = 2
/** Any CID, where one is asked for: nobody's. */
export const VMADDR_CID_ANY = 0xffff_ffff
/** Any port, where one is asked for: nobody's. */
export const VMADDR_PORT_ANY = 0xffff_ffff
