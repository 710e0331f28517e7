import { MockMemory } from '@vmm/virtio-queue/testing'
import { describe, expect, it } from 'vitest'
import {
  MmioTransport,
  RNG_BYTES_MAX,
  Rng,
  type RngOptions,
  VIRTIO_CONFIG_S_NEEDS_RESET,
  VIRTIO_ID_RNG,
} from '../../src/virtio/index.ts'
import * as reg from '../../src/virtio/mmio/registers.ts'
import { codeThrownBy, ManualTime } from '../support.ts'
import { DRIVER_OK, Guest } from './support.ts'

const BUFFER = 0x8_0000
const BYTE = 0x5a

function setUp(options: RngOptions = { source: { fill: (target) => void target.fill(BYTE) } }) {
  const memory = new MockMemory([{ start: 0, size: 0x10_0000 }])
  const guest = new Guest(new Rng(options), { memory })
  const [driver] = guest.start()
  if (driver === undefined) throw new Error('no queue')
  return { guest, driver, memory }
}

describe('virtio-rng', () => {
  it('is an entropy device with one queue and no configuration', () => {
    const { guest } = setUp()
    expect(guest.read(reg.VIRTIO_MMIO_DEVICE_ID)).toBe(VIRTIO_ID_RNG)
    expect(guest.status).toBe(DRIVER_OK)
    guest.select(1)
    expect(guest.read(reg.VIRTIO_MMIO_QUEUE_NUM_MAX)).toBe(0)
    expect(guest.read(reg.VIRTIO_MMIO_CONFIG)).toBe(0)
  })

  it('fills a buffer, all pieces of it and nothing else, and interrupts', () => {
    const { guest, driver, memory } = setUp()
    memory.clearDirty()
    driver.send([
      { address: BUFFER, length: 3, writable: true },
      { address: BUFFER + 100, length: 5, writable: true },
    ])
    guest.notify(0)
    expect(driver.reap()?.length).toBe(8)
    expect([...memory.read(BUFFER, 4)]).toEqual([BYTE, BYTE, BYTE, 0])
    expect([...memory.read(BUFFER + 99, 7)]).toEqual([0, BYTE, BYTE, BYTE, BYTE, BYTE, 0])
    expect(memory.isDirty(BUFFER, 3) && memory.isDirty(BUFFER + 100, 5)).toBe(true)
    expect(memory.isDirty(BUFFER + 3, 1)).toBe(false)
    expect(guest.handleInterrupt()).toBe(reg.VIRTIO_MMIO_INT_VRING)
  })

  it('gives bytes fit for keys unless told otherwise', () => {
    const { guest, driver, memory } = setUp({})
    driver.send([{ address: BUFFER, length: 64, writable: true }])
    guest.notify(0)
    expect(new Set(memory.read(BUFFER, 64)).size).toBeGreaterThan(20)
  })

  it('gives no more than a page for a buffer, however long', () => {
    const { guest, driver, memory } = setUp()
    driver.send([{ address: BUFFER, length: 0x1_0000, writable: true }])
    guest.notify(0)
    expect(driver.reap()?.length).toBe(RNG_BYTES_MAX)
    expect([...memory.read(BUFFER + RNG_BYTES_MAX - 1, 2)]).toEqual([BYTE, 0])
  })

  it('answers what it cannot fill with nothing', () => {
    const { guest, driver } = setUp()
    driver.send([{ address: BUFFER, length: 16 }])
    driver.send([{ address: 0x20_0000, length: 16, writable: true }])
    guest.notify(0)
    expect(driver.reapAll().map(({ length }) => length)).toEqual([0, 0])
    expect(guest.status).toBe(DRIVER_OK)
  })

  it('fills up to where memory ends', () => {
    const { guest, driver } = setUp()
    driver.send([{ address: 0x10_0000 - 10, length: 16, writable: true }])
    guest.notify(0)
    expect(driver.reap()?.length).toBe(10)
  })

  it('needs a reset when the source fails, and the host hears why', () => {
    const error = new Error('no entropy')
    const { guest, driver } = setUp({
      source: {
        fill() {
          throw error
        },
      },
    })
    driver.send([{ address: BUFFER, length: 16, writable: true }])
    guest.notify(0)
    expect(guest.failures).toEqual([error])
    expect(guest.status).toBe(DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET)
    expect(driver.reap()?.length).toBe(0)
  })

  it('has one transport', () => {
    const { guest } = setUp()
    expect(codeThrownBy(() => new Guest(guest.device))).toBe('ERR_DEVICE_OPTION')
  })

  it('goes on where it was saved', () => {
    const { guest, driver, memory } = setUp()
    driver.send([{ address: BUFFER, length: 4, writable: true }])
    guest.notify(0)
    // Not notified yet when the state is saved.
    driver.send([{ address: BUFFER, length: 8, writable: true }])
    const state = JSON.parse(JSON.stringify(guest.transport.state()))
    const copy = new Guest(new Rng(), { memory }, (options) => MmioTransport.fromState(state, options))
    expect(driver.reapAll().map(({ length }) => length)).toEqual([4])
    driver.enableInterrupts()
    copy.transport.resume()
    expect(driver.reapAll().map(({ length }) => length)).toEqual([8])
    expect(copy.interrupt.count).toBe(2)
  })
})

describe('a rate limit of virtio-rng', () => {
  function setUpLimited() {
    const time = new ManualTime(0)
    const memory = new MockMemory([{ start: 0, size: 0x10_0000 }])
    const rateLimit = { bytes: { perSecond: 1000, burst: 100 }, clock: time, timers: time }
    const guest = new Guest(new Rng({ rateLimit }), { memory })
    const [driver] = guest.start()
    if (driver === undefined) throw new Error('no queue')
    return { time, guest, driver, memory, rateLimit }
  }

  it('has buffers wait, and fills them as the bytes come', () => {
    const { time, guest, driver } = setUpLimited()
    for (let i = 0; i < 4; i += 1) driver.send([{ address: BUFFER + 64 * i, length: 64, writable: true }])
    guest.notify(0)
    expect(driver.reapAll().length).toBe(1)
    time.advance(28)
    expect(driver.reapAll().length).toBe(1)
    time.advance(127)
    expect(driver.reapAll().length).toBe(1)
    time.advance(1)
    expect([driver.reapAll().length, time.pendingCount]).toEqual([1, 0])
  })

  it('counts no more of a buffer than is filled', () => {
    const { guest, driver } = setUpLimited()
    driver.send([{ address: BUFFER, length: 0x1_0000, writable: true }])
    guest.notify(0)
    expect(guest.device.rateLimiter.state().bytes?.tokens).toBe(100 - RNG_BYTES_MAX)
  })

  it('forgets what waits with a reset of device or queue', () => {
    const { time, guest, driver } = setUpLimited()
    const wait = (): void => {
      for (let i = 0; i < 3; i += 1) driver.send([{ address: BUFFER, length: 100, writable: true }])
      guest.notify(0)
      expect(time.pendingCount).toBe(1)
    }
    wait()
    guest.select(0)
    guest.write(reg.VIRTIO_MMIO_QUEUE_RESET, 1)
    expect(time.pendingCount).toBe(0)
    const [again] = guest.start()
    again?.send([{ address: BUFFER, length: 100, writable: true }])
    guest.notify(0)
    expect(time.pendingCount).toBe(1)
    guest.status = 0
    expect(time.pendingCount).toBe(0)
  })

  it('is saved with what is left', () => {
    const { guest, driver, memory, rateLimit } = setUpLimited()
    driver.send([{ address: BUFFER, length: 64, writable: true }])
    guest.notify(0)
    const state = JSON.parse(JSON.stringify(guest.transport.state()))
    const copy = new Guest(new Rng({ rateLimit }), { memory }, (options) =>
      MmioTransport.fromState(state, options),
    )
    expect(copy.device.rateLimiter.state().bytes?.tokens).toBe(36)
    const device = { version: 2 }
    const refused = () =>
      new Guest(new Rng({ rateLimit }), { memory }, (options) =>
        MmioTransport.fromState({ ...state, device }, options),
      )
    expect(codeThrownBy(refused)).toBe('ERR_DEVICE_STATE')
  })
})
