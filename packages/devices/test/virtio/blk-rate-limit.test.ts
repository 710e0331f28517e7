import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import * as spec from '../../src/virtio/blk/spec.ts'
import type { BlkOptions, RateLimit } from '../../src/virtio/index.ts'
import { MmioTransport, RateLimiter, SECTOR_SIZE } from '../../src/virtio/index.ts'
import * as reg from '../../src/virtio/mmio/registers.ts'
import { ManualTime } from '../support.ts'
import {
  BlkGuest,
  DATA,
  HEADER,
  numberedDisk,
  readable,
  SECTORS,
  SlowDisk,
  STATUS,
  writable,
} from './blk-support.ts'

const { VIRTIO_BLK_T_IN: IN, VIRTIO_BLK_T_OUT: OUT, VIRTIO_BLK_T_FLUSH: FLUSH } = spec
const SECTOR = [writable(DATA, SECTOR_SIZE)]

function setUp(limit: RateLimit, options: Partial<BlkOptions> = {}) {
  const time = new ManualTime(0)
  const guest = new BlkGuest({
    disk: numberedDisk(),
    rateLimit: { ...limit, clock: time, timers: time },
    ...options,
  })
  guest.begin()
  /** Adds a request whose header, data and status are its own. @returns where the status is */
  const add = (index: number, type: number, sector: number, length = SECTOR_SIZE, queue = 0): number => {
    const header = HEADER + 0x100 + 16 * index
    const status = STATUS + 0x100 + index
    guest.writeHeader(type, sector, header)
    guest.mock.write(status, Uint8Array.of(0xee))
    const at = DATA + index * SECTOR_SIZE
    const data = length === 0 ? [] : [type === IN ? writable(at, length) : readable(at, length)]
    guest.drivers[queue]?.add([readable(header, 16), ...data, writable(status, 1)])
    guest.drivers[queue]?.publish()
    guest.notify(queue)
    return status
  }
  return { time, guest, add }
}

describe('a rate limit of virtio-blk', () => {
  it('has requests wait in their queue, and loses none', () => {
    const { time, guest, add } = setUp({ bytes: { perSecond: 5120, burst: 1024 } })
    for (let i = 0; i < 5; i += 1) add(i, IN, i + 1)
    expect(guest.driver.reapAll().length).toBe(2)
    expect(guest.device.pending).toBe(0)
    guest.interrupt.take()
    guest.driver.enableInterrupts()
    time.advance(100)
    expect([guest.driver.reapAll().length, guest.interrupt.take()]).toEqual([1, 1])
    time.advance(200)
    expect(guest.driver.reapAll().map(({ length }) => length)).toEqual([513, 513])
    for (let i = 0; i < 5; i += 1) expect(guest.mock.read(DATA + i * SECTOR_SIZE, 1)[0]).toBe(i + 1)
    expect(time.pendingCount).toBe(0)
  })

  it('asks for a notification again when nothing waits any more', () => {
    const { time, guest, add } = setUp({ operations: { perSecond: 10, burst: 1 } })
    add(0, IN, 0)
    add(1, IN, 0)
    time.advance(1000)
    expect(guest.driver.reapAll().length).toBe(2)
    guest.driver.add([readable(HEADER, 16), ...SECTOR, writable(STATUS, 1)])
    guest.driver.publish()
    expect(guest.driver.needsKick()).toBe(true)
  })

  it.each([
    { name: 'a read', type: IN, counts: 1024 },
    { name: 'a write', type: OUT, counts: 1024 },
    { name: 'a flush', type: FLUSH, counts: 0 },
    { name: 'an ID', type: spec.VIRTIO_BLK_T_GET_ID, counts: 0 },
  ])('counts $name as one operation of $counts bytes', ({ type, counts }) => {
    const { guest } = setUp({
      bytes: { perSecond: 1e6, burst: 1e6 },
      operations: { perSecond: 10, burst: 10 },
    })
    const data = type === OUT ? [readable(DATA, 1024)] : [writable(DATA, counts === 0 ? 20 : 1024)]
    expect(guest.request(type, 0, type === FLUSH ? {} : { data }).status).toBe(spec.VIRTIO_BLK_S_OK)
    expect(guest.device.rateLimiter.state()).toMatchObject({
      bytes: { tokens: 1e6 - counts },
      operations: { tokens: 9 },
    })
  })

  it.each([
    { name: 'a discard', type: spec.VIRTIO_BLK_T_DISCARD, counts: 0 },
    { name: 'a range of zeros', type: spec.VIRTIO_BLK_T_WRITE_ZEROES, counts: 4096 },
  ])('counts $name of 8 sectors as one operation of $counts bytes', ({ type, counts }) => {
    const { guest } = setUp({
      bytes: { perSecond: 1e6, burst: 1e6 },
      operations: { perSecond: 10, burst: 10 },
    })
    expect(guest.request(type, 0, { data: guest.writeRange(0, 8) }).status).toBe(spec.VIRTIO_BLK_S_OK)
    expect(guest.device.rateLimiter.state()).toMatchObject({
      bytes: { tokens: 1e6 - counts },
      operations: { tokens: 9 },
    })
  })

  it('passes a request that is larger than the burst', () => {
    const { time, guest, add } = setUp({ bytes: { perSecond: 1000, burst: 1 } })
    add(0, IN, 0, 8 * SECTOR_SIZE)
    add(20, FLUSH, 0, 0)
    expect(guest.driver.reapAll().length).toBe(2)
    add(1, IN, 0)
    time.advance(4096)
    expect(guest.driver.reapAll().length).toBe(1)
  })

  it('answers a malformed request at once, and does not count it', () => {
    const { guest, add } = setUp({ operations: { perSecond: 1, burst: 1 } })
    expect(guest.request(IN, 0, { header: [readable(HEADER, 8)] }).status).toBe(spec.VIRTIO_BLK_S_IOERR)
    expect(guest.device.rateLimiter.state().operations?.tokens).toBe(1)
    add(0, IN, 0)
    guest.driver.reapAll()
    expect(guest.request(IN, 0, { header: [readable(HEADER, 8)] }).status).toBe(spec.VIRTIO_BLK_S_IOERR)
    expect(guest.faults.map(({ code }) => code)).toEqual(['ERR_BLK_REQUEST', 'ERR_BLK_REQUEST'])
  })

  it('is not told to the driver again while it waits', () => {
    const { guest, add } = setUp({ operations: { perSecond: 1, burst: 1 } })
    for (let i = 0; i < 4; i += 1) add(i, IN, 0)
    guest.interrupt.take()
    for (let i = 0; i < 10; i += 1) guest.notify(0)
    expect([guest.driver.reapAll().length, guest.interrupt.take()]).toEqual([1, 0])
  })

  it('forgets what waits at a reset, and its timer', () => {
    const { time, guest, add } = setUp({ operations: { perSecond: 1, burst: 1 } })
    for (let i = 0; i < 4; i += 1) add(i, IN, 0)
    expect(time.pendingCount).toBe(1)
    guest.status = 0
    expect(time.pendingCount).toBe(0)
    guest.begin()
    add(0, IN, 0)
    time.advance(999)
    expect(guest.driver.reapAll().length).toBe(0)
    time.advance(1)
    expect(guest.driver.reapAll().length).toBe(1)
  })

  it('forgets what waits in a queue that is reset, and the others need not wait for it', () => {
    const { time, guest, add } = setUp({ bytes: { perSecond: 5120, burst: 5120 } }, { queues: 2 })
    add(0, IN, 0, 10 * SECTOR_SIZE)
    add(10, IN, 0, 10 * SECTOR_SIZE)
    add(20, IN, 7, SECTOR_SIZE, 1)
    guest.select(0)
    guest.write(reg.VIRTIO_MMIO_QUEUE_RESET, 1)
    time.advance(100)
    expect(guest.drivers[1]?.reapAll().length).toBe(1)
    expect(time.pendingCount).toBe(0)
  })

  it('lets no queue keep the tokens from another', () => {
    const { time, guest, add } = setUp({ bytes: { perSecond: 51_200, burst: 5120 } }, { queues: 2 })
    add(0, IN, 0, 10 * SECTOR_SIZE)
    add(10, IN, 0, 10 * SECTOR_SIZE, 1)
    for (let i = 0; i < 99; i += 1) {
      add(20, IN, 0)
      guest.drivers[0]?.reapAll()
      time.advance(1)
    }
    expect(guest.drivers[1]?.reapAll().length).toBe(0)
    time.advance(1)
    expect(guest.drivers[1]?.reapAll().length).toBe(1)
  })

  it('changes while requests wait', () => {
    const { time, guest, add } = setUp({ operations: { perSecond: 0.001, burst: 1 } })
    for (let i = 0; i < 4; i += 1) add(i, IN, 0)
    guest.device.rateLimiter.update({})
    expect(guest.driver.reapAll().length).toBe(4)
    guest.device.rateLimiter.update({ operations: { perSecond: 10, burst: 1 } })
    for (let i = 0; i < 4; i += 1) add(i, IN, 0)
    time.advance(200)
    expect(guest.driver.reapAll().length).toBe(3)
  })

  it('can be shared by disks', () => {
    const time = new ManualTime(0)
    const rateLimit = new RateLimiter({ operations: { perSecond: 10, burst: 1 }, clock: time, timers: time })
    const guests = [1, 2].map(() => new BlkGuest({ disk: numberedDisk(), rateLimit }))
    const answered = (): number[] => guests.map(({ driver }) => driver.reapAll().length)
    for (const guest of guests) {
      guest.begin()
      guest.send(IN, 0, { data: SECTOR })
    }
    expect(answered()).toEqual([1, 0])
    time.advance(100)
    expect(answered()).toEqual([0, 1])
    expect(guests.map(({ device }) => device.state().rateLimit)).toEqual([null, null])
  })

  it('wakes a queue that has to wait while a batch is committed', () => {
    const disk = new SlowDisk()
    const { guest, add } = setUp({ operations: { perSecond: 1, burst: 1 } }, { disk })
    disk.commit = () => guest.device.rateLimiter.update({})
    guest.driver.add([readable(HEADER, 16), writable(STATUS, 1)])
    guest.writeHeader(FLUSH, 0)
    add(0, FLUSH, 0, 0)
    expect(disk.requests.length).toBe(1)
    guest.turns()
    expect(disk.requests.length).toBe(2)
  })
})

describe('a saved virtio-blk whose requests wait for tokens', () => {
  it('has them in its queue, and no more tokens than before', () => {
    const { guest, add } = setUp({ operations: { perSecond: 10, burst: 2 } })
    for (let i = 0; i < 4; i += 1) add(i, IN, i)
    const state = JSON.parse(JSON.stringify(guest.transport.state()))
    const time = new ManualTime(1e6)
    const limit = { operations: { perSecond: 10, burst: 2 }, clock: time, timers: time }
    const copy = new BlkGuest({ disk: numberedDisk(), rateLimit: limit }, { memory: guest.mock }, (options) =>
      MmioTransport.fromState(state, options),
    )
    expect(guest.driver.reapAll().length).toBe(2)
    copy.transport.resume()
    expect(guest.driver.reapAll().length).toBe(0)
    time.advance(200)
    expect(guest.driver.reapAll().length).toBe(2)
    expect(guest.mock.read(DATA + 3 * SECTOR_SIZE, 1)[0]).toBe(3)
  })

  it('comes back without limits, or with others', () => {
    const { guest } = setUp({ operations: { perSecond: 10, burst: 2 } })
    const state = guest.transport.state()
    const copy = new BlkGuest({ disk: numberedDisk() }, { memory: guest.mock }, (options) =>
      MmioTransport.fromState(state, options),
    )
    expect(copy.device.state().rateLimit).toBe(null)
  })
})

describe('requests of any kind under a rate limit', () => {
  const step = fc.record({
    wait: fc.oneof(fc.constant(0), fc.nat(300)),
    type: fc.constantFrom(IN, OUT, FLUSH),
    sectors: fc.integer({ min: 1, max: 8 }),
    besides: fc.oneof(
      { weight: 12, arbitrary: fc.constant('nothing') },
      { weight: 1, arbitrary: fc.constantFrom('reset', 'update', 'kick') },
    ),
  })

  it('are all answered in time, and no sooner than they may', () => {
    fc.assert(
      fc.property(
        fc.array(step, { minLength: 1, maxLength: 30 }),
        fc.integer({ min: 512, max: 20_000 }),
        fc.integer({ min: 1, max: 8192 }),
        fc.boolean(),
        (steps, perSecond, burst, packed) => {
          const time = new ManualTime(0)
          const limit = { bytes: { perSecond, burst } }
          const guest = new BlkGuest(
            { disk: numberedDisk(), rateLimit: { ...limit, clock: time, timers: time }, queueSize: 128 },
            { features: { packed } },
          )
          guest.begin()
          let owed = 0
          let since = 0
          let bytes = 0
          let largest = 0
          const lengths = new Map<number, number>()
          const reap = (): void => {
            for (const { token } of guest.driver.reapAll()) {
              owed -= 1
              bytes += lengths.get(token) ?? 0
            }
            const most = ((time.now() - since) * perSecond) / 1000 + Math.max(burst, largest)
            expect(bytes).toBeLessThanOrEqual(most + 1e-3)
          }
          for (const { wait, type, sectors, besides } of steps) {
            const length = type === FLUSH ? 0 : sectors * SECTOR_SIZE
            guest.writeHeader(type, 0, HEADER + 16 * type)
            const data = type === FLUSH ? [] : [type === IN ? writable(DATA, length) : readable(DATA, length)]
            const token = guest.driver.add([readable(HEADER + 16 * type, 16), ...data, writable(STATUS, 1)])
            if (token === undefined) continue
            guest.driver.publish()
            lengths.set(token, length)
            largest = Math.max(largest, length)
            owed += 1
            guest.notify(0)
            reap()
            time.advance(wait)
            reap()
            if (besides === 'kick') guest.notify(0)
            if (besides === 'update') guest.device.rateLimiter.update(limit)
            if (besides === 'reset') {
              guest.begin(undefined)
              owed = 0
              bytes = 0
              since = time.now()
              lengths.clear()
            }
          }
          time.advance(1000 * (1 + (SECTORS * SECTOR_SIZE * steps.length) / perSecond))
          reap()
          expect([owed, time.pendingCount, guest.device.pending]).toEqual([0, 0, 0])
          expect(guest.transport.state().status).toBe(guest.status)
        },
      ),
      { numRuns: 200 },
    )
  })
})
