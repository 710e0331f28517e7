import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import {
  FRAME_BYTES_MAX,
  featureBit,
  formatMac,
  isDeviceMac,
  MmioTransport,
  NET_BUSY,
  NET_DONE,
  NET_DROPPED,
  NET_OFFLOAD_CSUM,
  NET_OFFLOAD_TSO4,
  NET_OFFLOADS_ALL,
  Net,
  NetFrame,
  parseMac,
  randomMac,
  VIRTIO_ID_NET,
} from '../../src/virtio/index.ts'
import * as reg from '../../src/virtio/mmio/registers.ts'
import * as spec from '../../src/virtio/net/spec.ts'
import { codeThrownBy } from '../support.ts'
import { frameOf, HDR, headerBytes, MAC, NetGuest, RecordingNetwork, RX, TX } from './net-support.ts'

const bitOf = (...features: number[]): number =>
  features.reduce((bits, one) => (bits | featureBit(one)) >>> 0, 0)
const MERGE = bitOf(spec.VIRTIO_NET_F_MRG_RXBUF)
const EVENT_INDEX = bitOf(29)
const TSO: Readonly<Record<string, number>> = {
  flags: spec.VIRTIO_NET_HDR_F_NEEDS_CSUM,
  gsoType: spec.VIRTIO_NET_HDR_GSO_TCPV4,
  gsoSize: 1448,
  hdrLen: 54,
  csumStart: 34,
  csumOffset: 16,
}

function setUp(
  options: {
    features?: number
    packed?: boolean
    without?: number
    offloads?: number
    queuePairs?: number
  } = {},
): { guest: NetGuest; network: RecordingNetwork } {
  const network = new RecordingNetwork(options)
  const guest = new NetGuest({ network }, { features: { packed: options.packed ?? false } })
  guest.begin(options.features ?? (guest.offered(0) & ~(options.without ?? 0)) >>> 0)
  return { guest, network }
}

const give = (network: RecordingNetwork, bytes: Uint8Array, header?: Uint8Array, pair = 0): number => {
  const frame = new NetFrame().setBytes(bytes)
  if (header !== undefined) frame.header.set(header)
  const [receiver] = network.sink.receivers.slice(pair)
  const outcome = receiver?.deliver(frame) ?? -1
  receiver?.flush()
  return outcome
}

describe('virtio-net numbers', () => {
  it('are those of <linux/virtio_net.h>', () => {
    const header = readFileSync('/usr/include/linux/virtio_net.h', 'utf8')
    const numbers: Record<string, unknown> = { ...spec }
    const names = Object.keys(numbers).filter((name) =>
      /^VIRTIO_NET_(F|S|HDR_F|HDR_GSO|CTRL)_|_OK$|_ERR$/.test(name),
    )
    expect(names.length).toBeGreaterThan(25)
    for (const name of names) {
      const value = new RegExp(`define\\s+${name}\\s+(\\w+)`).exec(header)?.[1]
      expect([name, numbers[name]]).toEqual([name, Number(value)])
    }
  })
})

describe('Ethernet addresses', () => {
  it('are read and written', () => {
    expect([...parseMac('02:00:5E:10:ab:FF')]).toEqual([2, 0, 0x5e, 0x10, 0xab, 0xff])
    expect([...parseMac('02-00-00-00-00-01')]).toEqual([2, 0, 0, 0, 0, 1])
    expect(formatMac(Uint8Array.of(2, 0, 0x5e, 0x10, 0xab, 0xff))).toBe('02:00:5e:10:ab:ff')
  })

  it.each([
    '',
    '02:00:00:00:00',
    '02:00:00:00:00:01:02',
    '02:00-00:00:00:01',
    '2:0:0:0:0:1',
    '02:00:00:00:00:0g',
  ])('refuses %j', (text) => expect(() => parseMac(text)).toThrow('a MAC address is six bytes'))

  it.each(['01:00:5e:00:00:01', 'ff:ff:ff:ff:ff:ff', '33:33:00:00:00:01'])(
    'refuses %s, a multicast',
    (text) => {
      expect(() => parseMac(text)).toThrow(`${text} is no address of a device: it is a multicast address`)
    },
  )

  it('refuses no address', () => {
    expect(() => parseMac('00:00:00:00:00:00')).toThrow('all zeros')
  })

  it('are made up as local ones of a device', () => {
    const random = { fill: (target: Uint8Array) => target.fill(0xff) }
    expect(formatMac(randomMac(random))).toBe('fe:ff:ff:ff:ff:ff')
    expect(isDeviceMac(randomMac())).toBe(true)
    expect(formatMac(randomMac())).not.toBe(formatMac(randomMac()))
  })
})

describe('the configuration of virtio-net', () => {
  it('has address, link, pairs of queues and MTU', () => {
    const guest = new NetGuest({ network: new RecordingNetwork({ queuePairs: 4 }), queuePairs: 2, mtu: 9000 })
    expect(guest.read(reg.VIRTIO_MMIO_DEVICE_ID)).toBe(VIRTIO_ID_NET)
    expect(guest.configMac).toEqual([2, 0, 0, 0, 0, 1])
    expect(guest.config(spec.CONFIG_STATUS_OFFSET, 2)).toBe(spec.VIRTIO_NET_S_LINK_UP)
    expect(guest.config(spec.CONFIG_MAX_VIRTQUEUE_PAIRS_OFFSET, 2)).toBe(2)
    expect(guest.config(spec.CONFIG_MTU_OFFSET, 2)).toBe(9000)
    expect(guest.device.queueSizes).toEqual([16, 16, 16, 16, 64])
  })

  it('offers what the network can do', () => {
    const always = bitOf(
      spec.VIRTIO_NET_F_MAC,
      spec.VIRTIO_NET_F_STATUS,
      spec.VIRTIO_NET_F_MRG_RXBUF,
      spec.VIRTIO_NET_F_CTRL_VQ,
      spec.VIRTIO_NET_F_CTRL_MAC_ADDR,
      spec.VIRTIO_NET_F_GUEST_ANNOUNCE,
    )
    const sums = bitOf(
      spec.VIRTIO_NET_F_CSUM,
      spec.VIRTIO_NET_F_GUEST_CSUM,
      spec.VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
    )
    const offered = (options: ConstructorParameters<typeof RecordingNetwork>[0], mtu?: number): number =>
      new Net({ network: new RecordingNetwork(options), mtu }).featuresLow
    expect(offered({ offloads: 0 })).toBe(always)
    expect(offered({ offloads: 0 }, 1400)).toBe(always + bitOf(spec.VIRTIO_NET_F_MTU))
    expect(offered({ offloads: 0, queuePairs: 2 })).toBe(always + bitOf(spec.VIRTIO_NET_F_MQ))
    expect(offered({ offloads: NET_OFFLOAD_CSUM })).toBe(always + sums)
    expect(offered({ offloads: NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 })).toBe(
      always + sums + bitOf(spec.VIRTIO_NET_F_HOST_TSO4, spec.VIRTIO_NET_F_GUEST_TSO4),
    )
  })

  it('refuses features without those that they depend on', () => {
    const guest = new NetGuest({ network: new RecordingNetwork() })
    const status = (missing: number): number => {
      guest.negotiate((guest.offered(0) & ~bitOf(missing)) >>> 0)
      return guest.status & 0b1000
    }
    expect(status(spec.VIRTIO_NET_F_STATUS)).toBe(0b1000)
    expect(status(spec.VIRTIO_NET_F_CSUM)).toBe(0)
    expect(status(spec.VIRTIO_NET_F_GUEST_CSUM)).toBe(0)
    expect(status(spec.VIRTIO_NET_F_CTRL_VQ)).toBe(0)
  })

  it.each([
    { mac: '01:00:00:00:00:00' },
    { mac: Uint8Array.of(2, 0, 0, 0, 1) },
    { mtu: 67 },
    { mtu: 65536 },
    { queuePairs: 0 },
    { queuePairs: 2 },
    { queueSize: 8 },
    { queueSize: 100 },
  ])('refuses %o', (options) => {
    expect(codeThrownBy(() => new Net({ network: new RecordingNetwork(), ...options }))).toBe(
      'ERR_DEVICE_OPTION',
    )
  })

  it('refuses a network that segments and does not sum', () => {
    const network = new RecordingNetwork({ offloads: NET_OFFLOAD_TSO4 })
    expect(codeThrownBy(() => new Net({ network }))).toBe('ERR_DEVICE_OPTION')
  })
})

const RINGS = [
  { packed: false, eventIndex: true },
  { packed: false, eventIndex: false },
  { packed: true, eventIndex: true },
  { packed: true, eventIndex: false },
]

describe.each(RINGS)('frames (packed $packed, event index $eventIndex)', ({ packed, eventIndex }) => {
  const without = eventIndex ? 0 : EVENT_INDEX

  it.each([
    { cut: [], indirect: false },
    { cut: [HDR], indirect: false },
    { cut: [3, 20, 1, 1], indirect: false },
    { cut: [HDR, 14, 100], indirect: true },
  ])('go out, cut into $cut (indirect $indirect)', ({ cut, indirect }) => {
    const { guest, network } = setUp({ packed, without })
    const frame = frameOf(700)
    guest.transmit(frame, { cut, indirect })
    expect(network.sent).toEqual([{ header: headerBytes(), frame, pair: 0 }])
    expect(network.commits).toBe(1)
    expect(
      guest
        .driver(1)
        .reapAll()
        .map(({ length }) => length),
    ).toEqual([0])
    expect(guest.device.counters).toMatchObject({ txFrames: 1, txBytes: 700, txDropped: 0 })
  })

  it.each([
    { lengths: [2048], indirect: false },
    { lengths: [HDR, 700], indirect: false },
    { lengths: [5, 9, 1, 800], indirect: true },
  ])('come in, into buffers of $lengths (indirect $indirect)', ({ lengths, indirect }) => {
    const { guest, network } = setUp({ packed, without })
    const places = guest.offer(lengths, { indirect })
    const frame = frameOf(700)
    expect(give(network, frame)).toBe(NET_DONE)
    expect(guest.received().map(({ length }) => length)).toEqual([HDR + 700])
    const bytes = places.flatMap((address, i) => [...guest.mock.read(address, lengths[i] as number)])
    expect(bytes.slice(0, HDR)).toEqual([...headerBytes({ numBuffers: 1 })])
    expect(bytes.slice(HDR, HDR + 700)).toEqual([...frame])
    expect(guest.handleInterrupt()).toBe(reg.VIRTIO_MMIO_INT_VRING)
    expect(guest.device.counters).toMatchObject({ rxFrames: 1, rxBytes: 700, rxDropped: 0 })
  })

  it('come in over several buffers where the driver merges them', () => {
    const { guest, network } = setUp({ packed, without })
    const places = [0, 1, 2, 3].map(() => guest.offer([256])[0] as number)
    const frame = frameOf(600)
    expect(give(network, frame)).toBe(NET_DONE)
    expect(guest.received().map(({ length }) => length)).toEqual([256, 256, HDR + 600 - 512])
    const bytes = places.flatMap((address) => [...guest.mock.read(address, 256)])
    expect(bytes.slice(0, HDR)).toEqual([...headerBytes({ numBuffers: 3 })])
    expect(bytes.slice(HDR, HDR + 600)).toEqual([...frame])
    expect(guest.mock.isDirty(places[2] as number, HDR + 600 - 512)).toBe(true)
    // What was not used is there for the next one.
    expect(give(network, frameOf(100))).toBe(NET_DONE)
    expect(guest.received().map(({ length }) => length)).toEqual([HDR + 100])
  })

  it('that do not fit are dropped where it does not merge, and the buffer stays', () => {
    const { guest, network } = setUp({ packed, without: without | MERGE })
    guest.offer([256])
    guest.offer([2048])
    expect(give(network, frameOf(600))).toBe(NET_DROPPED)
    expect(guest.received()).toEqual([])
    expect(give(network, frameOf(256 - HDR))).toBe(NET_DONE)
    expect(give(network, frameOf(600))).toBe(NET_DONE)
    expect(guest.received().map(({ length }) => length)).toEqual([256, HDR + 600])
    expect(guest.device.counters).toMatchObject({ rxFrames: 2, rxDropped: 1 })
  })

  it('wait at the network while the guest has no buffers, which tells of new ones once', () => {
    const { guest, network } = setUp({ packed, without })
    network.refills.length = 0
    expect(give(network, frameOf(100))).toBe(NET_BUSY)
    expect(guest.device.counters.rxDropped).toBe(0)
    network.onRefill = () => expect(give(network, frameOf(100))).toBe(NET_DONE)
    guest.offer()
    expect(network.refills).toEqual([0])
    network.onRefill = () => {}
    guest.offer()
    expect(network.refills).toEqual([0])
  })

  it('ask for a notification of buffers when there are none, and for none while there are', () => {
    const { guest, network } = setUp({ packed, without })
    guest.offer()
    expect(give(network, frameOf(100))).toBe(NET_DONE)
    expect(give(network, frameOf(100))).toBe(NET_BUSY)
    const add = (): boolean => guest.driver(0).send([{ address: RX, length: 2048, writable: true }])
    expect(add()).toBe(true)
    guest.notify(0)
    expect(add()).toBe(false)
  })
})

describe('what the guest sends', () => {
  it.each([
    ['nothing', 0, {}],
    ['half a header', -6, {}],
    ['less than Ethernet', 13, {}],
    ['more than any packet', FRAME_BYTES_MAX + 1, {}],
    ['a checksum past the end', 100, { flags: 1, csumStart: 34, csumOffset: 65 }],
    ['a checksum far away', 100, { flags: 1, csumStart: 65535, csumOffset: 65535 }],
    ['a checksum of addresses', 100, { flags: 1, csumStart: 13, csumOffset: 16 }],
    ['an unknown kind of segments', 100, { ...TSO, gsoType: 2 }],
    ['UDP fragments', 100, { ...TSO, gsoType: 3 }],
    ['ECN of nothing', 100, { ...TSO, gsoType: 0x80 }],
    ['segments of no size', 100, { ...TSO, gsoSize: 0 }],
    ['segments without checksums', 100, { ...TSO, flags: 0 }],
  ] as const)('is dropped, and reported, where it is %s', (_, length, header) => {
    const { guest, network } = setUp()
    if (length > 0) guest.transmit(frameOf(length), { header })
    else {
      guest.driver(1).send([{ address: TX, length: HDR + length }])
      guest.notify(1)
    }
    expect(network.sent).toEqual([])
    expect(guest.faults.map(({ needsReset }) => needsReset)).toEqual([false])
    expect(guest.device.counters).toMatchObject({ txFrames: 0, txDropped: 1 })
    expect(
      guest
        .driver(1)
        .reapAll()
        .map(({ length }) => length),
    ).toEqual([0])
    guest.transmit(frameOf(60))
    expect(network.sent.length).toBe(1)
  })

  it('may be as long as a packet can be, and TCP stream to be cut', () => {
    const { guest, network } = setUp()
    guest.transmit(frameOf(FRAME_BYTES_MAX), { header: TSO })
    guest.transmit(frameOf(14))
    expect(guest.faults).toEqual([])
    expect(network.sent.map(({ frame }) => frame.length)).toEqual([FRAME_BYTES_MAX, 14])
    expect(network.sent[0]?.header).toEqual(headerBytes(TSO))
  })

  it('has the flags that there are and no others', () => {
    const { guest, network } = setUp()
    guest.transmit(frameOf(100), { header: { ...TSO, flags: 0xff } })
    guest.transmit(frameOf(100), { header: { flags: 0xfe } })
    expect(network.sent.map(({ header }) => header[0])).toEqual([1, 0])
  })

  it.each([
    ['checksums', { flags: 1, csumStart: 34, csumOffset: 16 }, bitOf(0, 11, 12, 13)],
    ['segments', TSO, bitOf(spec.VIRTIO_NET_F_HOST_TSO4, spec.VIRTIO_NET_F_HOST_ECN)],
    ['ECN', { ...TSO, gsoType: 0x81 }, bitOf(spec.VIRTIO_NET_F_HOST_ECN)],
  ] as const)('may not ask for %s that were not negotiated', (_, header, without) => {
    const { guest, network } = setUp({ without })
    guest.transmit(frameOf(100), { header })
    expect(guest.faults.map(({ code }) => code)).toEqual(['ERR_NET_OFFLOAD'])
    expect(network.sent).toEqual([])
  })

  it('keeps to an MTU that it has taken note of', () => {
    const network = new RecordingNetwork()
    const guest = new NetGuest({ network, mtu: 1000 }).begin()
    guest.transmit(frameOf(1000 + 14 + 8))
    guest.transmit(frameOf(1000 + 14 + 9))
    guest.transmit(frameOf(4000), { header: TSO })
    expect(network.sent.map(({ frame }) => frame.length)).toEqual([1022, 4000])
    guest.begin((guest.offered(0) & ~bitOf(spec.VIRTIO_NET_F_MTU)) >>> 0)
    guest.transmit(frameOf(2000))
    expect(network.sent.length).toBe(3)
  })

  it('is dropped where it is not in guest memory', () => {
    const { guest, network } = setUp()
    guest.driver(1).send([
      { address: TX, length: HDR },
      { address: 2 ** 40, length: 100 },
    ])
    guest.notify(1)
    expect(network.sent).toEqual([])
    expect(guest.faults.map(({ code }) => code)).toEqual(['ERR_VIRTQ_BUFFER_ADDRESS'])
    expect(guest.device.counters.txDropped).toBe(1)
    expect(guest.driver(1).reapAll().length).toBe(1)
  })

  it('waits in the queue while the network is busy, in order, and is counted once', () => {
    const { guest, network } = setUp()
    network.answer = () => NET_BUSY
    guest.transmit(frameOf(100, 1))
    guest.transmit(frameOf(200, 2))
    guest.turns()
    expect(guest.driver(1).reapAll()).toEqual([])
    network.answer = () => NET_DONE
    network.sink.resume(0)
    expect(network.sent.map(({ frame }) => frame.length)).toEqual([100, 200])
    expect(guest.device.counters).toMatchObject({ txFrames: 2, txBytes: 300, txDropped: 0 })
  })

  it('costs the host a report and the guest a frame where the network throws', () => {
    const { guest, network } = setUp()
    const error = new Error('no carrier')
    network.answer = () => {
      throw error
    }
    guest.transmit(frameOf(100))
    expect(guest.failures).toEqual([error])
    expect(guest.device.counters.txDropped).toBe(1)
    expect(guest.driver(1).reapAll().length).toBe(1)
  })

  it('is taken a batch at a time, so that others have their turn', () => {
    const network = new RecordingNetwork()
    const guest = new NetGuest({ network, queueSize: 256 }).begin()
    const driver = guest.driver(1)
    guest.mock.write(TX, Uint8Array.from([...headerBytes(), ...frameOf(60)]))
    for (let i = 0; i < 200; i += 1) driver.add([{ address: TX, length: HDR + 60 }])
    driver.publish()
    guest.notify(1)
    expect(network.sent.length).toBe(128)
    expect(guest.turns()).toBe(1)
    expect(network.sent.length).toBe(200)
    expect(network.commits).toBe(2)
  })
})

describe('what the guest receives', () => {
  it('has its flags cleared where it does not take partial checksums', () => {
    const header = headerBytes({ flags: spec.VIRTIO_NET_HDR_F_DATA_VALID, csumStart: 34 })
    for (const without of [0, bitOf(1, 7, 8, 9)]) {
      const { guest, network } = setUp({ without })
      const [place = 0] = guest.offer()
      give(network, frameOf(100), header)
      expect(guest.mock.read(place, 1)).toEqual(
        Uint8Array.of(without === 0 ? spec.VIRTIO_NET_HDR_F_DATA_VALID : 0),
      )
      expect(guest.mock.read(place + spec.HDR_CSUM_START_OFFSET, 1)).toEqual(Uint8Array.of(34))
    }
  })

  it('gives a malformed buffer back where no other is there, so that nothing is left to be saved', () => {
    const { guest, network } = setUp()
    const [driver] = guest.drivers
    driver?.add([{ address: RX, length: 1, writable: true }])
    driver?.publish()
    guest.notify(0)
    const [receiver] = network.sink.receivers
    expect(receiver?.deliver(new NetFrame().setBytes(frameOf(60)))).toBe(NET_BUSY)
    expect(driver?.reapAll().map(({ length }) => length)).toEqual([0])
    expect(guest.transport.state().status).toBe(guest.status)
  })

  it('goes on after a malformed buffer behind one that was taken and not used', () => {
    const { guest, network } = setUp()
    const [driver] = guest.drivers
    const good = { address: RX, length: 100, writable: true }
    driver?.add([good])
    driver?.add([{ address: RX, length: 1, writable: true }])
    driver?.publish()
    guest.notify(0)
    // Longer than what there is: the first buffer was taken for it, the second is none.
    expect(give(network, frameOf(1000))).toBe(NET_DROPPED)
    driver?.reapAll()
    for (let i = 0; i < 3; i += 1) driver?.add([good])
    driver?.publish()
    guest.notify(0)
    expect(give(network, frameOf(60))).toBe(NET_DONE)
    expect(driver?.reapAll().length).toBe(1)
  })

  it('skips buffers that are too short for a header, read-only, or nowhere, and returns them', () => {
    const { guest, network } = setUp()
    guest.offer([HDR - 1])
    guest.driver(0).send([{ address: RX, length: 2000 }])
    guest.driver(0).send([{ address: 2 ** 40, length: 2000, writable: true }])
    guest.offer([2048])
    expect(give(network, frameOf(100))).toBe(NET_DONE)
    expect(guest.received().map(({ length }) => length)).toEqual([0, 0, 0, HDR + 100])
    expect(guest.faults.map(({ code }) => code)).toEqual([
      'ERR_NET_BUFFER_SIZE',
      'ERR_NET_BUFFER_SIZE',
      'ERR_VIRTQ_BUFFER_ADDRESS',
    ])
  })

  it('is dropped while nobody is there', () => {
    const network = new RecordingNetwork()
    const guest = new NetGuest({ network })
    guest.negotiate()
    expect(give(network, frameOf(100))).toBe(NET_DROPPED)
    expect(guest.device.counters.rxDropped).toBe(1)
    expect(network.sink.receivers[0]?.reserve(2000)).toBe(0)
  })

  it('may be written by the network itself, over buffers as many as it takes', () => {
    const { guest, network } = setUp()
    for (let i = 0; i < 8; i += 1) guest.offer([100])
    const [receiver] = network.sink.receivers
    if (receiver === undefined) throw new Error('no receiver')
    expect(receiver.reserve(450)).toBe(500)
    const pieces: number[] = []
    for (let length = receiver.takePiece(); length > 0; length = receiver.takePiece()) {
      receiver.pieceRegion.bytes.fill(pieces.length + 1, receiver.pieceOffset, receiver.pieceOffset + length)
      pieces.push(length)
    }
    expect(pieces).toEqual([100, 100, 100, 100, 100])
    receiver.commit(250)
    // What is left of those is the first of what comes next.
    expect(receiver.reserve(450)).toBe(500)
    receiver.takePiece()
    receiver.pieceRegion.bytes.fill(9, receiver.pieceOffset, receiver.pieceOffset + 100)
    receiver.commit(60)
    receiver.flush()
    expect(guest.received().map(({ length }) => length)).toEqual([100, 100, 50, 60])
    expect(guest.mock.read(RX + 3 * 105 + 40, 1)).toEqual(Uint8Array.of(9))
    expect(receiver.reserve(350)).toBe(400)
    receiver.flush()
    expect(guest.transport.state().queues[0]?.position?.nextAvail).toBe(4)
  })

  it('may be written by the network itself, many at a time, one buffer each', () => {
    const { guest, network } = setUp()
    for (const lengths of [[100], [100], [101], [100], [50, 50], [100]]) guest.offer(lengths)
    const [receiver] = network.sink.receivers
    if (receiver === undefined) throw new Error('no receiver')
    // One that a frame fills cannot be told from one that is too short; one in two pieces is for `reserve`.
    expect([receiver.reserveMany(100, 8), receiver.reserveMany(101, 8)]).toEqual([0, 0])
    expect([receiver.reserveMany(99, 3), receiver.reserveMany(99, 8)]).toEqual([3, 4])
    for (let i = 0; i < 4; i += 1) {
      const start = receiver.bufferOffset(i)
      receiver.bufferRegion(i).bytes.fill(i + 1, start, start + receiver.bufferLength(i))
    }
    // The second is cut, the third has nothing.
    receiver.commitMany(Int32Array.of(60, 100, -11, 40), 4)
    expect(guest.device.counters).toMatchObject({ rxFrames: 2, rxBytes: 100 - 2 * HDR, rxDropped: 1 })
    expect(receiver.reserve(99)).toBe(100 + 101 + 100)
    receiver.flush()
    // What came out of turn cannot go back into the ring.
    expect(guest.received().map(({ length }) => length)).toEqual([60, 40, 0, 0])
    expect(guest.transport.state().queues[0]?.position?.nextAvail).toBe(4)
    expect(give(network, frameOf(80))).toBe(NET_DONE)
  })

  it('is not taken many at a time where there is a limit', () => {
    const network = new RecordingNetwork()
    const guest = new NetGuest({ network, rxRateLimit: { operations: { perSecond: 1 } } })
    guest.begin()
    guest.offer()
    expect(network.sink.receivers[0]?.reserveMany(100, 1)).toBe(0)
    expect(network.sink.receivers[0]?.reserve(100)).toBe(2048)
  })

  it('waits for a ring that runs low to be filled, instead of losing a long frame', () => {
    const { guest, network } = setUp()
    for (let i = 0; i < 8; i += 1) guest.offer([100])
    expect(give(network, frameOf(500))).toBe(NET_DONE)
    expect(give(network, frameOf(500))).toBe(NET_BUSY)
    expect(give(network, frameOf(50))).toBe(NET_DONE)
    guest.received()
    for (let i = 0; i < 7; i += 1) guest.offer([100])
    expect(give(network, frameOf(500))).toBe(NET_DONE)
    expect(guest.device.counters.rxDropped).toBe(0)
  })

  it('is dropped where all the buffers that the driver has are too short', () => {
    const { guest, network } = setUp()
    for (let i = 0; i < 4; i += 1) guest.offer([100])
    expect(give(network, frameOf(500))).toBe(NET_DROPPED)
    expect(guest.device.counters.rxDropped).toBe(1)
    expect(give(network, frameOf(300))).toBe(NET_DONE)
  })

  it('is forgotten with the queue, when that is reset before it was shown', () => {
    const { guest, network } = setUp()
    guest.offer()
    const [receiver] = network.sink.receivers
    receiver?.deliver(new NetFrame().setBytes(frameOf(100)))
    guest.select(0)
    guest.write(reg.VIRTIO_MMIO_QUEUE_RESET, 1)
    receiver?.flush()
    expect(give(network, frameOf(100))).toBe(NET_BUSY)
    guest.drivers[0] = guest.driverOf(0)
    guest.enable(0, guest.driver(0))
    guest.offer()
    expect(give(network, frameOf(100))).toBe(NET_DONE)
    expect(guest.received().length).toBe(1)
  })
})

describe('the link', () => {
  it('goes down and up for the guest, and frames with it', () => {
    const { guest, network } = setUp()
    guest.offer()
    guest.device.setLink(false)
    expect(guest.config(spec.CONFIG_STATUS_OFFSET, 2)).toBe(0)
    expect(guest.handleInterrupt() & reg.VIRTIO_MMIO_INT_CONFIG).not.toBe(0)
    expect(give(network, frameOf(100))).toBe(NET_DROPPED)
    guest.transmit(frameOf(100))
    expect(network.sent).toEqual([])
    expect(guest.device.counters).toMatchObject({ txDropped: 1, rxDropped: 1 })
    network.refills.length = 0
    guest.device.setLink(true)
    expect(guest.handleInterrupt() & reg.VIRTIO_MMIO_INT_CONFIG).not.toBe(0)
    expect(network.refills).toEqual([0])
    expect(give(network, frameOf(100))).toBe(NET_DONE)
  })

  it('is up where both the host wants it and the network has one', () => {
    const { guest, network } = setUp()
    network.sink.linkChanged(false)
    guest.device.setLink(false)
    network.sink.linkChanged(true)
    expect(guest.device.linkUp).toBe(false)
    guest.device.setLink(true)
    expect(guest.device.linkUp).toBe(true)
    expect(guest.config(spec.CONFIG_STATUS_OFFSET, 2)).toBe(spec.VIRTIO_NET_S_LINK_UP)
  })

  it('may be down from the start', () => {
    const guest = new NetGuest({ network: new RecordingNetwork(), linkUp: false })
    expect(guest.config(spec.CONFIG_STATUS_OFFSET, 2)).toBe(0)
    const network = new RecordingNetwork()
    network.attach = (sink) => {
      network.sink = sink
      sink.linkChanged(false)
    }
    expect(new NetGuest({ network }).config(spec.CONFIG_STATUS_OFFSET, 2)).toBe(0)
  })
})

describe('the control queue', () => {
  const { VIRTIO_NET_OK: OK, VIRTIO_NET_ERR: ERR } = spec

  it('sets the address, until the reset', () => {
    const { guest } = setUp()
    expect(guest.command([1, 1, 2, 0, 0, 0, 0, 0x77])).toBe(OK)
    expect(guest.configMac).toEqual([2, 0, 0, 0, 0, 0x77])
    expect(guest.command([1, 1, 3, 0, 0, 0, 0, 0x78])).toBe(ERR)
    expect(guest.command([1, 1, 2, 0, 0, 0, 0])).toBe(ERR)
    expect(formatMac(guest.device.mac)).toBe('02:00:00:00:00:77')
    guest.begin()
    expect(formatMac(guest.device.mac)).toBe(MAC)
  })

  it('switches offloads of the guest, within what was negotiated', () => {
    const { guest, network } = setUp({ without: bitOf(spec.VIRTIO_NET_F_GUEST_TSO6) })
    const all = bitOf(spec.VIRTIO_NET_F_GUEST_TSO6)
    expect(network.configured.at(-1)).toEqual([NET_OFFLOADS_ALL & ~0b100, 1])
    const set = (features: number): number =>
      guest.command([5, 0, ...new Uint8Array(Uint32Array.of(features, 0).buffer)])
    expect(set(bitOf(spec.VIRTIO_NET_F_GUEST_CSUM))).toBe(OK)
    expect(network.configured.at(-1)).toEqual([NET_OFFLOAD_CSUM, 1])
    expect(set(0)).toBe(OK)
    expect(network.configured.at(-1)).toEqual([0, 1])
    const changes = network.configured.length
    expect(set(all | bitOf(spec.VIRTIO_NET_F_GUEST_CSUM))).toBe(ERR)
    expect(set(bitOf(spec.VIRTIO_NET_F_GUEST_TSO4))).toBe(ERR)
    expect(set(bitOf(spec.VIRTIO_NET_F_CSUM))).toBe(ERR)
    expect(guest.command([5, 0, 0, 0, 0, 0, 1, 0, 0, 0])).toBe(ERR)
    expect(guest.command([5, 0, 2])).toBe(ERR)
    expect(network.configured.length).toBe(changes)
  })

  it('takes the acknowledgement of an announcement', () => {
    const { guest } = setUp()
    guest.device.announce()
    expect(guest.config(spec.CONFIG_STATUS_OFFSET, 2)).toBe(0b11)
    expect(guest.handleInterrupt() & reg.VIRTIO_MMIO_INT_CONFIG).not.toBe(0)
    expect(guest.command([3, 0])).toBe(OK)
    expect(guest.config(spec.CONFIG_STATUS_OFFSET, 2)).toBe(0b01)
    guest.begin((guest.offered(0) & ~bitOf(spec.VIRTIO_NET_F_GUEST_ANNOUNCE)) >>> 0)
    guest.device.announce()
    expect(guest.config(spec.CONFIG_STATUS_OFFSET, 2)).toBe(0b01)
  })

  it.each([
    [[]],
    [[1]],
    [[0, 0, 1]],
    [[1, 0, 0, 0, 0, 0]],
    [[2, 0, 1, 0]],
    [[4, 0, 1, 0]],
    [[4, 1]],
    [[9, 9]],
  ])('refuses %j, which is unknown, short or not negotiated', (bytes) => {
    const { guest } = setUp()
    if (bytes.length > 0) expect(guest.command(bytes)).toBe(ERR)
    guest.driver(2).send([{ address: TX, length: 2 }])
    guest.notify(2)
    expect(
      guest
        .driver(2)
        .reapAll()
        .map(({ length }) => length),
    ).toEqual([0])
    expect(guest.faults.map(({ code }) => code)).toEqual(['ERR_NET_NO_ANSWER'])
  })
})

describe('several pairs of queues', () => {
  it('are of no use until the driver asks for them', () => {
    const { guest, network } = setUp({ queuePairs: 3 })
    guest.offer([2048], { pair: 1 })
    guest.transmit(frameOf(100), { pair: 1 })
    expect(network.sent).toEqual([])
    expect(give(network, frameOf(100), undefined, 1)).toBe(NET_DROPPED)
    expect(guest.command([4, 0, 2, 0])).toBe(spec.VIRTIO_NET_OK)
    expect(network.configured.at(-1)).toEqual([NET_OFFLOADS_ALL, 2])
    expect(network.sent.map(({ pair }) => pair)).toEqual([1])
    expect(give(network, frameOf(100), undefined, 1)).toBe(NET_DONE)
    expect(guest.received(1).length).toBe(1)
    expect(give(network, frameOf(100), undefined, 2)).toBe(NET_DROPPED)
    for (const count of [0, 4]) expect(guest.command([4, 0, count, 0])).toBe(spec.VIRTIO_NET_ERR)
    guest.begin()
    expect(network.configured.slice(-2)).toEqual([
      [0, 0],
      [NET_OFFLOADS_ALL, 1],
    ])
  })

  it('leave the control queue the third where they are not negotiated', () => {
    const { guest } = setUp({ queuePairs: 2, without: bitOf(spec.VIRTIO_NET_F_MQ) })
    expect(guest.command([1, 1, 2, 0, 0, 0, 0, 0x77], 2)).toBe(spec.VIRTIO_NET_OK)
    expect(guest.command([1, 1, 2, 0, 0, 0, 0, 0x78], 4)).toBe(255)
  })
})

/** A device whose frames are limited, in bytes a second; the burst is 1000. */
const limited = (options: { rx?: number; tx?: number }) => {
  const timers: (() => void)[] = []
  let now = 0
  const host = {
    clock: { now: () => now },
    timers: {
      after: (_: number, callback: () => void) => {
        timers.push(callback)
        return { cancel: () => timers.splice(timers.indexOf(callback), 1) }
      },
    },
  }
  const limit = (perSecond: number | undefined) =>
    perSecond === undefined ? undefined : { bytes: { perSecond, burst: 1000 }, ...host }
  const network = new RecordingNetwork()
  const guest = new NetGuest({
    network,
    rxRateLimit: limit(options.rx),
    txRateLimit: limit(options.tx),
  }).begin()
  const wait = (ms: number): void => {
    now += ms
    for (const callback of timers.splice(0)) callback()
    guest.turns()
  }
  return { guest, network, wait }
}

describe('limits', () => {
  it('leave what the guest sends in its queue, and count what the network had no room for once', () => {
    const { guest, network, wait } = limited({ tx: 1000 })
    network.answer = () => NET_BUSY
    guest.transmit(frameOf(600))
    network.answer = () => NET_DONE
    network.sink.resume(0)
    guest.transmit(frameOf(600))
    guest.turns()
    expect(network.sent.length).toBe(1)
    wait(150)
    expect(network.sent.length).toBe(1)
    wait(100)
    expect(network.sent.length).toBe(2)
    expect(guest.device.counters).toMatchObject({ txFrames: 2, txDropped: 0 })
  })

  it('leave what the guest is to be given with the network', () => {
    const { guest, network, wait } = limited({ rx: 1000 })
    for (let i = 0; i < 8; i += 1) guest.offer()
    // The first is paid for by the second.
    expect(give(network, frameOf(900))).toBe(NET_DONE)
    expect(give(network, frameOf(900))).toBe(NET_DONE)
    expect(give(network, frameOf(900))).toBe(NET_BUSY)
    network.refills.length = 0
    wait(700)
    expect(network.refills).toEqual([])
    wait(200)
    expect(network.refills).toEqual([0])
    expect(give(network, frameOf(900))).toBe(NET_DONE)
  })
})

describe('a pause of virtio-net', () => {
  it('ends with a look for frames that came meanwhile', async () => {
    const network = new RecordingNetwork()
    const guest = new NetGuest({ network }).begin()
    guest.offer()
    network.refills.length = 0
    await guest.transport.pause()
    expect(network.sink.receivers[0]?.reserve(HDR + 100)).toBe(0)
    guest.transport.resume()
    expect(network.refills).toEqual([0])
    // Once.
    guest.notify(0)
    expect(network.refills).toEqual([0])
  })

  it('does not keep frames back whose time came meanwhile', async () => {
    const { guest, network, wait } = limited({ rx: 1000 })
    for (let i = 0; i < 8; i += 1) guest.offer()
    for (const outcome of [NET_DONE, NET_DONE, NET_BUSY]) expect(give(network, frameOf(900))).toBe(outcome)
    network.refills.length = 0
    await guest.transport.pause()
    wait(1000)
    expect(network.refills).toEqual([])
    guest.transport.resume()
    expect(network.refills).toEqual([0])
    expect(give(network, frameOf(900))).toBe(NET_DONE)
  })
})

describe('the saved state of virtio-net', () => {
  const again = (guest: NetGuest, network: RecordingNetwork, change: object = {}): NetGuest => {
    const state = JSON.parse(JSON.stringify(guest.transport.state()))
    Object.assign(state.device, change)
    const restored = new NetGuest(
      { network, mac: '02:00:00:00:00:99' },
      { memory: guest.memory },
      (options) => MmioTransport.fromState(state, options),
    )
    restored.transport.resume()
    return restored
  }

  it('asks the guest to announce itself where it has come to', () => {
    const { guest } = setUp()
    const restored = again(guest, new RecordingNetwork())
    expect(restored.config(spec.CONFIG_STATUS_OFFSET, 2)).toBe(
      spec.VIRTIO_NET_S_LINK_UP | spec.VIRTIO_NET_S_ANNOUNCE,
    )
    expect(restored.handleInterrupt() & reg.VIRTIO_MMIO_INT_CONFIG).not.toBe(0)
    restored.drivers = guest.drivers
    expect(restored.command([3, 0])).toBe(spec.VIRTIO_NET_OK)
    expect(restored.config(spec.CONFIG_STATUS_OFFSET, 2)).toBe(spec.VIRTIO_NET_S_LINK_UP)
    restored.transport.pause()
    restored.transport.resume()
    expect(restored.config(spec.CONFIG_STATUS_OFFSET, 2)).toBe(spec.VIRTIO_NET_S_LINK_UP)
  })

  it('has the address that it was given only when its driver begins anew', () => {
    const { guest } = setUp()
    const restored = again(guest, new RecordingNetwork())
    expect(restored.device.mac).toEqual(guest.device.mac)
    restored.begin()
    expect(formatMac(restored.device.mac)).toBe('02:00:00:00:00:99')
  })

  it('brings back address, link, offloads, announcement and queues in use', () => {
    const { guest } = setUp({ queuePairs: 2 })
    guest.command([4, 0, 2, 0])
    guest.command([1, 1, 2, 0, 0, 0, 0, 0x77])
    guest.command([5, 0, 2, 0, 0, 0, 0, 0, 0, 0])
    guest.device.setLink(false)
    guest.driver(1).send([{ address: TX, length: HDR + 100 }])
    const network = new RecordingNetwork({ queuePairs: 2 })
    const restored = again(guest, network)
    expect(formatMac(restored.device.mac)).toBe('02:00:00:00:00:77')
    expect(restored.config(spec.CONFIG_STATUS_OFFSET, 2)).toBe(spec.VIRTIO_NET_S_ANNOUNCE)
    expect(network.configured).toEqual([[NET_OFFLOAD_CSUM, 2]])
    expect(restored.device.linkUp).toBe(false)
    expect(restored.device.state()).toEqual({ ...guest.device.state(), announce: true })
    restored.device.setLink(true)
    restored.drivers = guest.drivers
    restored.transmit(frameOf(60), { pair: 1 })
    expect(network.sent.map(({ pair }) => pair)).toEqual([1])
  })

  it.each([
    { version: 2 },
    { mac: [1, 0, 0, 0, 0, 0] },
    { mac: [2, 0, 0, 0, 0, 256] },
    { mac: 'x' },
    { linkUp: 1 },
    { announce: null },
    { queuePairs: 3 },
    { queuePairs: 0 },
    { guestOffloads: 1 },
    { guestOffloads: undefined },
    { rxRateLimit: 7 },
  ])('refuses %o', (change) => {
    const { guest } = setUp({ queuePairs: 2 })
    const network = new RecordingNetwork({ queuePairs: 2 })
    expect(codeThrownBy(() => again(guest, network, change))).toBe('ERR_DEVICE_STATE')
  })
})
