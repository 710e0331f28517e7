import { once } from 'node:events'
import { describe, expect, it } from 'vitest'
import { MockVsockGuest } from '../../src/testing/index.ts'
import {
  MmioTransport,
  VIRTIO_ID_VSOCK,
  Vsock,
  type VsockOptions,
  type VsockStream,
} from '../../src/virtio/index.ts'
import * as reg from '../../src/virtio/mmio/registers.ts'
import { FAULT_ADDRESS } from '../../src/virtio/vsock/faults.ts'
import * as spec from '../../src/virtio/vsock/spec.ts'
import { codeThrownBy, ManualTime } from '../support.ts'
import { closed, GUEST_CID, PORT, RawGuest, readAll, settle, setUp } from './vsock-support.ts'

const {
  VIRTIO_VSOCK_OP_REQUEST: REQUEST,
  VIRTIO_VSOCK_OP_RESPONSE: RESPONSE,
  VIRTIO_VSOCK_OP_RST: RST,
  VIRTIO_VSOCK_OP_SHUTDOWN: SHUTDOWN,
  VIRTIO_VSOCK_OP_RW: RW,
  VIRTIO_VSOCK_SHUTDOWN_BOTH: BOTH,
  VIRTIO_VSOCK_SHUTDOWN_RCV: RCV,
  VIRTIO_VSOCK_SHUTDOWN_SEND: SEND,
} = spec
const TEXT = Buffer.from('a line\n')
const HOST_PORT = 2 ** 30

const codeOf = async (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => 'resolved',
    (error) => error.code ?? error.name,
  )

describe('virtio-vsock', () => {
  it('is a socket device with three queues and the CID of the guest', () => {
    const { guest } = setUp({ guestCid: 0xffff_fffe }, { cid: 0xffff_fffe })
    expect(guest.transport.read(reg.VIRTIO_MMIO_DEVICE_ID, 4)).toBe(VIRTIO_ID_VSOCK)
    expect(guest.transport.read(reg.VIRTIO_MMIO_CONFIG, 4)).toBe(0xffff_fffe)
    expect(guest.transport.read(reg.VIRTIO_MMIO_CONFIG + 4, 4)).toBe(0)
    guest.transport.write(reg.VIRTIO_MMIO_QUEUE_SEL, 3, 4)
    expect(guest.transport.read(reg.VIRTIO_MMIO_QUEUE_NUM_MAX, 4)).toBe(0)
  })

  it.each([-1, 0, 2, 2.5, Number.NaN, 2 ** 32 - 1, 2 ** 32])('refuses the CID %d', (guestCid) => {
    expect(codeThrownBy(() => new Vsock({ guestCid }))).toBe('ERR_DEVICE_OPTION')
  })

  it('refuses other options out of range', () => {
    for (const options of [{ bufferSize: 4095 }, { bufferSize: 2 ** 25 }, { maxConnections: 0 }]) {
      expect(codeThrownBy(() => new Vsock({ guestCid: 3, ...options }))).toBe('ERR_DEVICE_OPTION')
    }
  })

  it('refuses ports that are none, and ports in use', async () => {
    const { vsock } = setUp()
    for (const port of [-1, 0.5, 2 ** 32 - 1]) {
      expect(codeThrownBy(() => vsock.listen(port, () => {}))).toBe('ERR_DEVICE_OPTION')
      expect(await codeOf(vsock.connect(port))).toBe('ERR_DEVICE_OPTION')
    }
    expect(await codeOf(vsock.connect(1, { timeout: 0 }))).toBe('ERR_DEVICE_OPTION')
    const listener = vsock.listen(2 ** 32 - 2, () => {})
    expect(codeThrownBy(() => vsock.listen(2 ** 32 - 2, () => {}))).toBe('EADDRINUSE')
    listener.close()
    listener.close()
    vsock.listen(2 ** 32 - 2, () => {})[Symbol.dispose]()
  })

  it.each([
    { packed: false, twoDescriptors: false },
    { packed: true, twoDescriptors: true },
  ])('carries what the guest dials: %o', async (options) => {
    const { vsock, guest } = setUp({}, options)
    const streams: VsockStream[] = []
    vsock.listen(PORT, (stream) => {
      streams.push(stream)
      stream.pipe(stream)
    })
    const socket = guest.connect(PORT)
    socket.end(TEXT)
    expect(await readAll(socket)).toEqual(TEXT)
    await settle()
    const [stream] = streams
    expect(stream).toMatchObject({
      localPort: PORT,
      remotePort: socket.localPort,
      remoteCid: GUEST_CID,
      bytesRead: TEXT.length,
      bytesWritten: TEXT.length,
      closed: true,
      errored: null,
    })
    expect([vsock.connections, guest.sockets, guest.faults]).toEqual([0, 0, []])
  })

  it('carries what the host dials', async () => {
    const { vsock, guest } = setUp()
    guest.listen(22, (socket) => socket.pipe(socket))
    const stream = await vsock.connect(22)
    expect(stream.remotePort).toBe(22)
    stream.end(TEXT)
    expect(await readAll(stream)).toEqual(TEXT)
    await settle()
    expect([vsock.connections, guest.sockets, guest.faults]).toEqual([0, 0, []])
  })

  it('has one transport', () => {
    const { vsock } = setUp()
    expect(codeThrownBy(() => new MockVsockGuest({ device: vsock }))).toBe('ERR_DEVICE_OPTION')
  })
})

describe('a connection that the guest asks for', () => {
  it('is refused on a port where nobody listens, or nobody listens any more', async () => {
    const { vsock, guest } = setUp()
    expect(await closed(guest.connect(PORT))).toBe('ECONNRESET')
    vsock.listen(PORT, () => {}).close()
    expect(await closed(guest.connect(PORT))).toBe('ECONNRESET')
    const listener = vsock.listen(PORT, () => expect.unreachable())
    const socket = guest.connect(PORT)
    guest.poll()
    // The packet is there, nobody has been told.
    listener.close()
    expect(await closed(socket)).toBe('ECONNRESET')
    expect(vsock.connections).toBe(0)
  })

  it('may be answered later, by whoever is asked about all ports', async () => {
    const { vsock, guest } = setUp()
    vsock.listen(PORT, (stream) => stream.resume())
    vsock.onRequest(async (request) => {
      await settle()
      if (request.port === 7) request.accept()?.end(TEXT)
      else request.refuse()
      request.refuse()
      expect(request.accept()).toBe(undefined)
    })
    const other = guest.connect(PORT).end()
    const ends = [readAll(guest.connect(7)), closed(guest.connect(8)), readAll(other)]
    expect(await Promise.all(ends)).toEqual([TEXT, 'ECONNRESET', Buffer.alloc(0)])
    vsock.onRequest(undefined)
    expect(await closed(guest.connect(7))).toBe('ECONNRESET')
  })

  it('may be given up by the guest before the answer', async () => {
    const raw = new RawGuest()
    let signal: AbortSignal | undefined
    raw.vsock.onRequest((request) => {
      signal = request.signal
      signal.addEventListener('abort', () => expect(request.accept()).toBe(undefined))
    })
    raw.guest.send({ op: REQUEST, srcPort: 5, dstPort: PORT })
    await settle()
    expect([signal?.aborted, raw.vsock.connections]).toEqual([false, 1])
    raw.guest.send({ op: RST, srcPort: 5, dstPort: PORT })
    await settle()
    expect([signal?.aborted, raw.vsock.connections]).toEqual([true, 0])
    expect(await raw.operations()).toEqual([])
  })

  it('is refused when there are as many as there may be, until one is closed on both sides', async () => {
    const { vsock, guest } = setUp({ maxConnections: 2 })
    const streams: VsockStream[] = []
    vsock.listen(PORT, (stream) => streams.push(stream))
    const first = guest.connect(PORT)
    const second = guest.connect(PORT)
    await settle()
    expect(await codeOf(vsock.connect(1))).toBe('EMFILE')
    second.destroy()
    await settle()
    // The host has not closed its stream, in whose buffer anything may be.
    expect(await closed(guest.connect(PORT))).toBe('ECONNRESET')
    streams[1]?.destroy()
    const third = guest.connect(PORT)
    await once(third, 'connect')
    expect([vsock.connections, first.destroyed]).toEqual([2, false])
  })
})

describe('a connection that the host asks for', () => {
  it('is refused where the guest has no driver, or nobody listens', async () => {
    const idle = new Vsock({ guestCid: 3 })
    expect(await codeOf(idle.connect(22))).toBe('ECONNREFUSED')
    const { vsock } = setUp()
    await expect(vsock.connect(22)).rejects.toMatchObject({
      code: 'ECONNREFUSED',
      message: 'vsock: port 22 of the guest with port 1073741824 of the host: nobody listens there',
    })
    expect(vsock.connections).toBe(0)
  })

  it('times out, and is over for the guest then', async () => {
    const time = new ManualTime(0)
    const raw = new RawGuest({ timers: time })
    const promise = codeOf(raw.vsock.connect(22, { timeout: 1000 }))
    expect(await raw.take()).toEqual([{ op: REQUEST, flags: 0, srcPort: HOST_PORT, dstPort: 22, len: 0 }])
    time.advance(1000)
    expect(await promise).toBe('ETIMEDOUT')
    expect(await raw.operations()).toEqual([RST])
    expect(raw.vsock.connections).toBe(0)
    // An answer that comes too late.
    raw.guest.send({ op: RESPONSE, srcPort: 22, dstPort: HOST_PORT })
    expect(await raw.operations()).toEqual([RST])
  })

  it('is aborted by a signal, before, while and after the guest is asked', async () => {
    const raw = new RawGuest()
    expect(await codeOf(raw.vsock.connect(22, { signal: AbortSignal.abort() }))).toBe(20)
    const unseen = new AbortController()
    const before = codeOf(raw.vsock.connect(22, { signal: unseen.signal }))
    unseen.abort(new Error('changed my mind'))
    expect(await before).toBe('Error')
    expect(await raw.operations()).toEqual([])
    const controller = new AbortController()
    const promise = codeOf(raw.vsock.connect(22, { signal: controller.signal }))
    expect(await raw.operations()).toEqual([REQUEST])
    controller.abort()
    expect(await promise).toBe(20)
    expect(await raw.operations()).toEqual([RST])
    expect(raw.vsock.connections).toBe(0)
    const late = new AbortController()
    const dialled = raw.vsock.connect(22, { signal: late.signal })
    await settle()
    raw.guest.send({ op: RESPONSE, srcPort: 22, dstPort: HOST_PORT + 2 })
    const stream = await dialled
    late.abort()
    expect(stream.destroyed).toBe(false)
  })

  it('has a port of its own, that nobody listens on', async () => {
    const raw = new RawGuest()
    raw.vsock.listen(HOST_PORT, () => {})
    for (let i = 0; i < 2; i += 1) raw.vsock.connect(22).catch(() => {})
    expect((await raw.take()).map(({ srcPort }) => srcPort)).toEqual([HOST_PORT + 1, HOST_PORT + 2])
    expect(codeThrownBy(() => raw.vsock.listen(HOST_PORT + 1, () => {}))).toBe('EADDRINUSE')
  })
})

describe('the end of a connection', () => {
  it('may come one side at a time, with data the other way in between', async () => {
    const { vsock, guest } = setUp()
    vsock.listen(
      PORT,
      async (stream) => {
        const all = await readAll(stream)
        await settle()
        stream.end(all)
      },
      { allowHalfOpen: true },
    )
    const socket = guest.connect(PORT)
    socket.end(TEXT)
    expect(await readAll(socket)).toEqual(TEXT)
    guest.listen(22, async (other) => {
      await readAll(other)
      other.end(TEXT)
    })
    const stream = await vsock.connect(22)
    stream.end()
    expect(await readAll(stream)).toEqual(TEXT)
    await settle()
    expect([vsock.connections, guest.sockets]).toEqual([0, 0])
  })

  it("ends the host's side with the guest's, unless it may stay half open", async () => {
    const raw = new RawGuest()
    const stream = await raw.dial(5)
    await raw.take()
    raw.guest.send({ op: SHUTDOWN, flags: SEND, srcPort: 5, dstPort: PORT })
    stream.resume()
    const flags = (await raw.take()).map((packet) => [packet.op, packet.flags])
    expect(flags).toEqual([
      [SHUTDOWN, SEND],
      [SHUTDOWN, BOTH],
    ])
    expect(stream.destroyed).toBe(true)
    expect(raw.vsock.connections).toBe(1)
    raw.guest.send({ op: RST, srcPort: 5, dstPort: PORT })
    await settle()
    expect(raw.vsock.connections).toBe(0)
  })

  it('is not waited for longer than some seconds', async () => {
    const time = new ManualTime(0)
    const raw = new RawGuest({ timers: time })
    ;(await raw.dial(5)).destroy()
    expect(await raw.operations()).toEqual([RESPONSE, SHUTDOWN])
    time.advance(7999)
    expect(await raw.operations()).toEqual([])
    time.advance(1)
    expect(await raw.operations()).toEqual([RST])
    expect([raw.vsock.connections, time.pendingCount]).toEqual([0, 0])
  })

  it('is answered with RST when the guest has shut down both sides; what it had sent is read', async () => {
    const raw = new RawGuest()
    const stream = await raw.dial(5)
    await raw.take()
    raw.guest.send({ op: RW, srcPort: 5, dstPort: PORT, payload: TEXT })
    raw.guest.send({ op: SHUTDOWN, flags: RCV, srcPort: 5, dstPort: PORT })
    raw.guest.send({ op: SHUTDOWN, flags: SEND, srcPort: 5, dstPort: PORT })
    expect(await raw.operations()).toEqual([RST])
    expect(await readAll(stream)).toEqual(TEXT)
    expect(raw.vsock.connections).toBe(0)
  })

  it('is answered with RST when both sides come to it at once', async () => {
    const time = new ManualTime(0)
    const raw = new RawGuest({ timers: time })
    ;(await raw.dial(5)).destroy()
    expect(await raw.operations()).toEqual([RESPONSE, SHUTDOWN])
    raw.guest.send({ op: SHUTDOWN, flags: SEND, srcPort: 5, dstPort: PORT })
    expect(await raw.operations()).toEqual([])
    raw.guest.send({ op: SHUTDOWN, flags: BOTH, srcPort: 5, dstPort: PORT })
    expect(await raw.operations()).toEqual([RST])
    expect([raw.vsock.connections, time.pendingCount]).toEqual([0, 0])
  })

  it('makes writes fail when the guest does not receive any more', async () => {
    const raw = new RawGuest()
    const stream = await raw.dial(5, PORT, 0)
    raw.guest.send({ op: SHUTDOWN, flags: RCV, srcPort: 5, dstPort: PORT })
    await settle()
    expect(stream.destroyed).toBe(false)
    stream.write(TEXT)
    expect(await closed(stream)).toBe('EPIPE')
    // A write that is under way.
    const other = await raw.dial(6, PORT, 0)
    other.write(TEXT)
    await settle()
    raw.guest.send({ op: SHUTDOWN, flags: RCV, srcPort: 6, dstPort: PORT })
    expect(await closed(other)).toBe('EPIPE')
  })

  it('by RST is an error for the stream, and so is the reset of the device', async () => {
    const raw = new RawGuest()
    const stream = await raw.dial(5)
    raw.guest.send({ op: RW, srcPort: 5, dstPort: PORT, payload: TEXT })
    raw.guest.send({ op: RST, srcPort: 5, dstPort: PORT })
    expect(await closed(stream)).toBe('ECONNRESET')
    const other = await raw.dial(6)
    const dialled = codeOf(raw.vsock.connect(1))
    await settle()
    raw.guest.start()
    expect(await closed(other)).toBe('ECONNRESET')
    expect(await dialled).toBe('ECONNRESET')
    expect(raw.vsock.connections).toBe(0)
    // Who listens goes on.
    expect((await raw.dial(7)).destroyed).toBe(false)
  })

  it('by an error of the host is an RST, at once', async () => {
    const raw = new RawGuest()
    const stream = await raw.dial(5)
    await raw.take()
    stream.write(TEXT)
    stream.destroy(new Error('no'))
    expect(await raw.operations()).toEqual([RST])
    expect(raw.vsock.connections).toBe(0)
  })

  it('by both sides leaves the ports to the next one, though the guest had no room to be told', async () => {
    const raw = new RawGuest()
    const old = await raw.dial(5)
    await raw.take()
    raw.guest.starves = true
    // A packet for each of its buffers.
    for (let i = 0; i < 128; i += 1) raw.guest.send({ op: RW, srcPort: 6, dstPort: PORT })
    await raw.take()
    old.destroy(new Error('no'))
    await settle()
    raw.guest.send({ op: RST, srcPort: 5, dstPort: PORT })
    raw.guest.send({ op: REQUEST, srcPort: 5, dstPort: PORT, bufAlloc: 65_536 })
    await settle()
    raw.guest.starves = false
    raw.guest.poll()
    expect(await raw.operations()).toEqual([RESPONSE])
    expect(raw.vsock.connections).toBe(1)
  })

  it('is noticed by a timeout where one is set', async () => {
    const raw = new RawGuest()
    const stream = await raw.dial(5)
    await once(stream.setTimeout(1), 'timeout')
    stream.setTimeout(0)
    expect(stream.setNoDelay().setKeepAlive().ref().unref()).toBe(stream)
    expect(stream.destroyed).toBe(false)
  })
})

describe('a virtio-vsock that is closed', () => {
  it('resets its connections, makes no more, and leaves guest memory alone', async () => {
    const raw = new RawGuest()
    const stream = await raw.dial(5)
    const pending = codeOf(raw.vsock.connect(22))
    await settle()
    stream.write(TEXT)
    raw.vsock.close()
    raw.vsock[Symbol.dispose]()
    const memory = raw.guest.memory.bytes.slice()
    const ends = [closed(stream), pending, codeOf(raw.vsock.connect(22))]
    raw.guest.transport.notify(0)
    raw.guest.transport.notify(1)
    expect(await Promise.all(ends)).toEqual(['ECONNRESET', 'ECONNRESET', 'ECONNREFUSED'])
    stream.write(TEXT)
    await settle()
    expect(Buffer.compare(raw.guest.memory.bytes, memory)).toBe(0)
    expect(raw.vsock.connections).toBe(0)
  })
})

describe('an exception of the code that uses a stream', () => {
  it("is nobody else's", async () => {
    const { vsock, guest } = setUp()
    const uncaught: unknown[] = []
    const listeners = process.listeners('uncaughtException')
    process.removeAllListeners('uncaughtException')
    process.on('uncaughtException', (error) => uncaught.push(error))
    const error = new Error('mine')
    vsock.listen(PORT, (stream) => {
      stream.on('data', () => {
        throw error
      })
    })
    vsock.listen(7, (stream) => stream.pipe(stream))
    guest.connect(PORT).write(TEXT)
    const good = guest.connect(7)
    good.end(TEXT)
    expect(await readAll(good)).toEqual(TEXT)
    process.removeAllListeners('uncaughtException')
    for (const listener of listeners) process.on('uncaughtException', listener)
    expect(uncaught).toEqual([error])
  })
})

describe('a saved virtio-vsock', () => {
  it('comes back without its connections, which the guest is told, and serves new ones both ways', async () => {
    const { vsock, guest } = setUp()
    vsock.listen(PORT, (stream) => stream.pipe(stream))
    guest.listen(22, (socket) => socket.pipe(socket))
    const old = guest.connect(PORT)
    await once(old, 'connect')
    const state = JSON.parse(JSON.stringify(guest.transport.state()))
    expect(state.device).toEqual({ version: 1, lastPort: 2 * HOST_PORT - 1 })
    for (let time = 0; time < 3; time += 1) {
      const again = new Vsock({ guestCid: 4 })
      again.listen(PORT, (stream) => stream.pipe(stream))
      const copy = new MockVsockGuest({
        device: again,
        cid: 4,
        memory: { ...guest.memory, bytes: guest.memory.bytes },
        makeTransport: (options) => MmioTransport.fromState(state, options),
      })
      if (time > 0) continue
      copy.takeOver(guest)
      copy.listen(22, (socket) => socket.pipe(socket))
      copy.transport.resume()
      expect(await closed(old)).toBe('ECONNRESET')
      expect(copy.events).toEqual([spec.VIRTIO_VSOCK_EVENT_TRANSPORT_RESET])
      const [socket, stream] = [copy.connect(PORT), await again.connect(22)]
      for (const one of [socket, stream]) one.end(TEXT)
      expect(await readAll(socket)).toEqual(TEXT)
      expect(await readAll(stream)).toEqual(TEXT)
    }
  })

  /** A guest that was saved with the CID 3 and goes on with 4. It looks at packets first, and then at events, as Linux does. */
  const restored = (options: Partial<VsockOptions> = {}) => {
    const { guest } = setUp()
    const vsock = new Vsock({ guestCid: 4, ...options })
    const copy = new MockVsockGuest({
      device: vsock,
      cid: GUEST_CID,
      memory: guest.memory,
      makeTransport: (all) => MmioTransport.fromState(guest.transport.state(), all),
    })
    copy.takeOver(guest)
    copy.listen(22, (socket) => socket.pipe(socket))
    return { vsock, copy }
  }

  it('keeps calls to the guest back until that knows of the reset, which would end them, and of its CID', async () => {
    const { vsock, copy } = restored()
    const connecting = vsock.connect(22)
    copy.transport.resume()
    const stream = await connecting
    expect(copy.cid).toBe(4)
    stream.end(TEXT)
    expect(await readAll(stream)).toEqual(TEXT)
    expect(copy.faults).toEqual([])
  })

  it('keeps them back for as long as it is paused, and after that no less', async () => {
    const time = new ManualTime(0)
    const { vsock, copy } = restored({ timers: time })
    const connecting = vsock.connect(22, { timeout: 60_000 })
    await settle()
    for (let look = 0; look < 2000; look += 1) time.advance(5)
    copy.transport.resume()
    for (let look = 0; look < 10 && copy.sockets === 0; look += 1) {
      await settle()
      time.advance(5)
    }
    const stream = await connecting
    stream.end(TEXT)
    expect(await readAll(stream)).toEqual(TEXT)
  })

  it('goes on counting ports, as the guest may hold its ends of old connections', async () => {
    const { vsock, guest } = setUp()
    guest.listen(22, (socket) => socket.on('error', () => {}).pipe(socket))
    const streams = [await vsock.connect(22), await vsock.connect(22)]
    const before = streams.map((stream) => stream.on('error', () => {}).localPort)
    const again = new Vsock({ guestCid: GUEST_CID })
    const copy = new MockVsockGuest({
      device: again,
      memory: guest.memory,
      makeTransport: (all) => MmioTransport.fromState(guest.transport.state(), all),
    })
    copy.takeOver(guest)
    copy.listen(22, (socket) => socket.pipe(socket))
    copy.transport.resume()
    expect(before).not.toContain((await again.connect(22)).localPort)
  })

  it('takes calls of a guest that has not heard of its CID yet', async () => {
    const { vsock, copy } = restored()
    vsock.listen(PORT, (stream) => stream.pipe(stream))
    const operations: number[] = []
    copy.onPacket = ({ op, dstCid }) => operations.push(op, Number(dstCid)) > 0
    copy.transport.resume()
    copy.send({ op: spec.VIRTIO_VSOCK_OP_REQUEST, srcPort: 99, dstPort: PORT, bufAlloc: 65_536 })
    await settle()
    while (operations.length === 0) await settle()
    expect([vsock.connections, operations, copy.faults]).toEqual([1, [RESPONSE, 4], []])
    copy.send({
      op: spec.VIRTIO_VSOCK_OP_REQUEST,
      srcPort: 98,
      dstPort: PORT,
      bufAlloc: 65_536,
      srcCid: GUEST_CID,
    })
    await settle()
    expect(copy.faults).toEqual([FAULT_ADDRESS])
  })

  it('does not wait for ever for a driver that keeps the buffer of the event', async () => {
    const time = new ManualTime(0)
    const { vsock, copy } = restored({ timers: time })
    copy.keepsEvents = true
    copy.transport.resume()
    const connecting = vsock.connect(22, { timeout: 60_000 })
    await settle()
    expect(vsock.connections).toBe(1)
    for (let look = 0; look < 2000 && copy.sockets === 0; look += 1) {
      time.advance(5)
      if (look % 100 === 0) await settle(2)
    }
    await connecting
    expect(time.now()).toBeGreaterThan(1000)
  })

  it.each([
    null,
    {},
    { version: 2, lastPort: HOST_PORT },
    { version: 1 },
    { version: 1, lastPort: HOST_PORT - 1 },
  ])('is refused with %o', (device) => {
    const { guest } = setUp()
    const state = { ...guest.transport.state(), device }
    const again = new Vsock({ guestCid: 3 })
    const make = () =>
      new MockVsockGuest({
        device: again,
        makeTransport: (options) => MmioTransport.fromState(state as never, options),
      })
    expect(codeThrownBy(make)).toBe('ERR_DEVICE_STATE')
  })
})
