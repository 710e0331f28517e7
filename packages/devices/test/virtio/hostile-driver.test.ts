import { MockMemory } from '@vmm/virtio-queue/testing'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createMmioBus } from '../../src/index.ts'
import { MmioTransport, Rng, VIRTIO_MMIO_SIZE } from '../../src/virtio/index.ts'
import * as reg from '../../src/virtio/mmio/registers.ts'
import { ACK, DRIVER, DRIVER_OK, FEATURES_OK, Guest, TestDevice, VERSION_1 } from './support.ts'

const BASE = 0xd000_0000
const MEMORY_SIZE = 0x4000

const value = fc.oneof(
  fc.constantFrom(0, 1, 2, ACK, DRIVER, FEATURES_OK, DRIVER_OK, VERSION_1, 8, 16, 0x1000, 0x2000, 0x3000),
  fc.nat(0x40),
  fc.integer({ min: 0, max: 0xffff_ffff }),
)
const registers = Object.values(reg).filter((one) => typeof one === 'number' && one < VIRTIO_MMIO_SIZE)
const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('write' as const),
      offset: fc.oneof({ weight: 9, arbitrary: fc.constantFrom(...registers) }, fc.nat(VIRTIO_MMIO_SIZE - 1)),
      value,
      size: fc.oneof({ weight: 9, arbitrary: fc.constant(4) }, fc.constantFrom(1, 2, 8)),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('memory' as const),
      offset: fc.nat(MEMORY_SIZE - 8),
      value,
      size: fc.constantFrom(1, 2, 4),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constantFrom('start' as const, 'turns' as const, 'doorbell' as const, 'config' as const),
      offset: fc.nat(),
      value,
      size: fc.constant(4),
    }),
  },
)

/** A set-up that is fine, so that what follows meets a device that runs. */
function start(guest: Guest | Guest<Rng>, packed: boolean): void {
  guest.negotiate()
  const size = 8
  guest.select(0)
  guest.write(reg.VIRTIO_MMIO_QUEUE_NUM, size)
  guest.write(reg.VIRTIO_MMIO_QUEUE_DESC_LOW, 0x1000)
  guest.write(reg.VIRTIO_MMIO_QUEUE_DRIVER_LOW, 0x2000)
  guest.write(reg.VIRTIO_MMIO_QUEUE_DEVICE_LOW, packed ? 0x2100 : 0x3000)
  guest.write(reg.VIRTIO_MMIO_QUEUE_READY, 1)
  guest.status = DRIVER_OK
}

describe('a hostile driver', () => {
  it.each([
    { name: 'virtio-rng', packed: false },
    { name: 'virtio-rng with packed rings', packed: true },
    { name: 'any device', packed: false },
  ])(
    'makes $name neither throw nor leave guest memory, nor reach a state that it refuses',
    ({ name, packed }) => {
      fc.assert(
        fc.property(fc.array(step, { maxLength: 150, size: 'max' }), (steps) => {
          const memory = new MockMemory([{ start: 0, size: MEMORY_SIZE }])
          const make = (): TestDevice | Rng => (name === 'any device' ? new TestDevice() : new Rng())
          const guest = new Guest<TestDevice | Rng>(make(), { memory, features: { packed } })
          const { transport } = guest
          const bus = createMmioBus()
          bus.register({ base: BASE, size: VIRTIO_MMIO_SIZE, device: transport })
          const data = new DataView(new ArrayBuffer(8))
          const bytes = new Uint8Array(data.buffer)
          for (const one of steps) {
            data.setUint32(0, one.value, true)
            if (one.do === 'write') bus.write(BASE + one.offset, data, 0, one.size)
            else if (one.do === 'memory') memory.write(one.offset, bytes.subarray(0, one.size))
            else if (one.do === 'start') start(guest as Guest, packed)
            else if (one.do === 'doorbell') transport.notify(one.value)
            else if (one.do === 'config' && guest.device instanceof TestDevice) {
              guest.device.config[one.offset % guest.device.config.length] = one.value
              guest.device.transport.configChanged()
            } else guest.deferred.shift()?.()
            expect(guest.deferred.length).toBeLessThan(2)
          }
          expect(memory.guardsIntact()).toBe(true)
          const exits = new DataView(new ArrayBuffer(VIRTIO_MMIO_SIZE))
          for (let at = 0; at < VIRTIO_MMIO_SIZE; at += 4) bus.read(BASE + at, exits, at, 4)
          expect(Buffer.compare(transport.page, new Uint8Array(exits.buffer))).toBe(0)
          const state = transport.state()
          const device = make()
          if (device instanceof TestDevice) device.config.set(guest.device.config)
          const copy = new Guest<TestDevice | Rng>(device, { memory, features: { packed } }, (options) =>
            MmioTransport.fromState(state, options),
          )
          expect(copy.transport.state()).toEqual(state)
          copy.transport.resume()
        }),
        { numRuns: 300 },
      )
    },
  )
})
