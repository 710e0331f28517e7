import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Switch } from '../src/index.ts'
import type { Packet, PacketOptions } from './packets.ts'
import { isRight, MAC_A, MAC_B, numbered, partialPacket, plainFrame } from './packets.ts'
import { GSO_TCPV4, GSO_TCPV6, type Header, NEEDS_CSUM, type Received, TestGuest } from './support.ts'

const GUEST_CSUM = 1 << 1
const GUEST_TSO4 = 1 << 7
const GUEST_TSO6 = 1 << 8
const ECN = 0x80
const [FIN, PSH, ACK, CWR] = [0x01, 0x08, 0x10, 0x80]
const MSS = 1448

/** Two guests, of which the other takes what the features say. */
function pair(features: number): { one: TestGuest; two: TestGuest } {
  const lan = new Switch()
  const one = new TestGuest({ network: lan.port() })
  const two = new TestGuest({ network: lan.port() }).offer(256, 2048)
  if (two.setOffloads(features) !== 0) throw new Error('offloads are refused')
  two.send(plainFrame(MAC_A, MAC_B))
  return { one, two }
}

function headerOf(
  { transport, payload }: Packet,
  options: PacketOptions & { size?: number; ecn?: boolean },
): Header {
  const csumOffset = options.protocol === 'udp' ? 6 : 16
  const sum = { flags: NEEDS_CSUM, csumStart: transport, csumOffset }
  if (options.size === undefined) return sum
  const type = options.isIpv6 ? GSO_TCPV6 : GSO_TCPV4
  return { ...sum, gsoType: type | (options.ecn ? ECN : 0), gsoSize: options.size, hdrLen: payload }
}

/** What the other guest gets of a packet. */
function passed(
  packet: Packet,
  options: PacketOptions & { size?: number; ecn?: boolean; takes?: number },
): Received[] {
  const { one, two } = pair(options.takes ?? 0)
  one.send(packet.frame, headerOf(packet, options))
  return two.received()
}

const KINDS: readonly PacketOptions[] = [
  {},
  { isIpv6: true },
  { extra: 8 },
  { isIpv6: true, extra: 16 },
  { vlan: true },
  { isIpv6: true, vlan: true },
]

describe('a checksum', () => {
  it.each([...KINDS, { protocol: 'udp' } as const, { protocol: 'udp', isIpv6: true } as const])(
    'is completed for who does not take it otherwise: %o',
    (kind) => {
      for (const length of [0, 1, 2, 99, 1400]) {
        const options = { ...kind, payload: numbered(length) }
        const packet = partialPacket(options)
        expect(isRight(packet.frame, packet)).toBe(false)
        const [{ header, frame } = { header: [], frame: new Uint8Array() }] = passed(packet, options)
        expect(isRight(frame, packet)).toBe(true)
        expect([...header.slice(0, 10)]).toEqual(new Array(10).fill(0))
        // Nothing but the checksum is another.
        const at = packet.transport + (kind.protocol === 'udp' ? 6 : 16)
        frame.set(packet.frame.subarray(at, at + 2), at)
        expect(frame).toEqual(packet.frame)
      }
    },
  )

  it('goes as it is to who takes it', () => {
    const packet = partialPacket()
    const [{ header, frame } = { header: [], frame: undefined }] = passed(packet, { takes: GUEST_CSUM })
    expect(frame).toEqual(packet.frame)
    expect([header[0], header[6], header[8]]).toEqual([NEEDS_CSUM, packet.transport, 16])
  })

  it('of UDP that comes to 0 is written as ones: 0 means that there is none', () => {
    let written = -1
    for (let i = 0; i < 0x1_0000 && written < 0; i += 1) {
      const packet = partialPacket({ protocol: 'udp', payload: Uint8Array.of(i >> 8, i & 0xff) })
      const words = [...packet.frame.subarray(packet.transport)]
      let sum = 0
      for (let at = 0; at < words.length; at += 2)
        sum += ((words[at] as number) << 8) | (words[at + 1] as number)
      while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16)
      if (sum !== 0xffff) continue
      const [{ frame } = { frame: new Uint8Array() }] = passed(packet, { protocol: 'udp' })
      written = ((frame[packet.transport + 6] as number) << 8) | (frame[packet.transport + 7] as number)
    }
    expect(written).toBe(0xffff)
  })
})

describe('a piece of TCP stream', () => {
  const view = (frame: Uint8Array): DataView => new DataView(frame.buffer, frame.byteOffset, frame.length)

  it.each(KINDS)('is cut into packets that are right: %o', (kind) => {
    const options = {
      ...kind,
      payload: numbered(40_000),
      flags: FIN | PSH | ACK,
      sequence: 0xffff_f000,
      size: MSS,
    }
    const packet = partialPacket(options)
    const frames = passed(packet, options).map(({ header, frame }) => {
      expect(header[0] === 0 && header[1] === 0).toBe(true)
      return frame
    })
    expect(frames.length).toBe(Math.ceil(40_000 / MSS))
    expect(Buffer.concat(frames.map((frame) => frame.subarray(packet.payload)))).toEqual(
      Buffer.from(numbered(40_000)),
    )
    for (const [i, frame] of frames.entries()) {
      expect(isRight(frame, packet)).toBe(true)
      const isLast = i === frames.length - 1
      expect(view(frame).getUint32(packet.transport + 4)).toBe((0xffff_f000 + i * MSS) % 2 ** 32)
      expect(frame[packet.transport + 13]).toBe(isLast ? FIN | PSH | ACK : ACK)
      if (kind.isIpv6)
        expect(view(frame).getUint16(packet.network + 4)).toBe(frame.length - packet.network - 40)
      else {
        expect(view(frame).getUint16(packet.network + 2)).toBe(frame.length - packet.network)
        expect(view(frame).getUint16(packet.network + 4)).toBe(7 + i)
      }
      // Addresses and options are everybody's.
      expect(frame.subarray(0, packet.network)).toEqual(packet.frame.subarray(0, packet.network))
      expect(frame.subarray(packet.transport + 20, packet.payload)).toEqual(
        packet.frame.subarray(packet.transport + 20, packet.payload),
      )
    }
  })

  it('tells of congestion in its first packet alone', () => {
    const options = { payload: numbered(3000), flags: CWR | ACK, size: 1000, ecn: true }
    const packet = partialPacket(options)
    const flags = passed(packet, options).map(({ frame }) => frame[packet.transport + 13])
    expect(flags).toEqual([CWR | ACK, ACK, ACK])
  })

  it('goes as it is to who takes it, over merged buffers', () => {
    const options = { payload: numbered(60_000), size: MSS, takes: GUEST_CSUM | GUEST_TSO4 }
    const packet = partialPacket(options)
    const [{ header, frame } = { header: undefined, frame: undefined }, ...more] = passed(packet, options)
    expect(more).toEqual([])
    expect(frame).toEqual(packet.frame)
    expect(header?.[1]).toBe(GSO_TCPV4)
  })

  it('is cut for who takes those of the other kind, or without ECN', () => {
    const v6 = { isIpv6: true, payload: numbered(3000), size: 1000 }
    expect(passed(partialPacket(v6), { ...v6, takes: GUEST_CSUM | GUEST_TSO4 }).length).toBe(3)
    expect(passed(partialPacket(v6), { ...v6, takes: GUEST_CSUM | GUEST_TSO6 }).length).toBe(1)
    const ecn = { payload: numbered(3000), size: 1000, ecn: true }
    expect(passed(partialPacket(ecn), { ...ecn, takes: GUEST_CSUM | GUEST_TSO4 }).length).toBe(3)
  })

  it('of one packet is one', () => {
    for (const length of [0, 1, 1000]) {
      const options = { payload: numbered(length), size: 1000 }
      const packet = partialPacket(options)
      const frames = passed(packet, options)
      expect(frames.length).toBe(1)
      expect(isRight(frames[0]?.frame ?? packet.frame, packet)).toBe(true)
    }
  })

  it('is plain packets for JavaScript, and for all who get it where nobody knows the address', () => {
    const lan = new Switch()
    const one = new TestGuest({ network: lan.port() })
    const two = new TestGuest({ network: lan.port() }).offer(256)
    const heard: Uint8Array[][] = [[], []]
    for (const frames of heard) lan.connect({ receive: (frame) => void frames.push(frame) })
    const options = { payload: numbered(10_000), size: MSS }
    const packet = partialPacket(options)
    one.send(packet.frame, headerOf(packet, options))
    expect(two.received().length).toBe(1)
    for (const frames of heard) {
      expect(frames.length).toBe(7)
      expect(frames.every((frame) => isRight(frame, packet))).toBe(true)
    }
  })

  it('of tiny packets is dropped', () => {
    const options = { payload: numbered(25_600), size: 100 }
    expect(passed(partialPacket(options), options).length).toBe(256)
    const { one, two } = pair(0)
    const more = { payload: numbered(25_601), size: 100 }
    const packet = partialPacket(more)
    one.send(packet.frame, headerOf(packet, more))
    expect(two.received()).toEqual([])
  })
})

describe('hostile headers and packets', () => {
  it('make nothing but packets that are no longer than what was sent, or nothing', () => {
    const byte = fc.nat(255)
    const change = fc.record({ at: fc.nat(120), value: byte })
    const kind = fc.constantFrom(...KINDS)
    const header = fc.record({
      flags: fc.constant(NEEDS_CSUM),
      gsoType: fc.constantFrom(0, GSO_TCPV4, GSO_TCPV6, GSO_TCPV4 | ECN),
      gsoSize: fc.oneof(fc.nat(3), fc.nat(0xffff)),
      csumStart: fc.nat(200),
      csumOffset: fc.oneof(fc.constant(16), fc.nat(0xffff)),
      hdrLen: fc.nat(0xffff),
    })
    const { one, two } = pair(0)
    fc.assert(
      fc.property(
        kind,
        fc.array(change, { maxLength: 5 }),
        header,
        fc.boolean(),
        fc.nat(3000),
        (options, changes, said, isWrong, length) => {
          const packet = partialPacket({ ...options, payload: numbered(length) })
          for (const { at, value } of changes) packet.frame[12 + (at % (packet.frame.length - 12))] = value
          const right = headerOf(packet, { ...options, size: Math.max(said.gsoSize, 1) })
          one.send(packet.frame, isWrong ? said : right)
          for (const received of two.received()) {
            expect(received.frame.length).toBeLessThanOrEqual(packet.frame.length)
            expect(received.header.slice(0, 10)).toEqual(new Uint8Array(10))
          }
          for (let more = two.received(); more.length > 0; more = two.received()) {
            // Those that had waited for room.
          }
          expect(one.failures).toEqual([])
        },
      ),
      { numRuns: 1000 },
    )
  })
})
