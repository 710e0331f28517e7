/**
 * Does in software what a frame leaves to its receiver, for receivers that do not take such frames: completes checksums, and
 * cuts TCP stream into packets. The frame is copied first, and its headers are judged in the copy: a guest can change
 * neither of them any more. Rules: virtio 1.2, 5.1.6.2; what goes into each packet: as `tcp_gso_segment` of Linux has it.
 */
import {
  ETHERNET_HEADER_SIZE,
  FRAME_BYTES_MAX,
  NET_OFFLOAD_CSUM,
  NET_OFFLOAD_ECN,
  NET_OFFLOAD_TSO4,
  NET_OFFLOAD_TSO6,
  type NetFrame,
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_GSO_ECN,
  VIRTIO_NET_HDR_GSO_NONE,
  VIRTIO_NET_HDR_GSO_TCPV4,
} from '@vmm/devices/virtio'
import { checksum, fold, sumWords } from './checksum.ts'

const ETHERTYPE_OFFSET = 12
const ETHERTYPE_IPV4 = 0x0800
const ETHERTYPE_IPV6 = 0x86dd
const ETHERTYPES_VLAN: readonly number[] = [0x8100, 0x88a8]
const VLAN_TAG_SIZE = 4

const IPV4_HEADER_MIN = 20
const IPV4_LENGTH_OFFSET = 2
const IPV4_ID_OFFSET = 4
const IPV4_CHECKSUM_OFFSET = 10
const IPV6_HEADER_SIZE = 40
const IPV6_LENGTH_OFFSET = 4

const TCP_HEADER_MIN = 20
const TCP_SEQUENCE_OFFSET = 4
const TCP_DATA_OFFSET_OFFSET = 12
const TCP_FLAGS_OFFSET = 13
const TCP_CHECKSUM_OFFSET = 16
const TCP_FIN = 0b0000_0001
const TCP_PSH = 0b0000_1000
const TCP_CWR = 0b1000_0000

/**
 * The most packets of a frame. With packets as small as IPv4 must carry everywhere (576 bytes) 64 KiB make 125; a guest that asks for
 * packets of a byte has no other aim than to keep the host busy.
 */
const PACKETS_MAX = 256

/** `NET_OFFLOAD_*` that a receiver must take for a frame to go as it is. */
export function offloadsOf(frame: NetFrame): number {
  const { flags, gsoType } = frame
  const sum = (flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) === 0 ? 0 : NET_OFFLOAD_CSUM
  if (gsoType === VIRTIO_NET_HDR_GSO_NONE) return sum
  const isIpv4 = (gsoType & ~VIRTIO_NET_HDR_GSO_ECN) === VIRTIO_NET_HDR_GSO_TCPV4
  const ecn = (gsoType & VIRTIO_NET_HDR_GSO_ECN) === 0 ? 0 : NET_OFFLOAD_ECN
  return NET_OFFLOAD_CSUM | (isIpv4 ? NET_OFFLOAD_TSO4 : NET_OFFLOAD_TSO6) | ecn
}

/**
 * One for each switch. {@link begin} takes a frame, {@link next} gives the plain ones that it makes, one after another.
 */
export class Completion {
  readonly #whole = new Uint8Array(FRAME_BYTES_MAX)
  readonly #view = new DataView(this.#whole.buffer)
  readonly #packet = new Uint8Array(FRAME_BYTES_MAX)
  readonly #packetView = new DataView(this.#packet.buffer)
  #length = 0
  #isStream = false
  /** Where the IP header and the TCP header begin, and where the payload does. */
  #network = 0
  #transport = 0
  #payload = 0
  #isIpv4 = false
  #size = 0
  /** Of payload: where the next packet begins. */
  #at = 0
  #packets = 0

  /**
   * Takes a frame, from its first byte on.
   * @returns false where it is not what its header says: it is to be dropped
   */
  begin(frame: NetFrame): boolean {
    const { flags, gsoType, gsoSize, csumStart, csumOffset } = frame
    frame.rewind()
    this.#length = frame.copyTo(this.#whole)
    this.#at = 0
    this.#packets = 0
    this.#isStream = gsoType !== VIRTIO_NET_HDR_GSO_NONE
    if (this.#isStream) {
      this.#isIpv4 = (gsoType & ~VIRTIO_NET_HDR_GSO_ECN) === VIRTIO_NET_HDR_GSO_TCPV4
      this.#size = gsoSize
      return this.#parse(csumStart, csumOffset)
    }
    if ((flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) === 0) return true
    const at = csumStart + csumOffset
    if (at + 2 > this.#length) return false
    // The field holds the sum of what is not in the frame, and counts with the rest. 0 would say that there is no checksum (UDP).
    const sum = checksum(sumWords(this.#view, csumStart, this.#length - csumStart))
    this.#view.setUint16(at, sum === 0 ? 0xffff : sum)
    return true
  }

  /**
   * The next plain frame.
   * @param frame becomes it, until the next call
   * @returns false where there are no more
   */
  next(frame: NetFrame): boolean {
    if (!this.#isStream) {
      if (this.#packets > 0) return false
      this.#packets = 1
      frame.setBytes(this.#whole, 0, this.#length)
      return true
    }
    const total = this.#length - this.#payload
    if (this.#at >= total && this.#packets > 0) return false
    const size = Math.min(this.#size, total - this.#at)
    this.#write(size, this.#at + size >= total)
    frame.setBytes(this.#packet, 0, this.#payload + size)
    this.#at += size
    this.#packets += 1
    return true
  }

  /** Finds the headers. The checksum starts where the TCP header does, whatever extensions are in between. */
  #parse(csumStart: number, csumOffset: number): boolean {
    const view = this.#view
    let at = ETHERTYPE_OFFSET
    for (let tags = 0; tags < 2 && ETHERTYPES_VLAN.includes(view.getUint16(at)); tags += 1)
      at += VLAN_TAG_SIZE
    const network = at + ETHERNET_HEADER_SIZE - ETHERTYPE_OFFSET
    this.#network = network
    this.#transport = csumStart
    if (csumOffset !== TCP_CHECKSUM_OFFSET || csumStart + TCP_HEADER_MIN > this.#length) return false
    if (view.getUint16(at) !== (this.#isIpv4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6)) return false
    const first = view.getUint8(network)
    const headerSize = this.#isIpv4 ? 4 * (first & 0xf) : IPV6_HEADER_SIZE
    if (first >>> 4 !== (this.#isIpv4 ? 4 : 6) || headerSize < IPV4_HEADER_MIN) return false
    if (this.#isIpv4 ? network + headerSize !== csumStart : network + headerSize > csumStart) return false
    const tcpSize = 4 * (view.getUint8(csumStart + TCP_DATA_OFFSET_OFFSET) >>> 4)
    this.#payload = csumStart + tcpSize
    if (tcpSize < TCP_HEADER_MIN || this.#payload > this.#length) return false
    return this.#length - this.#payload <= PACKETS_MAX * this.#size
  }

  #write(size: number, isLast: boolean): void {
    const length = this.#payload + size
    const bytes = this.#packet
    const view = this.#packetView
    const network = this.#network
    const tcp = this.#transport
    bytes.set(this.#whole.subarray(0, this.#payload))
    bytes.set(this.#whole.subarray(this.#payload + this.#at, this.#payload + this.#at + size), this.#payload)
    if (this.#isIpv4) {
      view.setUint16(network + IPV4_LENGTH_OFFSET, length - network)
      view.setUint16(
        network + IPV4_ID_OFFSET,
        (view.getUint16(network + IPV4_ID_OFFSET) + this.#packets) & 0xffff,
      )
      view.setUint16(network + IPV4_CHECKSUM_OFFSET, 0)
      view.setUint16(network + IPV4_CHECKSUM_OFFSET, checksum(sumWords(view, network, tcp - network)))
    } else view.setUint16(network + IPV6_LENGTH_OFFSET, length - network - IPV6_HEADER_SIZE)
    const sequence = view.getUint32(tcp + TCP_SEQUENCE_OFFSET)
    view.setUint32(tcp + TCP_SEQUENCE_OFFSET, (sequence + this.#at) >>> 0)
    let flags = view.getUint8(tcp + TCP_FLAGS_OFFSET)
    if (!isLast) flags &= ~(TCP_FIN | TCP_PSH)
    if (this.#packets > 0) flags &= ~TCP_CWR
    view.setUint8(tcp + TCP_FLAGS_OFFSET, flags)
    // The field holds the sum of the pseudo header, with the length of the whole stream: that of the packet takes its place.
    const pseudo = view.getUint16(tcp + TCP_CHECKSUM_OFFSET)
    const stream = this.#length - tcp
    view.setUint16(tcp + TCP_CHECKSUM_OFFSET, fold(pseudo + (~fold(stream) & 0xffff) + (length - tcp)))
    view.setUint16(tcp + TCP_CHECKSUM_OFFSET, checksum(sumWords(view, tcp, length - tcp)))
  }
}
