import { MockMemory } from '@vmm/virtio-queue/testing'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  FRAME_BYTES_MAX,
  NET_BUSY,
  NET_DONE,
  NetFrame,
  VIRTIO_CONFIG_S_NEEDS_RESET,
} from '../../src/virtio/index.ts'
import * as reg from '../../src/virtio/mmio/registers.ts'
import { HDR, MEMORY_SIZE, NetGuest, RecordingNetwork } from './net-support.ts'

const BUFFERS = 0x20_0000
const QUEUE_SIZE = 16

const buffer = fc.record({
  address: fc.oneof(
    { weight: 8, arbitrary: fc.nat(0x4000).map((offset) => BUFFERS + offset) },
    fc.constantFrom(MEMORY_SIZE - 100, MEMORY_SIZE, 0x1_0000, 2 ** 52),
  ),
  length: fc.oneof(fc.constantFrom(0, 1, HDR, HDR + 13, HDR + 14, 1526, 2 ** 32 - 1), fc.nat(2000)),
  writable: fc.boolean(),
})
const header = fc.oneof(
  fc.uint8Array({ minLength: HDR, maxLength: HDR }),
  fc
    .tuple(fc.constantFrom(0, 1), fc.constantFrom(0, 1, 4, 0x81), fc.nat(200), fc.nat(100))
    .map(([flags, gso, start, size]) => Uint8Array.of(flags, gso, 54, 0, size, 0, start, 0, 16, 0, 0, 0)),
)
const step = fc.record({
  kind: fc.constantFrom(
    'send',
    'send',
    'offer',
    'offer',
    'offer',
    'give',
    'give',
    'command',
    'reset',
    'queue reset',
    'link',
  ),
  queue: fc.nat(4),
  buffers: fc.array(buffer, { minLength: 1, maxLength: 6 }),
  header,
  length: fc.oneof(fc.constantFrom(14, 60, 1514, 9000, FRAME_BYTES_MAX), fc.integer({ min: 14, max: 3000 })),
  indirect: fc.boolean(),
  busy: fc.boolean(),
})

describe('a hostile driver of virtio-net', () => {
  it.each([
    { packed: false, without: 0 },
    { packed: true, without: 0 },
    { packed: false, without: (1 << 15) | (1 << 22) },
  ])(
    'gets frames out that are what they say, and nothing else (packed $packed, without $without)',
    ({ packed, without }) => {
      fc.assert(
        fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
          const memory = new MockMemory([{ start: 0, size: MEMORY_SIZE }])
          const network = new RecordingNetwork({ queuePairs: 2 })
          const guest = new NetGuest({ network, queueSize: QUEUE_SIZE }, { memory, features: { packed } })
          const begin = () => guest.begin((guest.offered(0) & ~without) >>> 0)
          begin()
          for (const [i, one] of steps.entries()) {
            const queue = one.kind === 'command' ? 4 : one.queue
            network.answer = () => (one.busy ? NET_BUSY : NET_DONE)
            if (one.kind === 'reset') begin()
            else if (one.kind === 'link') guest.device.setLink(one.busy)
            else if (one.kind === 'queue reset') {
              guest.select(queue)
              guest.write(reg.VIRTIO_MMIO_QUEUE_RESET, 1)
              guest.drivers[queue] = guest.driverOf(queue)
              guest.enable(queue, guest.driver(queue))
            } else if (one.kind === 'give') {
              const frame = new NetFrame().setBytes(new Uint8Array(one.length).fill(i))
              frame.header.set(one.header)
              const [receiver] = network.sink.receivers.slice(one.queue % 2)
              receiver?.deliver(frame)
              if (!one.busy) receiver?.flush()
            } else {
              memory.write(BUFFERS, one.header)
              const first = { address: BUFFERS, length: HDR }
              const buffers =
                one.kind === 'offer'
                  ? one.buffers.map((piece) => ({ ...piece, writable: true }))
                  : one.buffers
              const chain =
                one.kind === 'send' ? [first, ...buffers.filter(({ writable }) => !writable)] : buffers
              if (guest.driver(queue).add(chain, { indirect: one.indirect }) !== undefined) {
                guest.driver(queue).publish()
                guest.notify(queue)
              }
            }
            network.sink.resume(0)
            guest.turns()
            for (const driver of guest.drivers) driver.reapAll()
            // A driver that broke its queue has to begin again.
            if ((guest.status & VIRTIO_CONFIG_S_NEEDS_RESET) !== 0) begin()
          }
          for (const { header: said, frame } of network.sent) {
            const view = new DataView(said.buffer, said.byteOffset, HDR)
            expect(frame.length).toBeGreaterThanOrEqual(14)
            expect(frame.length).toBeLessThanOrEqual(FRAME_BYTES_MAX)
            expect([0, 1]).toContain(said[0])
            expect([0, 1, 4, 0x81, 0x84]).toContain(said[1])
            if (said[0] === 1) {
              expect(view.getUint16(6, true) + view.getUint16(8, true) + 2).toBeLessThanOrEqual(frame.length)
            }
            if (said[1] !== 0) expect([said[0], view.getUint16(4, true) > 0]).toEqual([1, true])
          }
          expect(memory.guardsIntact()).toBe(true)
          expect(guest.failures).toEqual([])
          for (const receiver of network.sink.receivers) receiver.flush()
          expect(guest.transport.state().status).toBe(guest.status)
        }),
        { numRuns: 200 },
      )
    },
  )

  it('gets every frame once and whole, over whatever buffers it offers', () => {
    const lengths = fc.array(fc.integer({ min: HDR, max: 700 }), { minLength: 1, maxLength: QUEUE_SIZE })
    fc.assert(
      fc.property(
        lengths,
        fc.array(fc.integer({ min: 14, max: 1514 }), { maxLength: 20 }),
        fc.boolean(),
        (rooms, frames, packed) => {
          const network = new RecordingNetwork()
          const guest = new NetGuest({ network, queueSize: QUEUE_SIZE }, { features: { packed } }).begin()
          const places = new Map<number, number>()
          const order: number[] = []
          for (const [i, room] of rooms.entries()) {
            const address = BUFFERS + i * 0x1000
            const token = guest.driver(0).add([{ address, length: room, writable: true }])
            if (token !== undefined) places.set(token, address)
          }
          guest.driver(0).publish()
          guest.notify(0)
          const [receiver] = network.sink.receivers
          for (const [i, length] of frames.entries()) {
            const outcome = receiver?.deliver(new NetFrame().setBytes(new Uint8Array(length).fill(i + 1)))
            if (outcome === NET_DONE) order.push(i)
          }
          receiver?.flush()
          const used = guest.driver(0).reapAll()
          for (const i of order) {
            const first = places.get(used[0]?.token ?? -1) as number
            const count = new DataView(guest.mock.read(first, HDR).buffer).getUint16(10, true)
            const bytes = used
              .splice(0, count)
              .flatMap(({ token, length }) => [...guest.mock.read(places.get(token) as number, length)])
            expect(bytes.slice(HDR)).toEqual(new Array(frames[i]).fill(i + 1))
          }
          expect(used).toEqual([])
        },
      ),
      { numRuns: 150 },
    )
  })
})
