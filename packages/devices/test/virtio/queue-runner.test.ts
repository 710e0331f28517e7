import { type DescriptorChain, POP_EMPTY, VIRTIO_F_RING_PACKED, type Virtqueue } from '@vmm/virtio-queue'
import type { MockDriver } from '@vmm/virtio-queue/testing'
import { describe, expect, it } from 'vitest'
import type { VirtioTransport } from '../../src/virtio/index.ts'
import {
  BUSY,
  featureBit,
  IN_FLIGHT,
  VIRTIO_CONFIG_S_NEEDS_RESET as NEEDS_RESET,
  QueueRunner,
} from '../../src/virtio/index.ts'
import * as reg from '../../src/virtio/mmio/registers.ts'
import { DRIVER_OK, Guest, TestDevice, VERSION_1 } from './support.ts'

const BATCH = 4

/** A device whose one queue is run, and whose answers the test gives. */
class RunnerDevice extends TestDevice {
  runner!: QueueRunner
  readonly served: { chain: DescriptorChain; queue: Virtqueue }[] = []
  answer: (chain: DescriptorChain) => number = () => 0

  constructor() {
    super({ queueSizes: [16] })
  }

  override attach(transport: VirtioTransport): void {
    super.attach(transport)
    const serve = (chain: DescriptorChain, queue: Virtqueue): number => {
      this.served.push({ chain, queue })
      return this.answer(chain)
    }
    this.runner = new QueueRunner(transport, 0, { serve }, BATCH)
  }

  override notify(): void {
    this.runner.run()
  }
}

interface Setup {
  readonly guest: Guest<RunnerDevice>
  readonly device: RunnerDevice
  readonly driver: MockDriver
  /** Makes buffers available. */
  send(count: number): boolean
}

function setUp(packed = false): Setup {
  const device = new RunnerDevice()
  const guest = new Guest(device, { features: { packed } })
  const [driver] = guest.start()
  if (driver === undefined) throw new Error('no queue')
  const send = (count: number): boolean => {
    for (let i = 0; i < count; i += 1)
      driver.add([{ address: 0x8_0000 + 16 * i, length: 16, writable: true }])
    driver.publish()
    return driver.needsKick()
  }
  return { guest, device, driver, send }
}

describe.each([{ ring: 'split' }, { ring: 'packed' }])('the runner of a $ring queue', ({ ring }) => {
  const make = (): Setup => setUp(ring === 'packed')

  it('serves what is there, and interrupts once for all', () => {
    const { guest, device, driver, send } = make()
    device.answer = () => 5
    driver.enableInterrupts()
    expect(send(3)).toBe(true)
    guest.notify(0)
    expect(driver.reapAll().map(({ length }) => length)).toEqual([5, 5, 5])
    expect(guest.handleInterrupt()).toBe(reg.VIRTIO_MMIO_INT_VRING)
    expect(guest.interrupt.count).toBe(1)
    expect(guest.deferred.length).toBe(0)
  })

  it('does not interrupt a driver that wants none', () => {
    const { guest, driver, send } = make()
    driver.disableInterrupts()
    send(3)
    guest.notify(0)
    expect(driver.reapAll().length).toBe(3)
    expect(guest.interrupt.count).toBe(0)
  })

  it('asks for the next notification when it is through', () => {
    const { guest, send } = make()
    for (let i = 0; i < 3; i += 1) {
      expect(send(1)).toBe(true)
      guest.notify(0)
    }
  })

  it('wants no notification while it works', () => {
    const { guest, device } = make()
    const high = ring === 'packed' ? VERSION_1 | featureBit(VIRTIO_F_RING_PACKED - 32) : VERSION_1
    // Without EVENT_IDX, which has no way to say it.
    const [plain] = guest.start(0, high)
    if (plain === undefined) throw new Error('no queue')
    const buffers = [{ address: 0x8_0000, length: 16, writable: true }]
    const kicks: boolean[] = []
    device.answer = () => {
      if (kicks.length < 2) kicks.push(plain.send(buffers))
      return 0
    }
    plain.send(buffers)
    guest.notify(0)
    expect(kicks).toEqual([false, false])
    expect(plain.send(buffers)).toBe(true)
  })

  it('takes a batch a turn, with notifications off in between', () => {
    const { guest, device, driver, send } = make()
    send(2 * BATCH + 1)
    guest.notify(0)
    expect(driver.reapAll().length).toBe(BATCH)
    expect(guest.deferred.length).toBe(1)
    expect(send(1)).toBe(false)
    guest.notify(0)
    expect(device.served.length).toBe(BATCH)
    expect(guest.turns()).toBe(2)
    expect(driver.reapAll().length).toBe(BATCH + 2)
    expect(send(1)).toBe(true)
  })

  it('lets the event loop go between batches, however fast a driver is', () => {
    const { guest, device, driver, send } = make()
    device.answer = () => {
      driver.reapAll()
      send(1)
      return 0
    }
    send(1)
    guest.notify(0)
    for (let turn = 1; turn < 50; turn += 1) {
      expect(device.served.length).toBe(BATCH * turn)
      guest.deferred.shift()?.()
    }
  })

  it('lets the event loop go when a vCPU shows chains and takes them back before they are popped', () => {
    const { guest, device } = make()
    const queue = device.transport.queue(0) as Virtqueue
    let looks = 0
    queue.pop = () => POP_EMPTY
    queue.enableNotification = () => {
      looks += 1
      return looks < 10 * BATCH
    }
    guest.notify(0)
    expect(looks).toBeLessThanOrEqual(BATCH)
    expect(guest.turns()).toBeGreaterThan(10)
  })

  it('stops at DEVICE_NEEDS_RESET, in a turn of its own, too', () => {
    const { guest, device, driver, send } = make()
    send(BATCH + 1)
    guest.notify(0)
    device.transport.fault({ code: 'ERR_TEST', needsReset: true, message: 'a test' }, 0)
    guest.turns()
    expect(driver.reapAll().length).toBe(BATCH)
  })

  it('forgets the rest of a batch with a reset', () => {
    const { guest, device, send } = make()
    send(BATCH + 1)
    guest.notify(0)
    guest.status = 0
    guest.turns()
    expect(device.served.length).toBe(BATCH)
  })

  it('reports a malformed chain, returns it empty, and stops with DEVICE_NEEDS_RESET', () => {
    const { guest, device, driver, send } = make()
    const address = 0x8_0000
    driver.add([
      { address, length: 16, writable: true },
      { address, length: 16 },
    ])
    send(1)
    guest.notify(0)
    expect(guest.faults.map(({ code }) => code)).toEqual(['ERR_VIRTQ_DIRECTION'])
    expect(driver.reapAll().map(({ length }) => length)).toEqual([0])
    expect(device.served).toEqual([])
    expect(guest.status).toBe(DRIVER_OK | NEEDS_RESET)
    expect(guest.handleInterrupt() & reg.VIRTIO_MMIO_INT_CONFIG).not.toBe(0)
    expect(guest.transport.counters.faults).toBe(1)
  })

  it('leaves it to the device to answer a chain that is partly outside memory', () => {
    const { guest, device, driver } = make()
    device.answer = () => 1
    driver.send([{ address: 0xf_fff0, length: 32, writable: true }])
    guest.notify(0)
    expect(guest.faults.map(({ code }) => code)).toEqual(['ERR_VIRTQ_BUFFER_ADDRESS'])
    expect(guest.status).toBe(DRIVER_OK)
    expect(driver.reapAll().map(({ length }) => length)).toEqual([1])
  })

  it('returns chains that were in flight in any order, and interrupts at the flush', () => {
    const { guest, device, driver, send } = make()
    device.answer = () => IN_FLIGHT
    send(3)
    guest.notify(0)
    expect([driver.reapAll().length, guest.interrupt.count]).toEqual([0, 0])
    const [first, second, third] = device.served
    for (const one of [third, first]) {
      if (one !== undefined) device.runner.complete(one.chain, one.queue, 7)
    }
    expect(driver.reapAll().length).toBe(0)
    device.runner.flush()
    expect(driver.reapAll().map(({ length }) => length)).toEqual([7, 7])
    expect(guest.interrupt.count).toBe(1)
    expect(new Set([first?.chain, second?.chain, third?.chain]).size).toBe(3)
  })

  it('drops completions of what was reset, and uses the chains again', () => {
    const { guest, device, driver, send } = make()
    device.answer = () => IN_FLIGHT
    send(2)
    guest.notify(0)
    const [first, second] = device.served.splice(0)
    guest.start(undefined, ring === 'packed' ? undefined : VERSION_1)
    expect(device.runner.isCurrent(first?.queue as Virtqueue)).toBe(false)
    for (const one of [first, second]) {
      if (one !== undefined) device.runner.complete(one.chain, one.queue, 7)
    }
    device.runner.flush()
    expect([driver.reapAll().length, guest.interrupt.count]).toEqual([0, 0])
  })

  it('puts back what the device cannot take yet, and takes it when run again', () => {
    const { guest, device, driver, send } = make()
    device.answer = () => (device.served.length > 2 ? BUSY : 0)
    send(4)
    guest.notify(0)
    expect(driver.reapAll().length).toBe(2)
    device.served.length = 0
    device.answer = () => 0
    device.runner.run()
    expect(driver.reapAll().length).toBe(2)
    expect(send(1)).toBe(true)
  })
})
