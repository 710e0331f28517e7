import { setImmediate as turn } from 'node:timers/promises'
import { MockMemory } from '@vmm/virtio-queue/testing'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import * as spec from '../../src/virtio/console/spec.ts'
import { VIRTIO_CONFIG_S_NEEDS_RESET } from '../../src/virtio/index.ts'
import * as reg from '../../src/virtio/mmio/registers.ts'
import { ConsoleGuest, MEMORY_SIZE } from './console-support.ts'

const BUFFERS = 0x9_0000
const BUFFER_BYTES = 256
const QUEUES = 6

const buffer = fc.record({
  address: fc.oneof(
    { weight: 8, arbitrary: fc.nat(0x4000).map((offset) => BUFFERS + offset) },
    fc.constantFrom(MEMORY_SIZE - 100, MEMORY_SIZE, 0x1_0000, 2 ** 52),
  ),
  length: fc.oneof(fc.constantFrom(0, 1, 8, 12, 64, 2 ** 32 - 1), fc.nat(2000)),
  writable: fc.boolean(),
})
const chain = fc.record({
  queue: fc.nat(QUEUES - 1),
  buffers: fc.array(buffer, { minLength: 1, maxLength: 4, size: 'max' }),
})
const control = fc.record({
  id: fc.oneof(fc.nat(2), fc.constantFrom(0xffff_ffff, 2 ** 31)),
  event: fc.nat(8),
  value: fc.constantFrom(0, 1, 2, 0xffff),
})
const step = fc.oneof(
  { weight: 5, arbitrary: fc.record({ chain }) },
  { weight: 4, arbitrary: fc.record({ control }) },
  fc.record({ give: fc.nat(1) }),
  fc.record({
    besides: fc.constantFrom(
      'write',
      'read',
      'close',
      'resize',
      'reset',
      'queue reset',
      'alone',
      'emergency',
    ),
    port: fc.nat(1),
  }),
)

type Step = typeof step extends fc.Arbitrary<infer T> ? T : never

function besides(guest: ConsoleGuest, what: string, id: number, i: number): void {
  const port = guest.port(id)
  const stream = port.hostOpen ? guest.streams[id] : undefined
  switch (what) {
    case 'write':
      if (stream?.writableNeedDrain === false) stream.write('input '.repeat(i))
      break
    case 'read':
      stream?.read()
      break
    case 'close':
      if (stream !== undefined) stream.destroy()
      else guest.open(id)
      break
    case 'resize':
      port.resize(i, i)
      break
    case 'reset':
      guest.begin()
      break
    case 'alone':
      guest.begin(guest.offered(0) & ~(1 << spec.VIRTIO_CONSOLE_F_MULTIPORT))
      break
    case 'emergency':
      guest.write(reg.VIRTIO_MMIO_CONFIG + spec.CONFIG_EMERG_WR_OFFSET, i)
      break
    default: {
      const queue = i % QUEUES
      guest.select(queue)
      guest.write(reg.VIRTIO_MMIO_QUEUE_RESET, 1)
      guest.drivers[queue] = guest.driverOf(queue)
      guest.enable(queue, guest.driverAt(queue))
    }
  }
}

function take(guest: ConsoleGuest, one: Step, i: number): void {
  if ('chain' in one) {
    const { queue, buffers } = one.chain
    if (guest.driverAt(queue).add(buffers) === undefined) return
    guest.driverAt(queue).publish()
    guest.notify(queue)
  } else if ('control' in one) {
    // It may not fit: chains of the same driver lie there.
    const driver = guest.driverAt(spec.CONTROL_TRANSMIT_QUEUE)
    if (driver.free > 0) guest.control(one.control.id, one.control.event, one.control.value)
  } else if ('give' in one) {
    const queue = one.give === 0 ? spec.CONTROL_RECEIVE_QUEUE : spec.receiveQueueOf(1)
    const address = BUFFERS + 0x100 * (i % 16)
    if (guest.driverAt(queue).add([{ address, length: 64, writable: true }]) === undefined) return
    guest.driverAt(queue).publish()
    guest.notify(queue)
  } else besides(guest, one.besides, one.port, i)
}

describe('a hostile driver of virtio-console', () => {
  it.each([{ packed: false }, { packed: true }])(
    'throws nothing, leaves its memory alone and grows nothing (packed $packed)',
    async ({ packed }) => {
      await fc.assert(
        fc.asyncProperty(fc.array(step, { maxLength: 60, size: 'max' }), async (steps) => {
          const memory = new MockMemory([{ start: 0, size: MEMORY_SIZE }])
          const guest = new ConsoleGuest(
            {
              ports: [
                { console: true, bufferBytes: BUFFER_BYTES },
                { name: 'agent', bufferBytes: BUFFER_BYTES },
              ],
              queueSize: 16,
            },
            { memory, features: { packed } },
          )
          guest.begin()
          guest.open(0)
          guest.open(1)
          for (const [i, one] of steps.entries()) {
            take(guest, one, i)
            for (const driver of guest.drivers) driver.reapAll()
            guest.turns()
            for (const stream of guest.streams) {
              expect(stream.readableLength).toBeLessThanOrEqual(BUFFER_BYTES)
            }
            // Nothing is ever under way that a snapshot would have to wait for.
            JSON.stringify(guest.transport.state())
            // A driver that broke its queue has to begin again.
            if ((guest.status & VIRTIO_CONFIG_S_NEEDS_RESET) !== 0) guest.begin()
          }
          await turn()
          expect(guest.failures).toEqual([])
          expect(memory.guardsIntact()).toBe(true)
          // It serves an honest driver after all that.
          const said = guest.handshake().map(({ event }) => event)
          expect(said).toContain(spec.VIRTIO_CONSOLE_PORT_NAME)
          const state = JSON.parse(JSON.stringify(guest.device.state()))
          guest.device.restore(state)
        }),
      )
    },
  )
})
