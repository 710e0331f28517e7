/** The commands of the control queue: virtio 1.2, 5.1.6.5. What is not here is answered with VIRTIO_NET_ERR. */
import { type DescriptorChain, Reader, Writer } from '@vmm/virtio-queue'
import * as spec from './spec.ts'

/** What commands do. Each returns whether it could. */
export interface ControlTarget {
  /** @param mac six bytes, used again for the next command */
  setMac(mac: Uint8Array): boolean
  acknowledgeAnnouncement(): boolean
  setQueuePairs(count: number): boolean
  /** @param features `VIRTIO_NET_F_GUEST_*` bits; `Infinity` for what is above 2^53 */
  setGuestOffloads(features: number): boolean
}

/** Takes commands apart. One for each device. */
export class ControlQueue {
  readonly #target: ControlTarget
  readonly #reader = new Reader()
  readonly #writer = new Writer()
  readonly #mac = new Uint8Array(spec.MAC_SIZE)

  constructor(target: ControlTarget) {
    this.#target = target
  }

  /**
   * Does what a chain says, and writes the answer: into its last byte.
   * @returns bytes that were written from the first writable one on; 0 where there is no place for the answer
   */
  serve(chain: DescriptorChain): number {
    const { writableBytes } = chain
    if (writableBytes === 0) return 0
    const writer = this.#writer.attach(chain)
    writer.skip(writableBytes - 1)
    writer.writeUint8(this.#run(this.#reader.attach(chain)) ? spec.VIRTIO_NET_OK : spec.VIRTIO_NET_ERR)
    return writableBytes === 1 ? 1 : 0
  }

  #run(reader: Reader): boolean {
    const commandClass = reader.readUint8()
    const command = reader.readUint8()
    switch (commandClass) {
      case spec.VIRTIO_NET_CTRL_MAC:
        if (command !== spec.VIRTIO_NET_CTRL_MAC_ADDR_SET || !reader.readFull(this.#mac)) return false
        return this.#target.setMac(this.#mac)
      case spec.VIRTIO_NET_CTRL_ANNOUNCE:
        return command === spec.VIRTIO_NET_CTRL_ANNOUNCE_ACK && this.#target.acknowledgeAnnouncement()
      case spec.VIRTIO_NET_CTRL_MQ: {
        const count = reader.readUint16()
        if (command !== spec.VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET || reader.failed) return false
        return this.#target.setQueuePairs(count)
      }
      case spec.VIRTIO_NET_CTRL_GUEST_OFFLOADS: {
        const features = reader.readUint64()
        if (command !== spec.VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET || reader.failed) return false
        return this.#target.setGuestOffloads(features)
      }
      default:
        return false
    }
  }
}
