import { DescriptorChain, POP_OK } from '@vmm/virtio-queue'
import { describe, expect, it } from 'vitest'
import { VIRTIO_CONFIG_S_NEEDS_RESET as NEEDS_RESET } from '../../src/virtio/index.ts'
import * as reg from '../../src/virtio/mmio/registers.ts'
import { createGuest, DRIVER_OK, FEATURES_OK, type Guest, queueOf, VERSION_1 } from './support.ts'

const isReady = (guest: Guest): number => guest.read(reg.VIRTIO_MMIO_QUEUE_READY)

describe('queue registers', () => {
  it('show the maximum of the selected queue, and 0 for one that is not there', () => {
    const guest = createGuest()
    // 0x1_0000 and 0x1_0001 would be queues 0 and 1 if they were cut to 16 bits.
    const expected = [
      [0, 16],
      [1, 8],
      [2, 0],
      [0x1_0000, 0],
      [0x1_0001, 0],
      [0xffff_ffff, 0],
    ] as const
    for (const [queue, max] of expected) {
      guest.select(queue)
      expect(guest.read(reg.VIRTIO_MMIO_QUEUE_NUM_MAX)).toBe(max)
    }
  })

  it('ignore all writes for a queue that is not there', () => {
    const guest = createGuest()
    guest.negotiate()
    for (const queue of [2, 0x1_0000]) {
      const before = guest.transport.counters.ignored
      guest.enable(queue, guest.driverOf(0, 16))
      expect(isReady(guest)).toBe(0)
      expect(guest.transport.counters.ignored).toBe(before + 8)
    }
    guest.select(0)
    expect(isReady(guest)).toBe(0)
  })

  it('can be written from FEATURES_OK on', () => {
    const guest = createGuest()
    guest.write(reg.VIRTIO_MMIO_STATUS, 3)
    guest.enable(0, guest.driverOf(0))
    expect(isReady(guest)).toBe(0)
    guest.negotiate()
    guest.enable(0, guest.driverOf(0))
    expect(isReady(guest)).toBe(1)
  })

  it('cannot be written while the queue is enabled', () => {
    const guest = createGuest()
    const [driver] = guest.start()
    guest.select(0)
    const before = guest.transport.counters.ignored
    guest.write(reg.VIRTIO_MMIO_QUEUE_NUM, 4)
    guest.write(reg.VIRTIO_MMIO_QUEUE_DESC_LOW, 0)
    expect(guest.transport.counters.ignored).toBe(before + 2)
    const [saved] = guest.transport.state().queues
    expect(saved?.size).toBe(driver?.size)
    expect(saved?.descriptorArea).toEqual([driver?.descriptorArea, 0])
  })

  it.each([0, 17, 32, 0x1_0000, 0x1_0010, 0xffff_ffff])(
    'refuse the size %i: no queue gets ready with it',
    (size) => {
      const guest = createGuest()
      guest.negotiate()
      guest.select(0)
      guest.write(reg.VIRTIO_MMIO_QUEUE_NUM, size)
      guest.write(reg.VIRTIO_MMIO_QUEUE_READY, 1)
      expect(isReady(guest)).toBe(0)
      guest.write(reg.VIRTIO_MMIO_QUEUE_NUM, 16)
      guest.write(reg.VIRTIO_MMIO_QUEUE_READY, 1)
      expect(isReady(guest)).toBe(1)
    },
  )

  it('take no other value than 0 and 1 for ready', () => {
    const guest = createGuest()
    guest.negotiate()
    guest.write(reg.VIRTIO_MMIO_QUEUE_READY, 2)
    expect(isReady(guest)).toBe(0)
  })

  it('stop a queue with ready 0', () => {
    const guest = createGuest()
    guest.start()
    const queue = queueOf(guest, 0)
    guest.device.take()
    guest.select(0)
    guest.write(reg.VIRTIO_MMIO_QUEUE_READY, 0)
    expect(isReady(guest)).toBe(0)
    expect(guest.device.take()).toEqual(['resetQueue 0'])
    expect(guest.device.transport.queue(0)).toBeUndefined()
    expect(queue.enableNotification()).toBe(false)
    guest.notify(0)
    expect(guest.device.take()).toEqual([])
    guest.notify(1)
    expect(guest.device.take()).toEqual(['notify 1'])
  })

  it('give the queue what was negotiated', () => {
    const guest = createGuest({ features: { packed: true } })
    guest.start()
    expect(queueOf(guest, 0).features).toEqual({ packed: true, eventIndex: true, indirect: true })
    guest.start(0, VERSION_1)
    expect(queueOf(guest, 0).features).toEqual({ packed: false, eventIndex: false, indirect: false })
  })

  it('leave out queues that the driver has not enabled', () => {
    const guest = createGuest()
    guest.negotiate()
    guest.enable(1, guest.driverOf(1))
    guest.device.take()
    guest.status = DRIVER_OK
    expect(guest.device.transport.queue(0)).toBeUndefined()
    expect(guest.device.take()).toEqual(['activate', 'notify 1'])
    guest.notify(0)
    expect(guest.device.take()).toEqual([])
  })
})

describe('a notification', () => {
  it('gives the device the value that was written', () => {
    const guest = createGuest()
    guest.start()
    guest.device.take()
    guest.notify(1)
    guest.notify(0)
    expect(guest.device.take()).toEqual(['notify 1', 'notify 0'])
  })

  it('is ignored before DRIVER_OK; what it was about is found afterwards', () => {
    const guest = createGuest()
    guest.negotiate()
    guest.enable(0, guest.driverOf(0))
    guest.device.take()
    guest.notify(0)
    guest.transport.notify(0)
    expect(guest.device.take()).toEqual([])
    expect(guest.transport.counters.ignored).toBe(2)
    guest.status = DRIVER_OK
    expect(guest.device.take()).toEqual(['activate', 'notify 0'])
  })

  it('is ignored for a queue that is not there', () => {
    const guest = createGuest()
    guest.start()
    guest.device.take()
    for (const value of [2, 0x1_0000, 0xffff_ffff]) guest.notify(value)
    for (const value of [2, -1, 0.5, Number.NaN]) guest.transport.notify(value)
    expect(guest.device.take()).toEqual([])
    expect(guest.transport.counters.ignored).toBe(7)
  })

  it('comes as well by the doorbells: one for each queue', () => {
    const guest = createGuest()
    guest.start()
    guest.device.take()
    for (const { value } of guest.transport.doorbells) guest.transport.notify(value)
    expect(guest.transport.doorbells).toEqual([
      { offset: reg.VIRTIO_MMIO_QUEUE_NOTIFY, size: 4, value: 0 },
      { offset: reg.VIRTIO_MMIO_QUEUE_NOTIFY, size: 4, value: 1 },
    ])
    expect(guest.device.take()).toEqual(['notify 0', 'notify 1'])
  })
})

describe('a queue reset', () => {
  const resetQueue = (guest: Guest, queue: number, value = 1): void => {
    guest.select(queue)
    guest.write(reg.VIRTIO_MMIO_QUEUE_RESET, value)
  }

  it('gives the queue back as it was before it was enabled, and the others go on', () => {
    const guest = createGuest()
    const [driver] = guest.start()
    const queue = queueOf(guest, 0)
    const chain = new DescriptorChain()
    const address = driver?.allocate(16) ?? 0
    driver?.send([{ address, length: 16, writable: true }])
    expect(queue.pop(chain)).toBe(POP_OK)
    guest.device.take()
    resetQueue(guest, 0)
    expect(guest.device.take()).toEqual(['resetQueue 0'])
    expect(guest.read(reg.VIRTIO_MMIO_QUEUE_RESET)).toBe(0)
    expect(isReady(guest)).toBe(0)
    expect(queue.addUsed(chain)).toBe(false)
    expect(guest.transport.state().queues[0]).toMatchObject({
      size: 16,
      descriptorArea: [0, 0],
      position: null,
    })
    expect(guest.device.transport.queue(1)).toBeDefined()
    expect(guest.status).toBe(DRIVER_OK)
  })

  it('lets the driver set it up anew, with another size', () => {
    const guest = createGuest()
    guest.start()
    const before = queueOf(guest, 0)
    resetQueue(guest, 0)
    guest.device.take()
    guest.enable(0, guest.driverOf(0, 4))
    expect(isReady(guest)).toBe(1)
    expect(queueOf(guest, 0)).not.toBe(before)
    expect(queueOf(guest, 0).size).toBe(4)
    expect(guest.device.take()).toEqual(['notify 0'])
  })

  it('followed by a set-up that makes no queue needs a reset of the device', () => {
    const guest = createGuest()
    guest.start()
    resetQueue(guest, 0)
    guest.write(reg.VIRTIO_MMIO_QUEUE_DESC_LOW, 1)
    guest.write(reg.VIRTIO_MMIO_QUEUE_READY, 1)
    expect(isReady(guest)).toBe(0)
    expect(guest.status).toBe(DRIVER_OK | NEEDS_RESET)
    expect(guest.handleInterrupt()).toBe(reg.VIRTIO_MMIO_INT_CONFIG)
  })

  it('is ignored where it was not negotiated, before DRIVER_OK, for other values and queues', () => {
    const without = createGuest()
    without.start(0, VERSION_1)
    const early = createGuest()
    early.negotiate()
    early.enable(0, early.driverOf(0))
    const other = createGuest()
    other.start()
    without.device.take()
    other.device.take()
    early.device.take()
    resetQueue(without, 0)
    resetQueue(early, 0)
    resetQueue(other, 2)
    resetQueue(other, 0, 2)
    for (const guest of [without, early, other]) {
      expect(guest.device.take()).toEqual([])
      guest.select(0)
      expect(isReady(guest)).toBe(1)
    }
    expect(early.status).toBe(FEATURES_OK)
  })

  it('is what it takes to change a queue after DRIVER_OK', () => {
    const guest = createGuest()
    guest.start(0, VERSION_1)
    guest.select(0)
    guest.write(reg.VIRTIO_MMIO_QUEUE_READY, 0)
    guest.enable(0, guest.driverOf(0))
    expect(isReady(guest)).toBe(0)
  })
})
