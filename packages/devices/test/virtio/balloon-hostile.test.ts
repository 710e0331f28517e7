import { MockMemory } from '@vmm/virtio-queue/testing'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import * as spec from '../../src/virtio/balloon/spec.ts'
import { VIRTIO_CONFIG_S_NEEDS_RESET } from '../../src/virtio/index.ts'
import * as reg from '../../src/virtio/mmio/registers.ts'
import { BalloonGuest, BUFFER, MEMORY_SIZE, PAGE, SECOND_SIZE } from './balloon-support.ts'

const QUEUES = 5
/** Pages that no ring lies in: a driver that gives those away has only itself to blame, but the test needs them. */
const FIRST_FREE = 0xa_0000 / PAGE
const PAGES = (MEMORY_SIZE + SECOND_SIZE) / PAGE

const page = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: FIRST_FREE, max: PAGES + 2 }) },
  fc.constantFrom(0xffff_ffff, 2 ** 31, PAGES - 1),
)
const buffer = fc.record({
  address: fc.oneof(
    { weight: 6, arbitrary: page.map((number) => number * PAGE) },
    fc.integer({ min: FIRST_FREE * PAGE, max: PAGES * PAGE + 10 }),
    fc.constantFrom(2 ** 52, BUFFER),
  ),
  length: fc.oneof(fc.constantFrom(0, 1, 4, 10, PAGE, 5 * PAGE, 2 ** 32 - 1), fc.nat(20_000)),
  writable: fc.boolean(),
})
const step = fc.oneof(
  fc.record({
    queue: fc.nat(QUEUES - 1),
    buffers: fc.array(buffer, { minLength: 1, maxLength: 5, size: 'max' }),
  }),
  fc.record({ pages: fc.array(page, { minLength: 1, maxLength: 40, size: 'max' }) }),
  fc.record({
    config: fc.nat(15),
    size: fc.constantFrom(1, 2, 4),
    value: fc.constantFrom(0, 1, 0xffff_ffff),
  }),
  fc.record({ besides: fc.constantFrom('ask', 'target', 'reset', 'queue reset', 'fewer features') }),
)
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never

function take(guest: BalloonGuest, one: Step, i: number): void {
  if ('buffers' in one) {
    const driver = guest.driverAt(one.queue)
    if (driver.add(one.buffers) === undefined) return
    driver.publish()
    guest.notify(one.queue)
  } else if ('pages' in one) {
    if (guest.driverAt(spec.INFLATE_QUEUE).free > 0) guest.inflate(...one.pages)
  } else if ('config' in one) guest.writeConfig(one.config - (one.config % one.size), one.value, one.size)
  else if (one.besides === 'ask') guest.device.requestStatistics()
  else if (one.besides === 'target') guest.device.setTarget(i * PAGE)
  else if (one.besides === 'reset') guest.begin()
  else if (one.besides === 'fewer features') guest.begin(guest.offered(0) & (i * 2))
  else {
    const queue = i % QUEUES
    guest.select(queue)
    guest.write(reg.VIRTIO_MMIO_QUEUE_RESET, 1)
    guest.drivers[queue] = guest.driverOf(queue)
    guest.enable(queue, guest.driverAt(queue))
  }
}

describe('a hostile driver of virtio-balloon', () => {
  it.each([{ packed: false }, { packed: true }])(
    'throws nothing, and discards nothing but whole pages of its memory (packed $packed)',
    ({ packed }) => {
      fc.assert(
        fc.property(fc.array(step, { maxLength: 40, size: 'max' }), (steps) => {
          const memory = new MockMemory([
            { start: 0, size: MEMORY_SIZE },
            // No whole number of pages.
            { start: MEMORY_SIZE, size: SECOND_SIZE - 100 },
          ])
          const options = { reporting: true, deflateOnOom: true, statisticsInterval: 0 }
          const guest = new BalloonGuest(options, { memory, features: { packed } })
          guest.begin()
          for (const [i, one] of steps.entries()) {
            take(guest, one, i)
            for (const driver of guest.drivers) driver.reapAll()
            guest.turns()
            JSON.stringify(guest.transport.state())
            if ((guest.status & VIRTIO_CONFIG_S_NEEDS_RESET) !== 0) guest.begin()
          }
          // DiscardLog throws for what it should not have been asked.
          expect(guest.failures).toEqual([])
          expect(memory.guardsIntact()).toBe(true)
          guest.begin()
          guest.log.take()
          expect(guest.inflate(FIRST_FREE)).toBe(true)
          expect(guest.log.take()).toEqual([`${FIRST_FREE}-${FIRST_FREE + 1}`])
        }),
      )
    },
  )
})
