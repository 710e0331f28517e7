import { describe, expect, it } from 'vitest'
import {
  VIRTIO_CONFIG_S_FAILED as FAILED,
  VIRTIO_CONFIG_S_NEEDS_RESET as NEEDS_RESET,
} from '../../src/virtio/index.ts'
import * as reg from '../../src/virtio/mmio/registers.ts'
import { ACK, createGuest, DRIVER, DRIVER_OK, FEATURE_A, FEATURES_OK, queueOf, VERSION_1 } from './support.ts'

const FAULT = { code: 'ERR_TEST', needsReset: true, message: 'a test' }

describe('the status', () => {
  it('takes each legal step', () => {
    const guest = createGuest()
    for (const status of [ACK, DRIVER]) {
      guest.status = status
      expect(guest.status).toBe(status)
    }
    guest.accept(1, VERSION_1)
    for (const status of [FEATURES_OK, DRIVER_OK]) {
      guest.status = status
      expect(guest.status).toBe(status)
    }
    expect(guest.transport.counters.ignored).toBe(0)
    expect(guest.device.take()).toEqual(['activate'])
  })

  it('takes several steps in one write, in their order', () => {
    const guest = createGuest()
    guest.status = DRIVER
    expect(guest.status).toBe(DRIVER)
    guest.accept(1, VERSION_1)
    guest.status = DRIVER_OK
    expect(guest.status).toBe(DRIVER_OK)
  })

  it.each([
    ['DRIVER before ACKNOWLEDGE', 0, 2],
    ['FEATURES_OK before DRIVER', ACK, ACK | 8],
    ['DRIVER_OK before FEATURES_OK', DRIVER, DRIVER | 4],
    ['a bit taken back', DRIVER, 2],
    ['bits that do not exist', ACK, ACK | 16],
    ['bits above the byte', ACK, 0x100 | DRIVER],
    ['nothing in its low byte', ACK, 0x100],
  ])('ignores %s', (_, from, to) => {
    const guest = createGuest()
    guest.status = from
    guest.device.take()
    guest.status = to
    expect(guest.status).toBe(from)
    expect(guest.transport.counters.ignored).toBe(1)
    expect(guest.device.take()).toEqual([])
  })

  it('takes the steps before a missing one', () => {
    const guest = createGuest()
    guest.status = DRIVER | 4
    expect(guest.status).toBe(DRIVER)
    expect(guest.transport.counters.ignored).toBe(1)
  })

  it('keeps FAILED until the reset', () => {
    const guest = createGuest()
    guest.start()
    guest.status = DRIVER_OK | FAILED
    guest.device.take()
    for (const status of [DRIVER_OK, ACK]) {
      guest.status = status
      expect(guest.status).toBe(DRIVER_OK | FAILED)
    }
    guest.notify(0)
    expect(guest.device.take()).toEqual([])
    guest.status = 0
    expect(guest.status).toBe(0)
  })

  it('goes no further after FAILED', () => {
    const guest = createGuest()
    guest.status = ACK
    guest.status = ACK | FAILED
    guest.status = DRIVER | FAILED
    guest.status = DRIVER
    expect(guest.status).toBe(ACK | FAILED)
  })

  it('resets the device once with every 0, and all registers', () => {
    const guest = createGuest()
    guest.start()
    guest.device.transport.interruptQueue(0)
    const queue = queueOf(guest, 0)
    guest.write(reg.VIRTIO_MMIO_SHM_SEL, 1)
    guest.select(1)
    guest.device.take()
    guest.status = 0
    expect(guest.device.take()).toEqual(['reset'])
    const bytes = guest.memory.findRegion(0)?.bytes as Uint8Array
    bytes.fill(0x55)
    const before = bytes.slice()
    queue.disableNotification()
    expect(queue.enableNotification()).toBe(false)
    expect(Buffer.compare(bytes, before)).toBe(0)
    expect(guest.transport.state()).toMatchObject({ queueSel: 0, shmSel: 0 })
    expect(guest.transport.counters.resets).toBe(2)
    expect(guest.read(reg.VIRTIO_MMIO_INTERRUPT_STATUS)).toBe(0)
    expect(guest.device.transport.queue(0)).toBeUndefined()
    expect(guest.read(reg.VIRTIO_MMIO_QUEUE_READY)).toBe(0)
    expect(guest.device.transport.featuresHigh).toBe(0)
    // The selectors are 0 again, and features are to be negotiated anew.
    expect(guest.read(reg.VIRTIO_MMIO_QUEUE_NUM_MAX)).toBe(guest.device.queueSizes[0])
    guest.status = DRIVER
    guest.status = FEATURES_OK
    expect(guest.status).toBe(DRIVER)
  })

  it('activates once, whatever is written after', () => {
    const guest = createGuest()
    guest.start()
    expect(guest.device.take()).toEqual(['reset', 'activate', 'notify 0', 'notify 1'])
    guest.status = DRIVER_OK
    expect(guest.device.take()).toEqual([])
  })
})

describe('FEATURES_OK', () => {
  it('is refused for a feature that is not offered', () => {
    for (const [low, high] of [
      [1 << 5, VERSION_1],
      [0, VERSION_1 | 2],
    ] as const) {
      const guest = createGuest()
      guest.negotiate(low >>> 0, high)
      expect(guest.status).toBe(DRIVER)
      expect(guest.transport.counters.ignored).toBe(1)
    }
  })

  it('is refused without VIRTIO_F_VERSION_1', () => {
    const guest = createGuest()
    guest.negotiate(FEATURE_A, 0)
    expect(guest.status).toBe(DRIVER)
  })

  it('is refused for features above 63, and given when they are not wanted after a reset', () => {
    const guest = createGuest()
    guest.status = DRIVER
    guest.accept(1, VERSION_1)
    guest.accept(2, 1)
    guest.status = FEATURES_OK
    expect(guest.status).toBe(DRIVER)
    guest.negotiate()
    expect(guest.status).toBe(FEATURES_OK)
  })

  it('can be had after a refusal with other features', () => {
    const guest = createGuest()
    guest.negotiate(1 << 5, VERSION_1)
    guest.accept(0, FEATURE_A)
    guest.status = FEATURES_OK
    expect(guest.status).toBe(FEATURES_OK)
    expect(guest.device.transport.featuresLow).toBe(FEATURE_A)
  })

  it("is the device's to refuse", () => {
    const guest = createGuest()
    guest.device.accepts = false
    guest.negotiate()
    expect(guest.status).toBe(DRIVER)
  })
})

describe('DRIVER_OK with a queue that cannot be', () => {
  it('is not taken: the device needs a reset, and has no interrupt for it yet', () => {
    const guest = createGuest()
    guest.negotiate()
    guest.enable(0, guest.driverOf(0))
    guest.select(1)
    guest.write(reg.VIRTIO_MMIO_QUEUE_DESC_HIGH, 1)
    guest.write(reg.VIRTIO_MMIO_QUEUE_READY, 1)
    guest.device.take()
    guest.status = DRIVER_OK
    expect(guest.status).toBe(FEATURES_OK | NEEDS_RESET)
    expect(guest.device.take()).toEqual([])
    expect(guest.device.transport.queue(0)).toBeUndefined()
    expect(guest.faults.map(({ code }) => code)).toEqual(['ERR_VIRTIO_QUEUE_SETUP'])
    expect(guest.interrupt.count).toBe(0)
    guest.status = DRIVER_OK | NEEDS_RESET
    expect(guest.status).toBe(FEATURES_OK | NEEDS_RESET)
    guest.start()
    expect(guest.status).toBe(DRIVER_OK)
  })
})

describe('DEVICE_NEEDS_RESET', () => {
  it('stops the device, tells the driver once, and ends with the reset', () => {
    let told = 0
    const guest = createGuest({ events: { needsReset: () => (told += 1) } })
    guest.start()
    guest.device.take()
    guest.device.transport.fault(FAULT, 0)
    guest.device.transport.fault(FAULT, 0)
    expect(guest.status).toBe(DRIVER_OK | NEEDS_RESET)
    expect(guest.device.transport.running).toBe(false)
    expect(guest.handleInterrupt()).toBe(reg.VIRTIO_MMIO_INT_CONFIG)
    expect([guest.interrupt.count, told, guest.transport.counters.faults]).toEqual([1, 1, 2])
    guest.notify(0)
    expect(guest.device.take()).toEqual([])
    guest.status = 0
    expect(guest.status).toBe(0)
  })

  it('is not set for faults that the device can answer', () => {
    const guest = createGuest()
    guest.start()
    guest.device.transport.fault({ ...FAULT, needsReset: false }, 0)
    expect(guest.status).toBe(DRIVER_OK)
    expect(guest.faults.length).toBe(1)
  })

  it('comes with a host failure that the device does not survive', () => {
    const guest = createGuest()
    guest.start()
    const error = new Error('a disk has gone')
    guest.device.transport.hostFailure(error)
    expect(guest.status).toBe(DRIVER_OK)
    guest.device.transport.hostFailure(error, true)
    expect(guest.status).toBe(DRIVER_OK | NEEDS_RESET)
    expect(guest.failures).toEqual([error, error])
  })

  it('lets the driver say FAILED', () => {
    const guest = createGuest()
    guest.start()
    guest.device.transport.fault(FAULT, 0)
    guest.status = guest.status | FAILED
    expect(guest.status).toBe(DRIVER_OK | NEEDS_RESET | FAILED)
  })
})
