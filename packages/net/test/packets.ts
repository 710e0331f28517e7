/**
 * Packets of TCP and UDP, and what is right of them. Written without a look at how the package does it: sums by 16-bit words, one by one.
 */

export const MAC_A: Uint8Array = Uint8Array.of(2, 0, 0, 0, 0, 0xa)
export const MAC_B: Uint8Array = Uint8Array.of(2, 0, 0, 0, 0, 0xb)
export const MAC_C: Uint8Array = Uint8Array.of(2, 0, 0, 0, 0, 0xc)
export const BROADCAST: Uint8Array = new Uint8Array(6).fill(0xff)
const PROTOCOL_TCP = 6
const PROTOCOL_UDP = 17

const be16 = (value: number): number[] => [(value >> 8) & 0xff, value & 0xff]
const be32 = (value: number): number[] => [...be16(value >>> 16), ...be16(value & 0xffff)]

/** The sum of 16-bit words, folded. */
export function sum16(bytes: ArrayLike<number>): number {
  let sum = 0
  for (let i = 0; i < bytes.length; i += 2) {
    sum += ((bytes[i] as number) << 8) | (bytes[i + 1] ?? 0)
    if (sum > 0xffff) sum -= 0xffff
  }
  return sum
}

/** What a packet is made of. */
export interface PacketOptions {
  readonly to?: Uint8Array
  readonly from?: Uint8Array
  readonly isIpv6?: boolean
  readonly protocol?: 'tcp' | 'udp'
  readonly payload?: Uint8Array
  /** Bytes of IPv4 options or of IPv6 extension headers: a multiple of 8. */
  readonly extra?: number
  readonly vlan?: boolean
  /** TCP flags; default PSH and ACK. */
  readonly flags?: number
  readonly sequence?: number
  readonly id?: number
  readonly sourceIp?: readonly number[]
  readonly targetIp?: readonly number[]
  readonly ports?: readonly [number, number]
}

/** A frame, and where in it things are. */
export interface Packet {
  readonly frame: Uint8Array
  readonly network: number
  readonly transport: number
  readonly payload: number
}

/** A packet whose checksum field has the sum of the pseudo header: the rest is the receiver's to add. */
export function partialPacket(options: PacketOptions = {}): Packet {
  const { to = MAC_B, from = MAC_A, isIpv6 = false, protocol = 'tcp', vlan = false, extra = 0 } = options
  const { payload = new Uint8Array(100), flags = 0x18, sequence = 1000, id = 7, ports = [1234, 80] } = options
  const addresses = isIpv6
    ? [
        ...(options.sourceIp ?? [0xfd, ...new Array(14).fill(0), 1]),
        ...(options.targetIp ?? [0xfd, ...new Array(14).fill(0), 2]),
      ]
    : [...(options.sourceIp ?? [10, 0, 0, 1]), ...(options.targetIp ?? [10, 0, 0, 2])]
  const number = protocol === 'tcp' ? PROTOCOL_TCP : PROTOCOL_UDP
  const headerSize = protocol === 'tcp' ? 32 : 8
  const length = headerSize + payload.length
  const pseudo = sum16([...addresses, ...(isIpv6 ? be32(length) : be16(length)), 0, number])
  const header =
    protocol === 'tcp'
      ? [
          ...ports.flatMap(be16),
          ...be32(sequence),
          ...be32(5555),
          0x80,
          flags,
          ...be16(500),
          ...be16(pseudo),
          0,
          0,
          ...[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
        ]
      : [...ports.flatMap(be16), ...be16(length), ...be16(pseudo)]
  const ip = isIpv6
    ? [0x60, 0, 0, 0, ...be16(extra + length), extra > 0 ? 60 : number, 64, ...addresses]
    : [
        0x45 + extra / 4,
        0,
        ...be16(20 + extra + length),
        ...be16(id),
        0x40,
        0,
        64,
        number,
        0,
        0,
        ...addresses,
      ]
  const options8 = isIpv6
    ? extra > 0
      ? [number, extra / 8 - 1, 1, extra - 4, ...new Array(extra - 4).fill(0)]
      : []
    : new Array(extra).fill(1)
  const network = [...ip, ...options8]
  if (!isIpv6) network.splice(10, 2, ...be16(~sum16(network) & 0xffff))
  const tag = vlan ? [0x81, 0, 0, 5] : []
  const ethernet = [...to, ...from, ...tag, ...(isIpv6 ? [0x86, 0xdd] : [8, 0])]
  return {
    frame: Uint8Array.from([...ethernet, ...network, ...header, ...payload]),
    network: ethernet.length,
    transport: ethernet.length + network.length,
    payload: ethernet.length + network.length + header.length,
  }
}

/** Whether the checksums of IPv4 and of TCP or UDP are right. */
export function isRight(frame: Uint8Array, { network, transport }: Packet): boolean {
  const isIpv6 = (frame[network] as number) >> 4 === 6
  const addresses = isIpv6
    ? frame.subarray(network + 8, network + 40)
    : frame.subarray(network + 12, network + 20)
  const protocol = isIpv6
    ? frame[network + 6] === 60
      ? frame[network + 40]
      : frame[network + 6]
    : frame[network + 9]
  const segment = frame.subarray(transport)
  const pseudo = [
    ...addresses,
    ...(isIpv6 ? be32(segment.length) : be16(segment.length)),
    0,
    protocol as number,
  ]
  const isSumRight = sum16([...pseudo, ...segment]) === 0xffff
  return isSumRight && (isIpv6 || sum16(frame.subarray(network, transport)) === 0xffff)
}

/** A payload where each byte says where it is. */
export function numbered(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i ^ (i >> 8)) & 0xff)
}

/** A frame of some type of its own. */
export function plainFrame(to: Uint8Array, from: Uint8Array, length = 60, seed = 0): Uint8Array {
  const frame = Uint8Array.from({ length }, (_, i) => (i + seed) & 0xff)
  frame.set(to)
  frame.set(from, 6)
  frame.set([0x88, 0xb5], 12)
  return frame
}
