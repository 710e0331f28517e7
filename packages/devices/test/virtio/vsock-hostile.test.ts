import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { MockVsockGuest } from '../../src/testing/index.ts'
import {
  MmioTransport,
  VIRTIO_CONFIG_S_NEEDS_RESET,
  Vsock,
  type VsockStream,
} from '../../src/virtio/index.ts'
import * as reg from '../../src/virtio/mmio/registers.ts'
import * as spec from '../../src/virtio/vsock/spec.ts'
import { ManualTime } from '../support.ts'
import { GUEST_CID, PORT, RawGuest, settle, setUp } from './vsock-support.ts'

const RST = spec.VIRTIO_VSOCK_OP_RST
const BUFFER_SIZE = 4096
const CONNECTIONS = 4
/** From one look whether a restored guest has heard of its reset to the next. */
const LOOK_MS = 5
const CONNECT_TIMEOUT_MS = 5000

const packet = fc.record({
  op: fc.oneof({ weight: 6, arbitrary: fc.integer({ min: 1, max: 7 }) }, fc.nat(0xffff)),
  type: fc.oneof({ weight: 12, arbitrary: fc.constant(1) }, fc.nat(0xffff)),
  srcCid: fc.oneof({ weight: 12, arbitrary: fc.constant(3n) }, fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })),
  dstCid: fc.oneof({ weight: 12, arbitrary: fc.constant(2n) }, fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })),
  srcPort: fc.oneof({ weight: 8, arbitrary: fc.nat(5) }, fc.nat(2 ** 32 - 1)),
  dstPort: fc.constantFrom(PORT, PORT, PORT, PORT + 1, 2 ** 30, 2 ** 30 + 1, 2 ** 32 - 1),
  flags: fc.oneof(fc.nat(3), fc.nat(2 ** 32 - 1)),
  bufAlloc: fc.oneof(fc.constantFrom(0, 100, 100_000), fc.nat(2 ** 32 - 1)),
  fwdCnt: fc.oneof(fc.nat(100), fc.nat(2 ** 32 - 1)),
  payload: fc.oneof(fc.uint8Array({ maxLength: 40 }), fc.constant(new Uint8Array(3000))),
  len: fc.option(fc.oneof(fc.nat(50), fc.constantFrom(2 ** 32 - 1, 2 ** 31, 65_537)), {
    freq: 4,
    nil: undefined,
  }),
  besides: fc.constantFrom(
    'nothing',
    'nothing',
    'settle',
    'settle',
    'write',
    'end',
    'read',
    'reset',
    'dial',
    'starve',
  ),
})

describe('a hostile driver of virtio-vsock', () => {
  it.each([{ packed: false }, { packed: true }])(
    'harms its own connections at most: %o',
    async ({ packed }) => {
      await fc.assert(
        fc.asyncProperty(fc.array(packet, { maxLength: 40 }), async (packets) => {
          const raw = new RawGuest(
            { bufferSize: BUFFER_SIZE, maxConnections: CONNECTIONS },
            { packed, rxBufferSize: 300 },
          )
          const { vsock, guest, streams } = raw
          const keep = (stream: VsockStream) => streams.push(stream.on('error', () => {}))
          vsock.listen(PORT, keep)
          for (const { besides, len, ...fields } of packets) {
            guest.send({ ...fields, ...(len === undefined ? {} : { len }) })
            if (besides !== 'nothing') await settle(3)
            const last = streams.at(-1)
            if (besides === 'write') last?.write(Buffer.alloc(500))
            else if (besides === 'end') last?.end()
            else if (besides === 'read') last?.resume()
            else if (besides === 'reset') guest.start()
            // A guest that guesses the port can accept.
            else if (besides === 'dial') vsock.connect(1).then(keep, () => {})
            else if (besides === 'starve') guest.starves = !guest.starves
            expect(vsock.connections).toBeLessThanOrEqual(CONNECTIONS)
          }
          guest.starves = false
          await settle()
          expect(guest.failures).toEqual([])
          expect(guest.transport.read(reg.VIRTIO_MMIO_STATUS, 4) & VIRTIO_CONFIG_S_NEEDS_RESET).toBe(0)
          expect(guest.transport.state().status).not.toBe(0)
          // It still works, once those before are gone.
          guest.start()
          for (const stream of streams) stream.destroy()
          await settle()
          expect(vsock.connections).toBe(0)
          raw.packets.length = 0
          guest.send({ op: 1, srcPort: 77, dstPort: PORT, bufAlloc: 100 })
          expect(await raw.operations()).toEqual([spec.VIRTIO_VSOCK_OP_RESPONSE])
        }),
        { numRuns: 150 },
      )
    },
  )

  it.each([
    ['from another CID', { op: 1, srcCid: 4 }, 'ERR_VSOCK_ADDRESS', []],
    ['from a CID of 64 bits', { op: 1, srcCid: 2n ** 32n + 3n }, 'ERR_VSOCK_ADDRESS', []],
    ['to another CID', { op: 1, dstCid: 1 }, 'ERR_VSOCK_ADDRESS', []],
    ['of a type that is not there', { op: 1, type: 2 }, 'ERR_VSOCK_TYPE', [RST]],
    ['of a type that is not there, RST', { op: RST, type: 2 }, 'ERR_VSOCK_TYPE', []],
    ['for no connection', { op: 5, payload: new Uint8Array(10) }, undefined, [RST]],
    ['for no connection, RST', { op: RST }, undefined, []],
  ])('has a packet %s dropped or refused', async (_, fields, fault, answer) => {
    const raw = new RawGuest()
    raw.guest.send({ srcPort: 5, dstPort: PORT, ...fields })
    expect(await raw.operations()).toEqual(answer)
    expect(raw.guest.faults.map(({ code }) => code)).toEqual(fault === undefined ? [] : [fault])
    expect(raw.vsock.connections).toBe(0)
  })

  it.each([
    ['an operation that is not known', { op: 8 }, 'ERR_VSOCK_OPERATION'],
    ['operation 0', { op: 0 }, 'ERR_VSOCK_OPERATION'],
    ['a second request', { op: 1 }, 'ERR_VSOCK_OPERATION'],
    ['a response to nothing', { op: 2 }, 'ERR_VSOCK_OPERATION'],
    ['less payload than it says', { op: 5, len: 11, payload: new Uint8Array(10) }, 'ERR_VSOCK_LENGTH'],
    ['a length beyond all memory', { op: 5, len: 2 ** 32 - 1 }, 'ERR_VSOCK_LENGTH'],
  ])('loses the connection for %s', async (_, fields, code) => {
    const raw = new RawGuest()
    const stream = await raw.dial(5)
    await raw.take()
    raw.guest.send({ srcPort: 5, dstPort: PORT, ...fields })
    expect(await raw.operations()).toEqual([RST])
    expect(stream.errored).toMatchObject({ code: 'ECONNRESET' })
    expect(raw.guest.faults.map((fault) => fault.code)).toEqual([code])
    expect(raw.vsock.connections).toBe(0)
  })

  it('cannot send data after its own end', async () => {
    const raw = new RawGuest()
    const stream = await raw.dial(5)
    raw.guest.send({ op: 4, flags: 2, srcPort: 5, dstPort: PORT })
    raw.guest.send({ op: 5, srcPort: 5, dstPort: PORT, payload: new Uint8Array(1) })
    await settle()
    expect(raw.guest.faults.map(({ code }) => code)).toEqual(['ERR_VSOCK_OPERATION'])
    expect(stream.errored).not.toBe(null)
  })

  it('gets its buffers back, whatever they are', async () => {
    const raw = new RawGuest()
    const { guest } = raw
    const [rx, tx] = guest.drivers
    if (rx === undefined || tx === undefined) throw new Error('no queues')
    const { findRegion } = guest.memory
    const end = findRegion(0)?.size ?? 0
    const before = tx.free
    tx.send([{ address: 0x8_0000, length: 43 }])
    tx.send([{ address: 0x8_0000, length: 44, writable: true }])
    tx.send([{ address: end - 20, length: 44 }])
    guest.transport.notify(1)
    expect([tx.reapAll().map(({ length }) => length), tx.free]).toEqual([[0, 0, 0], before])
    const codes = ['ERR_VSOCK_HEADER', 'ERR_VSOCK_HEADER', 'ERR_VIRTQ_BUFFER_ADDRESS']
    expect(guest.faults.splice(0).map(({ code }) => code)).toEqual(codes)
  })

  it('gets no packet into a buffer that is too small, outside memory, or not to be written', async () => {
    const raw = new RawGuest({}, { rxBuffers: 0 })
    const { guest } = raw
    const [rx] = guest.drivers
    const end = guest.memory.findRegion(0)?.size ?? 0
    guest.send({ op: 1, srcPort: 5, dstPort: 99 })
    await settle()
    rx?.send([{ address: 0x8_0000, length: 43, writable: true }])
    rx?.send([{ address: end - 20, length: 44, writable: true }])
    rx?.send([{ address: 0x8_0000, length: 100 }])
    guest.transport.notify(0)
    expect(rx?.reapAll().map(({ length }) => length)).toEqual([0, 0, 0])
    const codes = ['ERR_VSOCK_BUFFER', 'ERR_VIRTQ_BUFFER_ADDRESS', 'ERR_VSOCK_BUFFER']
    expect(guest.faults.map(({ code }) => code)).toEqual(codes)
    // The packet waits for a buffer that it fits, in pieces if need be.
    rx?.send([
      { address: 0x8_0000, length: 20, writable: true },
      { address: 0x8_1000, length: 24, writable: true },
    ])
    guest.transport.notify(0)
    expect(rx?.reapAll().map(({ length }) => length)).toEqual([44])
  })

  it('gets no payload into a buffer that a header fills, and no event into one of 3 bytes', async () => {
    const raw = new RawGuest({}, { rxBufferSize: 44 })
    const stream = await raw.dial(5)
    await raw.take()
    stream.write('data')
    await settle()
    expect(raw.guest.faults[0]?.code).toBe('ERR_VSOCK_BUFFER')
    expect(await raw.operations()).toEqual([])
    raw.guest.send({ op: RST, srcPort: 5, dstPort: PORT })
    await settle()
    expect(raw.vsock.connections).toBe(0)
  })

  it.each([{ packed: false }, { packed: true }])(
    'does no harm with buffers for events that are nowhere, once it was restored: %o',
    async ({ packed }) => {
      const { guest } = setUp({}, { packed })
      const event = guest.drivers[spec.VIRTIO_VSOCK_QUEUE_EVENT]
      const region = guest.memory.findRegion(0)
      if (event === undefined || region === undefined) throw new Error('no queue')
      // The third of four: what the device looks at in front of it is good.
      const spoilt = packed ? 2 : region.view.getUint16(event.driverArea + 4 + 2 * 2, true)
      region.view.setUint32(event.descriptorArea + 16 * spoilt + 4, 1, true)
      const time = new ManualTime(0)
      const vsock = new Vsock({ guestCid: GUEST_CID, timers: time })
      const copy = new MockVsockGuest({
        device: vsock,
        packed,
        memory: guest.memory,
        makeTransport: (all) => MmioTransport.fromState(guest.transport.state(), all),
      })
      copy.takeOver(guest)
      copy.onPacket = () => true
      copy.transport.resume()
      const connecting = vsock.connect(22).catch((error) => error.code)
      for (let look = 0; look < 20; look += 1) {
        await settle(2)
        time.advance(LOOK_MS)
      }
      time.advance(CONNECT_TIMEOUT_MS)
      expect(await connecting).toBe('ETIMEDOUT')
      await copy.transport.pause()
      expect(copy.transport.state().queues.map(({ position }) => position)).not.toContain(null)
    },
  )
})
