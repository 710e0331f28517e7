import { DescriptorChain, POP_OK } from '@vmm/virtio-queue'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { DevicesError } from '../../src/index.ts'
import type { MmioTransportState } from '../../src/virtio/index.ts'
import { MmioTransport, VIRTIO_CONFIG_S_NEEDS_RESET as NEEDS_RESET } from '../../src/virtio/index.ts'
import * as reg from '../../src/virtio/mmio/registers.ts'
import { codeThrownBy } from '../support.ts'
import { createGuest, DRIVER, DRIVER_OK, Guest, queueOf, TestDevice, VERSION_1 } from './support.ts'

const FAULT = { code: 'ERR_TEST', needsReset: true, message: 'a test' }

/** The state as a file has it. */
const saved = (guest: Guest): MmioTransportState => JSON.parse(JSON.stringify(guest.transport.state()))

/** A new VMM with the old one's memory. */
function restore(state: MmioTransportState, from: Guest, device: TestDevice = new TestDevice()): Guest {
  return new Guest(device, { memory: from.memory }, (options) => MmioTransport.fromState(state, options))
}

describe('a saved transport', () => {
  it('comes back with every register, and goes on when told to', () => {
    const guest = createGuest()
    const [driver] = guest.start()
    guest.device.saved = { version: 1, secret: 7 }
    guest.device.config[0] = 77
    guest.device.transport.configChanged()
    guest.device.transport.interruptQueue(0)
    guest.select(1)
    guest.write(reg.VIRTIO_MMIO_SHM_SEL, 5)
    const address = driver?.allocate(16) ?? 0
    const chain = new DescriptorChain()
    driver?.send([{ address, length: 16, writable: true }])
    expect(queueOf(guest, 0).pop(chain)).toBe(POP_OK)
    queueOf(guest, 0).addUsed(chain, 3)
    const state = saved(guest)
    const device = new TestDevice()
    device.config[0] = 77
    const copy = restore(state, guest, device)
    expect([copy.device.calls, copy.interrupt.count]).toEqual([[], 0])
    expect([...copy.transport.page]).toEqual([...guest.transport.page])
    expect(saved(copy)).toEqual(state)
    expect(copy.device.saved).toEqual({ version: 1, secret: 7 })
    copy.transport.resume()
    expect(copy.device.take()).toEqual(['activate', 'notify 0', 'notify 1'])
    expect(copy.interrupt.count).toBe(1)
    driver?.send([{ address, length: 16, writable: true }])
    expect(queueOf(copy, 0).pop(chain)).toBe(POP_OK)
    queueOf(copy, 0).addUsed(chain, 4)
    expect(driver?.reapAll().map(({ length }) => length)).toEqual([3, 4])
  })

  it('comes back from any point of its set-up', () => {
    const guest = createGuest()
    const compare = (): void => {
      const copy = restore(saved(guest), guest)
      expect(saved(copy)).toEqual(saved(guest))
      copy.transport.resume()
      expect(copy.interrupt.count).toBe(0)
    }
    compare()
    guest.status = DRIVER
    guest.accept(0, 1)
    guest.accept(2, 1)
    compare()
    guest.negotiate()
    guest.enable(0, guest.driverOf(0))
    guest.select(1)
    guest.write(reg.VIRTIO_MMIO_QUEUE_NUM, 99)
    compare()
    const copy = restore(saved(guest), guest)
    copy.write(reg.VIRTIO_MMIO_QUEUE_READY, 1)
    expect(copy.read(reg.VIRTIO_MMIO_QUEUE_READY)).toBe(0)
  })

  it('that needs a reset still needs it', () => {
    const guest = createGuest()
    guest.start()
    guest.device.transport.fault(FAULT, 0)
    const copy = restore(saved(guest), guest)
    copy.transport.resume()
    expect(copy.status).toBe(DRIVER_OK | NEEDS_RESET)
    expect(copy.device.take()).toEqual([])
    expect(copy.handleInterrupt()).toBe(reg.VIRTIO_MMIO_INT_CONFIG)
    copy.start()
    expect(copy.status).toBe(DRIVER_OK)
  })

  it('cannot be had while chains are in flight', () => {
    const guest = createGuest()
    const [driver] = guest.start()
    driver?.send([{ address: driver.allocate(16), length: 16 }])
    const chain = new DescriptorChain()
    queueOf(guest, 0).pop(chain)
    expect(codeThrownBy(() => guest.transport.state())).toBe('ERR_DEVICE_BUSY')
    queueOf(guest, 0).addUsed(chain)
    expect(guest.transport.state().status).toBe(DRIVER_OK)
  })
})

describe('a forged state', () => {
  const forge = (change: Record<string, unknown>): (() => unknown) => {
    const guest = createGuest()
    guest.start()
    return () => restore({ ...saved(guest), ...change } as MmioTransportState, guest)
  }
  const queue = {
    version: 1,
    maxSize: 16,
    size: 16,
    ready: true,
    descriptorArea: [0x1_0000, 0],
    driverArea: [0x2_0000, 0],
    deviceArea: [0x3_0000, 0],
    position: { nextAvail: 0, nextUsed: 0, unnotified: 0 },
  }
  const other = { ...queue, maxSize: 8, size: 8 }

  it('is restored where nothing is wrong with it', () => {
    expect(forge({ queues: [queue, other] })).not.toThrow()
  })

  it.each<[string, Record<string, unknown>]>([
    ['version', { version: 2 }],
    ['type', { type: 2 }],
    ['status with a gap', { status: 4 }],
    ['status of 9 bits', { status: 0x10f }],
    ['status with an unknown bit', { status: DRIVER_OK | 16 }],
    ['features that are not offered', { driverFeatures: [1 << 5, VERSION_1] }],
    ['features that were not offered', { offeredFeatures: [0, VERSION_1] }],
    ['features without VERSION_1', { driverFeatures: [0, 0] }],
    ['features above 63', { undefinedFeatures: true }],
    ['features that are no words', { driverFeatures: [0.5, VERSION_1] }],
    ['features before a driver', { status: 0, queues: [], driverFeatures: [1, 0] }],
    [
      'an interrupt before DRIVER_OK',
      {
        status: DRIVER,
        interruptStatus: 1,
        queues: [queue, other].map((one) => ({ ...one, ready: false, position: null })),
      },
    ],
    ['an unknown interrupt', { interruptStatus: 4 }],
    ['a selector', { queueSel: -1 }],
    ['a generation', { configGeneration: 2 ** 32 }],
    ['too few queues', { queues: [queue] }],
    ['no queues', { queues: null }],
    ['a queue that is none', { queues: [queue, null] }],
    ["a maximum size that is not the device's", { queues: [{ ...queue, maxSize: 32 }, other] }],
    ['a size above the maximum', { queues: [{ ...queue, size: 17 }, other] }],
    ['a queue outside memory', { queues: [{ ...queue, deviceArea: [0, 1] }, other] }],
    ['a queue without alignment', { queues: [{ ...queue, descriptorArea: [1, 0] }, other] }],
    ['a queue in use without a position', { queues: [{ ...queue, position: null }, other] }],
    ['a position where none is used', { queues: [{ ...queue, ready: false }, other] }],
    ['a ready queue before FEATURES_OK', { status: DRIVER, queues: [queue, other] }],
    ['sizes refused of too many', { sizeRefused: [false] }],
    ['sizes refused that are no booleans', { sizeRefused: [0, 0] }],
  ])('is refused for its %s', (_, change) => {
    expect(codeThrownBy(forge(change))).toBe('ERR_DEVICE_STATE')
  })

  it('throws nothing but ERR_DEVICE_STATE, or is a transport that can be saved', () => {
    const guest = createGuest()
    guest.start()
    const state = saved(guest)
    const keys = Object.keys(state)
    fc.assert(
      fc.property(fc.constantFrom(...keys), fc.oneof(fc.anything(), fc.nat(0x1ff)), (key, value) => {
        try {
          const copy = restore({ ...state, [key]: value }, guest)
          copy.transport.resume()
          copy.transport.state()
        } catch (error) {
          expect(error).toBeInstanceOf(DevicesError)
          expect((error as DevicesError).code).toBe('ERR_DEVICE_STATE')
        }
      }),
      { numRuns: 2000 },
    )
    for (const value of [null, 5, 'state', undefined]) {
      expect(codeThrownBy(() => restore(value as never, guest))).toBe('ERR_DEVICE_STATE')
    }
  })
})
