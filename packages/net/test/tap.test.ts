import { execFileSync } from 'node:child_process'
import { createSocket, type Socket } from 'node:dgram'
import { chmodSync, closeSync, mkdtempSync, openSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { IoUring, SystemError } from '@vmm/sys-util'
import { GuestMemory } from '@vmm/vm-memory'
import { MappedMemory } from '@vmm/vm-memory/mmap'
import { expect, it, vi } from 'vitest'
import { describeInNamespace, ip } from '../../../tests/support/namespace.ts'
import * as libcModule from '../../sys-util/src/libc.ts'
import { Switch } from '../src/index.ts'
import { NetError, openTap, type Tap, type TapOptions } from '../src/tap.ts'
import { isRight, MAC_A, MAC_B, numbered, type Packet, partialPacket } from './packets.ts'
import {
  GSO_TCPV4,
  GSO_TCPV6,
  type Header,
  NEEDS_CSUM,
  own,
  type Received,
  TestGuest,
  turns,
  until,
} from './support.ts'

const HOST_IP = '10.77.0.1'
const GUEST_IP = '10.77.0.2'
const GUEST_MAC = '02:00:00:00:00:0a'
const HOST_MAC = '02:00:00:00:00:0b'
const PORT = 7777
const GUEST_PORT = 1234
const NOBODY = 65534
const EMFILE = 24
/** More than go by a call each. */
const MANY = 40
const GUEST_CSUM = 1 << 1
const GUEST_TSO4 = 1 << 7
const GUEST_TSO6 = 1 << 8

/** An interface until the end of the test. */
function link(name: string, words: string): void {
  ip(`${words.startsWith('mode') ? 'tuntap' : 'link'} add dev ${name} ${words}`)
  own({
    close: () => {
      try {
        ip(`link del ${name}`)
      } catch {
        // The test has deleted it.
      }
    },
  })
}

function errorOf(run: () => unknown): { code: unknown; message: string } {
  try {
    run()
  } catch (error) {
    if (error instanceof NetError) return { code: error.code, message: error.message }
    throw error
  }
  return { code: undefined, message: '' }
}

const open = (name: string, options?: TapOptions): Tap => own(openTap(name, options))

/** With addresses in this process, as a VM has it, or without. */
function memoryOf(kind: string): GuestMemory {
  const ranges = [{ start: 0, size: 2 ** 24 }]
  return kind === 'plain' ? GuestMemory.fromRanges(ranges) : own(MappedMemory.anonymous(ranges)).memory
}

/** The kernel notices late that a tap was opened, and until then drops what is sent. */
const isInUse = (name: string): boolean => /\bstate UP\b/.test(ip(`link show ${name}`))

/** A guest on a tap that has an address and knows the guest's. */
async function guestOn(
  name: string,
  options: TapOptions & { kind?: string } = {},
): Promise<{ guest: TestGuest; tap: Tap }> {
  const { kind = 'mapped', ...tapOptions } = options
  const queues = tapOptions.queues ?? 1
  link(name, queues > 1 ? 'mode tap multi_queue' : 'mode tap')
  ip(`link set ${name} address ${HOST_MAC} up`)
  ip(`addr add ${HOST_IP}/24 dev ${name}`)
  ip(`neigh add ${GUEST_IP} lladdr ${GUEST_MAC} dev ${name}`)
  const tap = open(name, tapOptions)
  const guest = new TestGuest({ network: tap, mac: GUEST_MAC }, memoryOf(kind))
  await until(() => isInUse(name))
  return { guest, tap }
}

interface Host {
  readonly socket: Socket
  readonly messages: Buffer[]
  send(payload: Uint8Array): Promise<void>
}

/** A UDP socket of the host's. */
async function listen(): Promise<Host> {
  const socket = createSocket('udp4')
  own({ close: () => socket.close() })
  const messages: Buffer[] = []
  socket.on('message', (message) => messages.push(message))
  await new Promise<void>((resolve) => socket.bind(PORT, HOST_IP, resolve))
  const send = (payload: Uint8Array): Promise<void> =>
    new Promise((resolve) => socket.send(payload, GUEST_PORT, GUEST_IP, () => resolve()))
  return { socket, messages, send }
}

function udp(payload: Uint8Array): { packet: Packet; header: Header } {
  const packet = partialPacket({
    protocol: 'udp',
    payload,
    sourceIp: GUEST_IP.split('.').map(Number),
    targetIp: HOST_IP.split('.').map(Number),
    ports: [GUEST_PORT, PORT],
  })
  return { packet, header: { flags: NEEDS_CSUM, csumStart: packet.transport, csumOffset: 6 } }
}

/**
 * Has the kernel refuse to read and write a tap only where that need not wait, as before Linux 6.4: batches go to a device of which it
 * does not know either that it can do so.
 */
function refuseNowait(): void {
  const device = openSync('/dev/full', 'r+')
  own({ close: () => closeSync(device) })
  for (const name of ['read', 'writev'] as const) {
    const real = IoUring.prototype[name]
    const spy = vi.spyOn(IoUring.prototype, name).mockImplementation(function (this: IoUring, _fd, ...rest) {
      return real.call(this, device, ...rest)
    })
    own({ close: () => spy.mockRestore() })
  }
}

/** "Who has the host's address?" */
function arpRequest(): Uint8Array {
  const bytes = (text: string, base: number): number[] =>
    text.split(/[.:]/).map((part) => Number.parseInt(part, base))
  return Uint8Array.from([
    ...[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, ...bytes(GUEST_MAC, 16), 0x08, 0x06],
    ...[0, 1, 0x08, 0, 6, 4, 0, 1, ...bytes(GUEST_MAC, 16), ...bytes(GUEST_IP, 10)],
    ...[0, 0, 0, 0, 0, 0, ...bytes(HOST_IP, 10)],
  ])
}

/** A frame that the host has no use for: of a type for local experiments. */
const unanswered = (): Uint8Array => Uint8Array.from([...arpRequest().subarray(0, 12), 0x88, 0xb5, 0, 0])

const forOne = (frames: readonly Received[]): Received[] =>
  frames.filter(({ frame }) => ((frame[0] as number) & 1) === 0)

/** Frames for the guest alone: the kernel says this and that to groups, in its own time. */
async function receivedBy(guest: TestGuest, count: number, pairs = 1): Promise<Received[]> {
  const all: Received[] = []
  await until(() => {
    for (let pair = 0; pair < pairs; pair += 1) all.push(...forOne(guest.received(pair)))
    return all.length >= count
  })
  return all
}

describeInNamespace('opening a tap', () => {
  it('takes one that is there', () => {
    link('tap0', 'mode tap')
    ip('link set tap0 mtu 9000')
    const tap = open('tap0')
    expect([tap.name, tap.mtu, tap.queuePairs, tap.linkUp, tap.closed]).toEqual([
      'tap0',
      9000,
      1,
      false,
      false,
    ])
    tap.close()
    expect(tap.closed).toBe(true)
    expect(ip('link show tap0')).toContain('tap0')
  })

  it('creates none unasked, and one that is gone when it is closed if asked', () => {
    expect(errorOf(() => open('tap0'))).toEqual({
      code: 'ERR_NET_TAP_MISSING',
      message:
        'tap tap0 does not exist: make it first, by ip tuntap add dev tap0 mode tap, or by the option create',
    })
    expect(() => ip('link show tap0')).toThrow()
    const tap = open('tap0', { create: true })
    expect(ip('link show tap0')).toContain('tap0')
    tap.close()
    expect(() => ip('link show tap0')).toThrow()
    open('tap0', { create: true, queues: 3 }).close()
  })

  it.each(['', '.', '..', 'a b', 'a/b', 'a:b', 'tap%d', 'a\0b'])('refuses the name %j', (name) => {
    expect(errorOf(() => open(name, { create: true }))).toEqual({
      code: 'ERR_NET_TAP_NAME',
      message: `no network interface can have the name ${JSON.stringify(name)}`,
    })
  })

  it('refuses a name of more than 15 bytes', () => {
    expect(errorOf(() => open('a234567890123456'))).toEqual({
      code: 'ERR_NET_TAP_NAME',
      message: 'tap name "a234567890123456" has 16 bytes, at most 15 fit',
    })
    expect(errorOf(() => open('äöüäöüäö')).code).toBe('ERR_NET_TAP_NAME')
    open('a23456789012345', { create: true })
  })

  it('refuses what is no tap', () => {
    link('tun0', 'mode tun')
    link('br0', 'type bridge')
    for (const name of ['lo', 'tun0', 'br0']) {
      expect(errorOf(() => open(name))).toEqual({
        code: 'ERR_NET_TAP_TYPE',
        message: `${name} is a network interface, but no tap`,
      })
    }
  })

  it('refuses one that is taken', () => {
    link('tap0', 'mode tap')
    const first = open('tap0')
    expect(errorOf(() => open('tap0'))).toEqual({
      code: 'ERR_NET_TAP_BUSY',
      message: 'tap tap0 is in use: another VM or program has it open',
    })
    first.close()
    open('tap0')
  })

  it('refuses more queues than there are; one is enough', () => {
    link('tap0', 'mode tap')
    link('tap1', 'mode tap multi_queue')
    expect(errorOf(() => open('tap0', { queues: 2 }))).toEqual({
      code: 'ERR_NET_TAP_QUEUES',
      message: 'tap tap0 has one queue, not 2: create it with multi_queue',
    })
    open('tap1').close()
    expect(open('tap1', { queues: 4 }).queuePairs).toBe(4)
    for (const queues of [0, 65, 1.5]) {
      expect(errorOf(() => open('tap1', { queues })).code).toBe('ERR_NET_OPTION')
    }
  })

  it('refuses one that is not ours, and says what is missing', () => {
    link('tap0', 'mode tap user 1')
    const folder = mkdtempSync(join(tmpdir(), 'vmm-net-'))
    own({ close: () => rmSync(folder, { recursive: true }) })
    const device = join(folder, 'tun')
    execFileSync('mknod', [device, 'c', '10', '200'])
    chmodSync(folder, 0o755)
    chmodSync(device, 0o666)
    const closed = join(folder, 'closed')
    execFileSync('mknod', [closed, 'c', '10', '200'])
    chmodSync(closed, 0o600)
    process.seteuid?.(NOBODY)
    try {
      expect(errorOf(() => open('tap0', { device }))).toEqual({
        code: 'ERR_NET_TAP_PERMISSION',
        message: 'tap tap0 is not yours: it belongs to another user or group',
      })
      expect(errorOf(() => open('tap9', { device, create: true }))).toEqual({
        code: 'ERR_NET_TAP_PERMISSION',
        message: 'tap tap9 cannot be created: that takes CAP_NET_ADMIN',
      })
      expect(errorOf(() => open('tap0', { device: closed }))).toEqual({
        code: 'ERR_NET_TUN',
        message: `tap tap0: no right to ${closed} (EACCES)`,
      })
    } finally {
      process.seteuid?.(0)
    }
    expect(errorOf(() => open('tap0', { device: join(folder, 'none') })).code).toBe('ERR_NET_TUN')
    ip('tuntap del dev tap0 mode tap')
    ip(`tuntap add dev tap0 mode tap user ${NOBODY}`)
    process.seteuid?.(NOBODY)
    try {
      open('tap0', { device })
    } finally {
      process.seteuid?.(0)
    }
  })

  it('fails as everything else where there are no descriptors left', () => {
    link('tap0', 'mode tap')
    const real = libcModule.libc()
    const spies = [
      vi
        .spyOn(libcModule, 'libc')
        .mockReturnValue({ ...real, socketpair: Object.assign(() => -1, real.socketpair) }),
      vi.spyOn(libcModule, 'lastError').mockReturnValue(new SystemError('socketpair', EMFILE)),
    ]
    const error = errorOf(() => openTap('tap0'))
    for (const spy of spies) spy.mockRestore()
    expect(error).toEqual({ code: 'ERR_NET_TAP_OPEN', message: 'tap tap0 cannot be looked for: EMFILE' })
  })

  it('is of one device', () => {
    const tap = open('tap0', { create: true })
    new TestGuest({ network: tap })
    expect(errorOf(() => new TestGuest({ network: tap })).code).toBe('ERR_NET_OPTION')
  })
})

describeInNamespace('frames on a tap', () => {
  it.each(['mapped', 'plain'])(
    'go both ways, whole, with checksums for the other side to complete (%s memory)',
    async (kind) => {
      const { guest } = await guestOn('tap0', { kind })
      guest.offer()
      const host = await listen()
      await host.send(numbered(900))
      const [{ header, frame } = { header: undefined, frame: undefined }] = await receivedBy(guest, 1)
      const { packet } = udp(numbered(900))
      expect(frame?.subarray(42)).toEqual(numbered(900))
      expect([header?.[0], header?.[6], header?.[8], header?.[10]]).toEqual([NEEDS_CSUM, 34, 6, 1])
      expect(isRight(frame ?? packet.frame, packet)).toBe(false)

      const sent = udp(numbered(901))
      guest.send(sent.packet.frame, sent.header)
      await until(() => host.messages.length > 0)
      expect(new Uint8Array(host.messages[0] ?? [])).toEqual(numbered(901))
      expect(guest.failures).toEqual([])
    },
  )

  it('have their checksums for a guest that wants them', async () => {
    const { guest } = await guestOn('tap0')
    expect(guest.setOffloads(0)).toBe(0)
    guest.offer()
    const host = await listen()
    await host.send(numbered(99))
    const [{ header, frame } = { header: undefined, frame: new Uint8Array() }] = await receivedBy(guest, 1)
    expect(header?.slice(0, 10)).toEqual(new Uint8Array(10))
    expect(isRight(frame, udp(numbered(99)).packet)).toBe(true)
  })

  it.each(['mapped', 'plain'])('come over several buffers, and wait for room (%s memory)', async (kind) => {
    const { guest } = await guestOn('tap0', { kind })
    const host = await listen()
    for (let i = 0; i < 3; i += 1) await host.send(numbered(1000 + i))
    await turns(10)
    guest.offer(64, 256)
    const frames = await receivedBy(guest, 3)
    expect(frames.map(({ header }) => header[10])).toEqual([5, 5, 5])
    expect(frames.map(({ frame }) => frame.subarray(42))).toEqual([
      numbered(1000),
      numbered(1001),
      numbered(1002),
    ])
  })

  it('that are too long for the guest are dropped, and counted, and the next one comes', async () => {
    const { guest } = await guestOn('tap0')
    guest.offer(2, 256)
    const host = await listen()
    await host.send(numbered(1000))
    await host.send(numbered(100))
    const frames = await receivedBy(guest, 1)
    expect(frames.map(({ frame }) => frame.length)).toEqual([142])
    expect(guest.net.counters).toMatchObject({ rxFrames: 1, rxDropped: 1 })
  })

  it('come by the hundred, in order', async () => {
    const { guest } = await guestOn('tap0')
    guest.offer(256)
    const host = await listen()
    const frames: Received[] = []
    for (let i = 0; i < 300; i += 1) {
      await host.send(Uint8Array.of(i & 0xff, i >> 8))
      frames.push(...forOne(guest.received()))
    }
    frames.push(...(await receivedBy(guest, 300 - frames.length)))
    expect(frames.map(({ frame }) => (frame[42] as number) + 256 * (frame[43] as number))).toEqual(
      Array.from({ length: 300 }, (_, i) => i),
    )
  })

  it('go and come by many at a time, in order', async () => {
    const { guest } = await guestOn('tap0')
    // A guest that takes long frames gets them over several buffers, one at a time.
    guest.setOffloads(0)
    guest.offer(256)
    const host = await listen()
    const replies: Received[] = []
    const [rounds, pairs] = [4, 40]
    for (let round = 0; round < rounds; round += 1) {
      for (let i = 0; i < pairs; i += 1) {
        const { packet, header } = udp(Uint8Array.of(round, i))
        guest.add(packet.frame, header)
        guest.add(arpRequest())
      }
      guest.kick()
      replies.push(...forOne(guest.received()))
    }
    const all = rounds * pairs
    replies.push(...(await receivedBy(guest, all - replies.length)))
    // From the host's address, which they tell.
    const answer = [...HOST_IP.split('.').map(Number)]
    expect(replies.map(({ frame }) => [...frame.subarray(28, 32)])).toEqual(Array(all).fill(answer))
    await until(() => host.messages.length === all)
    expect(host.messages.map(([round = 0, i = 0]) => pairs * round + i)).toEqual(
      Array.from({ length: all }, (_, i) => i),
    )
    expect(guest.net.counters).toMatchObject({ txFrames: 2 * all, txDropped: 0, rxDropped: 0 })
  })

  it('go by many where the kernel does not know that a tap need not wait', async () => {
    const { guest } = await guestOn('tap0')
    const host = await listen()
    refuseNowait()
    const { packet, header } = udp(numbered(100))
    for (let i = 0; i < MANY; i += 1) guest.add(packet.frame, header)
    guest.kick()
    await until(() => host.messages.length === MANY)
    expect(guest.net.counters).toMatchObject({ txFrames: MANY, txDropped: 0 })
    expect(guest.failures).toEqual([])
  })

  it('come by many where the kernel does not know that a tap need not wait', async () => {
    const { guest } = await guestOn('tap0')
    guest.setOffloads(0)
    const host = await listen()
    refuseNowait()
    for (let i = 0; i < MANY; i += 1) await host.send(numbered(100 + i))
    guest.offer()
    const frames = await receivedBy(guest, MANY)
    expect(frames.map(({ frame }) => frame.length - 42)).toEqual(
      Array.from({ length: MANY }, (_, i) => 100 + i),
    )
    expect(guest.failures).toEqual([])
  })

  it('that are longer than they may be, of many, come whole or not at all, and the others come', async () => {
    const { guest } = await guestOn('tap0')
    // A guest that takes long frames gets them over several buffers, one at a time.
    guest.setOffloads(0)
    const host = await listen()
    guest.offer(64)
    for (let i = 0; i < 32; i += 1) guest.add(arpRequest())
    guest.kick()
    expect(await receivedBy(guest, 32)).toHaveLength(32)
    ip('link set tap0 mtu 9000')
    const long = 5000
    const sizes = Array.from({ length: 32 }, (_, i) => (i % 4 === 0 ? long : 100 + i))
    await Promise.all(sizes.map((size) => host.send(numbered(size))))
    const frames: number[] = []
    await until(() => {
      frames.push(...forOne(guest.received()).map(({ frame }) => frame.length - 42))
      return frames.length + guest.net.counters.rxDropped === sizes.length
    })
    const isShort = (size: number): boolean => size !== long
    expect(frames.filter(isShort)).toEqual(sizes.filter(isShort))
    expect(guest.net.counters.rxDropped).toBeGreaterThan(0)
  })

  it("that are the host's own answers come before the event loop turns", async () => {
    const { guest } = await guestOn('tap0')
    guest.offer()
    for (let i = 0; i < 5; i += 1) {
      guest.send(arpRequest())
      expect(forOne(guest.received())).toHaveLength(1)
    }
  })

  it('that answer after many that were not answered come too', async () => {
    const { guest } = await guestOn('tap0')
    guest.offer()
    for (let i = 0; i < 100; i += 1) guest.send(unanswered())
    guest.send(arpRequest())
    expect(await receivedBy(guest, 1)).toHaveLength(1)
  })

  it('of before the guest are not given to it', async () => {
    link('tap0', 'mode tap')
    ip(`link set tap0 address ${HOST_MAC} up`)
    const tap = open('tap0')
    ip(`addr add ${HOST_IP}/24 dev tap0`)
    ip(`neigh add ${GUEST_IP} lladdr ${GUEST_MAC} dev tap0`)
    await until(() => isInUse('tap0'))
    const host = await listen()
    await host.send(numbered(100))
    const guest = new TestGuest({ network: tap }, memoryOf('mapped')).offer()
    await host.send(numbered(200))
    const frames = await receivedBy(guest, 1)
    expect(frames.map(({ frame }) => frame.length)).toEqual([242])
  })

  it('that the kernel does not believe are dropped, and nobody is bothered', async () => {
    const { guest } = await guestOn('tap0')
    const packet = partialPacket({ payload: numbered(3000) })
    const header = {
      flags: NEEDS_CSUM,
      gsoType: GSO_TCPV6,
      gsoSize: 1000,
      csumStart: 14,
      csumOffset: 16,
      hdrLen: 20,
    }
    guest.send(packet.frame, header)
    expect(guest.failures).toEqual([])
    expect(guest.net.counters.txFrames + guest.net.counters.txDropped).toBe(1)
  })

  it('that the kernel does not believe are dropped from among others, and counted', async () => {
    const { guest } = await guestOn('tap0')
    const host = await listen()
    for (let i = 0; i < 20; i += 1) {
      const { packet, header } = udp(Uint8Array.of(i))
      const lie = { ...header, gsoType: GSO_TCPV4, gsoSize: 1 }
      guest.add(packet.frame, i % 4 === 3 ? lie : header)
    }
    guest.kick()
    await until(() => host.messages.length === 15)
    expect(guest.failures).toEqual([])
    expect(guest.net.counters).toMatchObject({ txFrames: 15, txBytes: 15 * 43, txDropped: 5 })
  })

  it('go by all queues that the guest asks for', async () => {
    const { guest } = await guestOn('tap0', { queues: 3 })
    const host = await listen()
    for (const pair of [0, 1, 2]) guest.offer(64, 2048, pair)
    await host.send(numbered(10))
    await receivedBy(guest, 1)
    expect(guest.setQueuePairs(3)).toBe(0)
    for (const pair of [0, 1, 2]) {
      const { packet, header } = udp(Uint8Array.of(pair))
      guest.send(packet.frame, header, pair)
    }
    await until(() => host.messages.length === 3)
    expect(host.messages.map((message) => message[0])).toEqual([0, 1, 2])
    // The kernel answers a flow by the queue that it came from.
    await host.send(numbered(11))
    await receivedBy(guest, 1, 3)
    expect(guest.setQueuePairs(1)).toBe(0)
    await host.send(numbered(12))
    const [{ frame } = { frame: undefined }] = await receivedBy(guest, 1)
    expect(frame?.length).toBe(54)
    expect(guest.failures).toEqual([])
  })
})

describeInNamespace('TCP segments', () => {
  /** Two guests on taps that the kernel bridges. */
  async function bridged(): Promise<{ one: TestGuest; two: TestGuest }> {
    link('br0', 'type bridge')
    ip('link set br0 up')
    const [one, two] = ['tap0', 'tap1'].map((name) => {
      link(name, 'mode tap')
      ip(`link set ${name} master br0 up`)
      return new TestGuest({ network: open(name) }, memoryOf('mapped'))
    })
    if (one === undefined || two === undefined) throw new Error('no guests')
    await until(() =>
      ['tap0', 'tap1'].every((name) => ip(`-d link show ${name}`).includes('state forwarding')),
    )
    return { one, two: two.offer(256) }
  }

  const cases = [
    { size: 1448 },
    { size: 1000, isIpv6: true },
    { size: 536, extra: 8 },
    { size: 1400, vlan: true },
    { size: 1448, flags: 0x80 | 0x01 | 0x10, ecn: true },
  ]

  it.each(cases)('are those that the kernel makes: %o', async ({ size, ecn = false, ...options }) => {
    const packet = partialPacket({
      to: MAC_B,
      from: MAC_A,
      payload: numbered(20_001),
      sequence: 0xffff_0000,
      ...options,
    })
    const header: Header = {
      flags: NEEDS_CSUM,
      gsoType: (options.isIpv6 ? GSO_TCPV6 : GSO_TCPV4) | (ecn ? 0x80 : 0),
      gsoSize: size,
      hdrLen: packet.payload,
      csumStart: packet.transport,
      csumOffset: 16,
    }
    const kernel = await bridged()
    expect(kernel.two.setOffloads(0)).toBe(0)
    kernel.one.send(packet.frame, header)
    const count = Math.ceil(20_001 / size)
    const expected = await receivedBy(kernel.two, count)

    const lan = new Switch()
    const one = new TestGuest({ network: lan.port() })
    const two = new TestGuest({ network: lan.port() }).offer(256)
    two.setOffloads(0)
    one.send(packet.frame, header)
    const made = two.received()
    expect(made.length).toBe(count)
    expect(made.map(({ frame }) => Buffer.from(frame).toString('hex'))).toEqual(
      expected.map(({ frame }) => Buffer.from(frame).toString('hex')),
    )
  })

  it('are not made for a guest that takes them whole', async () => {
    const { one, two } = await bridged()
    expect(two.setOffloads(GUEST_CSUM | GUEST_TSO4 | GUEST_TSO6)).toBe(0)
    const packet = partialPacket({ payload: numbered(60_000) })
    const header = {
      flags: NEEDS_CSUM,
      gsoType: GSO_TCPV4,
      gsoSize: 1448,
      hdrLen: packet.payload,
      csumStart: packet.transport,
      csumOffset: 16,
    }
    one.send(packet.frame, header)
    const [received] = await receivedBy(two, 1)
    expect(Buffer.compare(received?.frame ?? new Uint8Array(), packet.frame)).toBe(0)
    expect([received?.header[0], received?.header[1]]).toEqual([NEEDS_CSUM, GSO_TCPV4])
  })
})

describeInNamespace('a tap that goes', () => {
  it('down takes the link down, once, and brings it back', async () => {
    const { guest } = await guestOn('tap0')
    guest.offer()
    const host = await listen()
    ip('link set tap0 down')
    const { packet, header } = udp(numbered(10))
    for (let i = 0; i < 3; i += 1) guest.send(packet.frame, header)
    await turns()
    expect(guest.net.linkUp).toBe(false)
    expect(guest.failures).toEqual(['ERR_NET_TAP_DOWN'])
    expect(guest.net.counters.txDropped).toBe(3)
    ip('link set tap0 up')
    await until(() => guest.net.linkUp)
    guest.send(packet.frame, header)
    await until(() => host.messages.length > 0)
    ip(`neigh replace ${GUEST_IP} lladdr ${GUEST_MAC} dev tap0`)
    await host.send(numbered(20))
    await receivedBy(guest, 1)
    ip('link set tap0 down')
    guest.send(packet.frame, header)
    expect(guest.failures).toEqual(['ERR_NET_TAP_DOWN', 'ERR_NET_TAP_DOWN'])
  })

  it('up after the guest has started brings the link up', async () => {
    link('tap0', 'mode tap')
    const guest = new TestGuest({ network: open('tap0') }, memoryOf('mapped'))
    expect([guest.net.linkUp, guest.failures]).toEqual([false, []])
    await turns()
    expect(guest.net.linkUp).toBe(false)
    ip('link set tap0 up')
    await until(() => guest.net.linkUp)
  })

  it('for good is reported, once, whether the guest does anything or not', async () => {
    const { guest, tap } = await guestOn('tap0', { queues: 2 })
    ip('link del tap0')
    await until(() => !guest.net.linkUp)
    guest.send(udp(numbered(10)).packet.frame)
    await turns()
    expect(guest.failures).toEqual(['ERR_NET_TAP_GONE'])
    expect(guest.setQueuePairs(2)).toBe(0)
    guest.transport.reset()
    expect(guest.failures).toEqual(['ERR_NET_TAP_GONE'])
    tap.close()
  })

  it('because it is closed takes the link down', async () => {
    const { guest, tap } = await guestOn('tap0')
    guest.offer()
    tap.close()
    tap.close()
    expect(guest.net.linkUp).toBe(false)
    guest.send(udp(numbered(10)).packet.frame)
    await turns()
    expect(guest.failures).toEqual([])
    expect(ip('link show tap0')).toContain('NO-CARRIER')
  })
})
