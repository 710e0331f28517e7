import { MockMemory } from '@vmm/virtio-queue/testing'
import { describe, expect, it } from 'vitest'
import { VIRTIO_BLK_T_IN } from '../../src/virtio/blk/spec.ts'
import { UserDisk, VIRTIO_MMIO_SIZE } from '../../src/virtio/index.ts'
import * as reg from '../../src/virtio/mmio/registers.ts'
import { BlkGuest, DATA, HEADER, readable, STATUS, writable } from './blk-support.ts'
import { ACK, createGuest, DRIVER_OK } from './support.ts'

describe('a transport that is closed', () => {
  it('has reset its device, once', () => {
    const guest = createGuest()
    guest.start()
    guest.device.take()
    guest.transport.close()
    guest.transport.close()
    expect(guest.device.take()).toEqual(['reset'])
    expect([guest.transport.closed, guest.transport.status]).toEqual([true, 0])
  })

  it('takes nothing more of either side', () => {
    const guest = createGuest()
    guest.start()
    const { transport } = guest.device
    guest.transport[Symbol.dispose]()
    const page = guest.transport.page.slice()
    const interrupts = guest.interrupt.count
    guest.status = ACK
    guest.transport.notify(0)
    guest.device.config.fill(0xff)
    transport.configChanged()
    transport.interruptQueue(0)
    transport.fault({ code: 'ERR_TEST', needsReset: true, message: 'a test' }, 0)
    expect([guest.read(reg.VIRTIO_MMIO_MAGIC_VALUE), guest.read(reg.VIRTIO_MMIO_CONFIG)]).toEqual([0, 0])
    expect(guest.transport.status).toBe(0)
    expect(guest.transport.page).toEqual(page)
    expect(guest.interrupt.count).toBe(interrupts)
  })

  it('leaves memory and register page alone, which may be gone, whatever was under way', async () => {
    const page = new Uint8Array(VIRTIO_MMIO_SIZE)
    const mock = new MockMemory([{ start: 0, size: 0x10_0000 }])
    const released: (() => void)[] = []
    const wait = () => new Promise<void>((resolve) => released.push(resolve))
    const disk = new UserDisk({ size: 2 ** 20, read: wait, flush: wait })
    const guest = new BlkGuest({ disk, queueSize: 256 }, { memory: mock, page })
    guest.begin()
    guest.writeHeader(VIRTIO_BLK_T_IN, 0)
    // More than a turn takes.
    for (let i = 0; i < 200; i += 1) {
      guest.driver.add([readable(HEADER, 16), writable(DATA, 512), writable(STATUS, 1)], { indirect: true })
    }
    guest.driver.publish()
    guest.notify(0)
    expect([guest.status, guest.deferred.length]).toEqual([DRIVER_OK, 1])
    guest.transport.close()
    for (const { buffer } of [page, ...mock.regions.map(({ bytes }) => bytes)]) {
      structuredClone(buffer, { transfer: [buffer as ArrayBuffer] })
    }
    expect(page.length).toBe(0)
    guest.turns()
    while (guest.device.pending > 0) {
      for (const release of released.splice(0)) release()
      await Promise.resolve()
    }
    guest.device.sizeChanged()
    expect(guest.failures).toEqual([])
  })
})
