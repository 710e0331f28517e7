/** Numbers of the console device: virtio 1.2 section 5.3, as in <linux/virtio_console.h>. */

/** The device has a size for its first port, and sends others their own (5.3.3). */
export const VIRTIO_CONSOLE_F_SIZE = 0
/** There are several ports, and control queues. */
export const VIRTIO_CONSOLE_F_MULTIPORT = 1
/** A character can be written through the configuration space, before there is a driver. */
export const VIRTIO_CONSOLE_F_EMERG_WRITE = 2

/** Offsets in the configuration space (5.3.4). */
export const CONFIG_COLS_OFFSET = 0
export const CONFIG_ROWS_OFFSET = 2
export const CONFIG_MAX_NR_PORTS_OFFSET = 4
export const CONFIG_EMERG_WR_OFFSET = 8
export const VIRTIO_CONSOLE_CONFIG_SIZE = 12

/** Events of control messages (5.3.6.2). */
export const VIRTIO_CONSOLE_DEVICE_READY = 0
export const VIRTIO_CONSOLE_PORT_ADD = 1
export const VIRTIO_CONSOLE_PORT_REMOVE = 2
export const VIRTIO_CONSOLE_PORT_READY = 3
export const VIRTIO_CONSOLE_CONSOLE_PORT = 4
export const VIRTIO_CONSOLE_RESIZE = 5
export const VIRTIO_CONSOLE_PORT_OPEN = 6
export const VIRTIO_CONSOLE_PORT_NAME = 7

/** A control message without what some have behind it: le32 id, le16 event, le16 value. */
export const CONTROL_SIZE = 8
/** What stands behind a RESIZE: le16 columns, le16 rows. */
export const RESIZE_SIZE = 4

/** The queues (5.3.2): port 0 has the first two, then come those for control. */
export const CONTROL_RECEIVE_QUEUE = 2
export const CONTROL_TRANSMIT_QUEUE = 3

/** The queue on which a port gets its input. The one behind it is for its output. */
export function receiveQueueOf(port: number): number {
  return port === 0 ? 0 : 2 * port + 2
}
