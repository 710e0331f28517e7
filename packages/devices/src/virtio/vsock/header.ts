/** The header of a packet, `struct virtio_vsock_hdr` (virtio 1.2, 5.10.6): copied once, then judged. Reused. */
import type { Reader, Writer } from '@vmm/virtio-queue'
import { VIRTIO_VSOCK_HDR_SIZE, VIRTIO_VSOCK_TYPE_STREAM, VMADDR_CID_HOST } from './spec.ts'

/** A header that the guest has sent. */
export class PacketHeader {
  srcCid = 0
  dstCid = 0
  srcPort = 0
  dstPort = 0
  len = 0
  type = 0
  op = 0
  flags = 0
  bufAlloc = 0
  fwdCnt = 0

  /** @returns false where the chain has no whole header, or not in guest memory */
  read(reader: Reader): boolean {
    if (reader.available < VIRTIO_VSOCK_HDR_SIZE) return false
    this.srcCid = reader.readUint64()
    this.dstCid = reader.readUint64()
    this.srcPort = reader.readUint32()
    this.dstPort = reader.readUint32()
    this.len = reader.readUint32()
    this.type = reader.readUint16()
    this.op = reader.readUint16()
    this.flags = reader.readUint32()
    this.bufAlloc = reader.readUint32()
    this.fwdCnt = reader.readUint32()
    return !reader.failed
  }
}

/** Writes the packets of one device: {@link begin}, then {@link end}. */
export class HeaderWriter {
  readonly #guestCid: number

  constructor(guestCid: number) {
    this.#guestCid = guestCid
  }

  /** Who, to whom. The writer has room for a header. */
  begin(writer: Writer, hostPort: number, guestPort: number, len: number): void {
    writer.writeUint64(VMADDR_CID_HOST)
    writer.writeUint64(this.#guestCid)
    writer.writeUint32(hostPort)
    writer.writeUint32(guestPort)
    writer.writeUint32(len)
  }

  /** What. */
  end(
    writer: Writer,
    op: number,
    flags = 0,
    bufAlloc = 0,
    fwdCnt = 0,
    type: number = VIRTIO_VSOCK_TYPE_STREAM,
  ): void {
    writer.writeUint16(type)
    writer.writeUint16(op)
    writer.writeUint32(flags)
    writer.writeUint32(bufAlloc)
    writer.writeUint32(fwdCnt)
  }
}
