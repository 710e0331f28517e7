/** Packets of virtio-vsock as a driver writes and reads them (virtio 1.2, 5.10.6). Shares nothing with the device. */

const HEADER_BYTES = 44

/** A header; what is left out is 0, but for those that make a packet from guest 3 to the host. */
export interface MockVsockPacket {
  readonly srcCid: number | bigint
  readonly dstCid: number | bigint
  readonly srcPort: number
  readonly dstPort: number
  /** Default the payload's length. */
  readonly len: number
  readonly type: number
  readonly op: number
  readonly flags: number
  readonly bufAlloc: number
  readonly fwdCnt: number
  readonly payload: Uint8Array
}

/** The bytes of a header. */
export function encodeHeader(packet: MockVsockPacket): Uint8Array {
  const view = new DataView(new ArrayBuffer(HEADER_BYTES))
  view.setBigUint64(0, BigInt(packet.srcCid), true)
  view.setBigUint64(8, BigInt(packet.dstCid), true)
  view.setUint32(16, packet.srcPort, true)
  view.setUint32(20, packet.dstPort, true)
  view.setUint32(24, packet.len, true)
  view.setUint16(28, packet.type, true)
  view.setUint16(30, packet.op, true)
  view.setUint32(32, packet.flags, true)
  view.setUint32(36, packet.bufAlloc, true)
  view.setUint32(40, packet.fwdCnt, true)
  return new Uint8Array(view.buffer)
}

/** A packet in a buffer that the device has filled. Throws where it is none: a bug of the device. */
export function decodePacket(bytes: Uint8Array): MockVsockPacket {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const len = view.getUint32(24, true)
  if (bytes.length !== HEADER_BYTES + len) {
    throw new Error(`a packet of ${bytes.length} bytes says that its payload has ${len}`)
  }
  return {
    srcCid: Number(view.getBigUint64(0, true)),
    dstCid: Number(view.getBigUint64(8, true)),
    srcPort: view.getUint32(16, true),
    dstPort: view.getUint32(20, true),
    len,
    type: view.getUint16(28, true),
    op: view.getUint16(30, true),
    flags: view.getUint32(32, true),
    bufAlloc: view.getUint32(36, true),
    fwdCnt: view.getUint32(40, true),
    payload: bytes.slice(HEADER_BYTES),
  }
}
