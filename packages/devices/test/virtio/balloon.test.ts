import { describe, expect, it } from 'vitest'
import * as spec from '../../src/virtio/balloon/spec.ts'
import type { BalloonOptions, BalloonStatistics } from '../../src/virtio/index.ts'
import {
  Balloon,
  MmioTransport,
  VIRTIO_CONFIG_S_NEEDS_RESET,
  VIRTIO_ID_BALLOON,
} from '../../src/virtio/index.ts'
import * as reg from '../../src/virtio/mmio/registers.ts'
import { codeThrownBy, ManualTime } from '../support.ts'
import { BalloonGuest, BUFFER, MEMORY_SIZE, PAGE, SECOND_SIZE } from './balloon-support.ts'

const LAST_PAGE = (MEMORY_SIZE + SECOND_SIZE) / PAGE - 1
/** Where Linux has the queue for reports, in turn: with the numbers closed up, and as the specification says. */
const REPORT_QUEUES = [3, 4]

const noMemory = { discard() {} }
const bit = (feature: number) => 1 << feature

describe('virtio-balloon', () => {
  it('shows its target, and has the queues that were asked for', () => {
    const guest = new BalloonGuest({ target: 32 * PAGE })
    expect(guest.read(reg.VIRTIO_MMIO_DEVICE_ID)).toBe(VIRTIO_ID_BALLOON)
    expect(guest.config(spec.CONFIG_NUM_PAGES_OFFSET)).toBe(32)
    expect(guest.device.featuresLow).toBe(0)
    const queues = (options: Partial<BalloonOptions>) =>
      new Balloon({ memory: noMemory, ...options }).queueSizes.length
    expect([queues({}), queues({ statisticsInterval: 0 }), queues({ reporting: true })]).toEqual([2, 3, 5])
    const all = new Balloon({ memory: noMemory, statisticsInterval: 0, reporting: true, deflateOnOom: true })
    expect(all.featuresLow).toBe(
      bit(spec.VIRTIO_BALLOON_F_STATS_VQ) |
        bit(spec.VIRTIO_BALLOON_F_DEFLATE_ON_OOM) |
        bit(spec.VIRTIO_BALLOON_F_PAGE_POISON) |
        bit(spec.VIRTIO_BALLOON_F_REPORTING),
    )
  })

  it('tells the guest another target, and the VMM what the guest has done', () => {
    const sizes: number[] = []
    const guest = new BalloonGuest({ events: { actualChanged: (bytes) => sizes.push(bytes) } })
    guest.begin()
    guest.handleInterrupt()
    guest.device.setTarget(64 * PAGE)
    expect(guest.handleInterrupt() & reg.VIRTIO_MMIO_INT_CONFIG).not.toBe(0)
    expect(guest.config(spec.CONFIG_NUM_PAGES_OFFSET)).toBe(64)
    expect(guest.device.target).toBe(64 * PAGE)
    const interrupts = guest.interrupt.count
    guest.device.setTarget(64 * PAGE)
    expect(guest.interrupt.count).toBe(interrupts)
    guest.writeConfig(spec.CONFIG_ACTUAL_OFFSET, 10)
    expect(guest.device.actual).toBe(10 * PAGE)
    expect(sizes).toEqual([10 * PAGE])
    // The target is the host's, and half a field is no number.
    guest.writeConfig(spec.CONFIG_NUM_PAGES_OFFSET, 1)
    guest.writeConfig(spec.CONFIG_ACTUAL_OFFSET, 1, 1)
    expect([guest.device.target, guest.device.actual]).toEqual([64 * PAGE, 10 * PAGE])
    guest.begin()
    expect([guest.device.target, guest.device.actual]).toEqual([64 * PAGE, 0])
  })

  it.each([{ packed: false }, { packed: true }])(
    'gives pages back in ranges, whichever way they are listed (packed $packed)',
    ({ packed }) => {
      const guest = new BalloonGuest({}, { features: { packed } })
      guest.begin()
      expect(guest.inflate(200, 201, 202, 220, 219, 218, 210, 230)).toBe(true)
      expect(guest.log.take()).toEqual(['200-203', '218-221', '210-211', '230-231'])
      expect(guest.device.discardedBytes).toBe(8 * PAGE)
      expect(guest.faults).toEqual([])
      // Page 0 is a page too, and so is the last; neighbours in two regions are two ranges.
      const edge = MEMORY_SIZE / PAGE
      expect(guest.inflate(edge - 1, edge, LAST_PAGE)).toBe(true)
      expect(guest.log.take()).toEqual([
        `${edge - 1}-${edge}`,
        `${edge}-${edge + 1}`,
        `${LAST_PAGE}-${LAST_PAGE + 1}`,
      ])
      expect(guest.inflate(0)).toBe(true)
      expect(guest.log.take()).toEqual(['0-1'])
    },
  )

  it('does nothing with pages that come back', () => {
    const guest = new BalloonGuest()
    guest.begin()
    expect(guest.pages(spec.DEFLATE_QUEUE, [200, 0xffff_ffff])).toBe(true)
    expect(guest.log.take()).toEqual([])
    expect(guest.faults).toEqual([])
  })

  it('leaves out pages that are not there, and says so', () => {
    const guest = new BalloonGuest()
    guest.begin()
    expect(guest.inflate(LAST_PAGE + 1, 200, 0xffff_ffff, LAST_PAGE, LAST_PAGE + 1)).toBe(true)
    expect(guest.log.take()).toEqual(['200-201', `${LAST_PAGE}-${LAST_PAGE + 1}`])
    expect(guest.faults.map(({ code }) => code)).toEqual(['ERR_BALLOON_PAGES'])
    guest.mock.write(BUFFER, new Uint8Array(Uint32Array.of(210, 211).buffer))
    expect(guest.send(spec.INFLATE_QUEUE, 7)).toBe(true)
    expect(guest.log.take()).toEqual(['210-211'])
    expect(guest.faults.length).toBe(2)
    expect(guest.status & VIRTIO_CONFIG_S_NEEDS_RESET).toBe(0)
  })

  it('takes a long list in several turns', () => {
    const guest = new BalloonGuest()
    guest.begin()
    const pages = Array.from({ length: 3000 }, (_, i) => (i % 2 === 0 ? 200 : 202))
    expect(guest.pages(spec.INFLATE_QUEUE, pages)).toBe(false)
    expect(guest.log.ranges.length).toBe(1024)
    expect(guest.turns()).toBe(2)
    expect(guest.log.take().length).toBe(pages.length)
    expect(guest.driverAt(spec.INFLATE_QUEUE).reapAll().length).toBe(1)
  })

  it('starts a queue that was reset from its beginning', () => {
    const guest = new BalloonGuest()
    guest.begin()
    guest.pages(
      spec.INFLATE_QUEUE,
      Array.from({ length: 2000 }, () => 200),
    )
    guest.select(spec.INFLATE_QUEUE)
    guest.write(reg.VIRTIO_MMIO_QUEUE_RESET, 1)
    guest.drivers[0] = guest.driverOf(0)
    guest.enable(0, guest.driverAt(0))
    guest.log.take()
    guest.turns()
    expect(guest.inflate(201)).toBe(true)
    expect(guest.log.take()).toEqual(['201-202'])
  })

  it('gives whole pages of the host back alone', () => {
    const guest = new BalloonGuest({ pageSize: 4 * PAGE, reporting: true })
    guest.begin()
    guest.inflate(200, 201, 202)
    guest.inflate(199, 200, 201, 202, 203, 204, 205, 206, 207, 208)
    guest.report(4, [215, 6])
    expect(guest.log.take()).toEqual(['200-208', '216-220'])
  })

  it('tells the VMM once that it cannot give pages back, and goes on', () => {
    const guest = new BalloonGuest()
    guest.begin()
    guest.log.fail = new Error('madvise: EINVAL')
    expect(guest.inflate(200, 202, 204)).toBe(true)
    guest.inflate(206)
    expect(guest.failures).toEqual([guest.log.fail])
    expect(guest.device.discardedBytes).toBe(0)
    guest.log.fail = undefined
    guest.inflate(208)
    guest.log.fail = new Error('again')
    guest.inflate(210)
    expect(guest.failures.length).toBe(2)
    expect(guest.status & VIRTIO_CONFIG_S_NEEDS_RESET).toBe(0)
  })

  it.each([
    { target: -PAGE },
    { target: 4095 },
    { target: 2 ** 44 },
    { target: Number.NaN },
    { statisticsInterval: -1 },
    { statisticsInterval: 86_400_001 },
    { pageSize: 2048 },
    { pageSize: 12_288 },
  ])('refuses %o', (options) => {
    expect(codeThrownBy(() => new Balloon({ memory: noMemory, ...options }))).toBe('ERR_DEVICE_OPTION')
  })

  it('refuses a target that is none, an interval without statistics, and a second transport', () => {
    const { device, mock } = new BalloonGuest()
    expect(codeThrownBy(() => device.setTarget(1))).toBe('ERR_DEVICE_OPTION')
    expect(codeThrownBy(() => device.setStatisticsInterval(1))).toBe('ERR_DEVICE_OPTION')
    const options = { device, memory: mock, interrupt: { trigger() {} } }
    expect(codeThrownBy(() => new MmioTransport(options))).toBe('ERR_DEVICE_OPTION')
  })
})

describe('free page reporting', () => {
  it.each(REPORT_QUEUES)('gives blocks back, on queue %i', (queue) => {
    const guest = new BalloonGuest({ reporting: true, statisticsInterval: 0 })
    guest.begin()
    guest.mock.write(200 * PAGE, Uint8Array.of(1, 2, 3))
    guest.mock.clearDirty()
    expect(guest.report(queue, [200, 8], [208, 8], [192, 8], [220, 4])).toBe(true)
    expect(guest.log.take()).toEqual(['192-216', '220-224'])
    expect([...guest.mock.read(200 * PAGE, 3)]).toEqual([0, 0, 0])
    expect(guest.faults).toEqual([])
  })

  it('is on the queue after the first two for a Linux that has no statistics', () => {
    const guest = new BalloonGuest({ reporting: true, statisticsInterval: 0 })
    guest.begin(guest.offered(0) & ~bit(spec.VIRTIO_BALLOON_F_STATS_VQ))
    expect(guest.report(2, [200, 8])).toBe(true)
    expect(guest.log.take()).toEqual(['200-208'])
  })

  it('leaves out what is not in memory, and parts of pages', () => {
    const guest = new BalloonGuest({ reporting: true })
    guest.begin()
    guest.report(4, [LAST_PAGE - 1, 4])
    expect(guest.log.take()).toEqual([`${LAST_PAGE - 1}-${LAST_PAGE + 1}`])
    expect(guest.faults.length).toBe(1)
    guest.driverAt(4).send([{ address: 200 * PAGE + 1, length: 2 * PAGE, writable: true }])
    guest.notify(4)
    expect(guest.log.take()).toEqual(['201-202'])
  })

  it('leaves pages alone that the guest fills with a pattern, and takes those that it fills with zeros', () => {
    const guest = new BalloonGuest({ reporting: true })
    guest.begin()
    guest.writeConfig(spec.CONFIG_POISON_VAL_OFFSET, 0xaaaa_aaaa)
    expect(guest.report(4, [200, 8])).toBe(true)
    expect(guest.log.take()).toEqual([])
    guest.writeConfig(spec.CONFIG_POISON_VAL_OFFSET, 0)
    guest.report(4, [200, 8])
    expect(guest.log.take()).toEqual(['200-208'])
  })

  it('leaves pages alone that the guest expects to be zeros where they would come back as something else', () => {
    const guest = new BalloonGuest({ reporting: true })
    guest.log.discardsToZero = false
    guest.begin()
    expect(guest.report(4, [200, 8])).toBe(true)
    expect(guest.log.take()).toEqual([])
    // Who does not say what it expects, expects nothing.
    guest.begin(guest.offered(0) & ~bit(spec.VIRTIO_BALLOON_F_PAGE_POISON))
    guest.report(4, [200, 8])
    expect(guest.log.take()).toEqual(['200-208'])
  })

  it('is not done for a driver that has not negotiated it', () => {
    const guest = new BalloonGuest({ reporting: true })
    guest.begin(0)
    expect(guest.report(4, [200, 8])).toBe(true)
    guest.writeConfig(spec.CONFIG_POISON_VAL_OFFSET, 1)
    expect(guest.config(spec.CONFIG_POISON_VAL_OFFSET)).toBe(0)
    expect(guest.log.take()).toEqual([])
  })
})

describe('statistics of the guest', () => {
  const setUp = (statisticsInterval: number) => {
    const timers = new ManualTime(0)
    const all: BalloonStatistics[] = []
    const guest = new BalloonGuest({
      statisticsInterval,
      timers,
      events: { statistics: (statistics) => all.push(statistics) },
    })
    guest.begin()
    const queue = guest.driverAt(spec.STATS_QUEUE)
    return { timers, all, guest, queue }
  }

  it('have names for every tag', () => {
    const { all, guest } = setUp(0)
    guest.statistics(Array.from({ length: 17 }, (_, tag) => [tag, BigInt(tag) * 4096n]))
    expect(all).toEqual([
      {
        swapIn: 0,
        swapOut: PAGE,
        majorFaults: 2 * PAGE,
        minorFaults: 3 * PAGE,
        freeMemory: 4 * PAGE,
        totalMemory: 5 * PAGE,
        availableMemory: 6 * PAGE,
        diskCaches: 7 * PAGE,
        hugetlbAllocations: 8 * PAGE,
        hugetlbFailures: 9 * PAGE,
        oomKills: 10 * PAGE,
        allocationStalls: 11 * PAGE,
        asyncScan: 12 * PAGE,
        directScan: 13 * PAGE,
        asyncReclaim: 14 * PAGE,
        directReclaim: 15 * PAGE,
      },
    ])
    expect(guest.device.statistics).toBe(all[0])
  })

  it('are whatever the guest gives, but no numbers that are none', () => {
    const { all, guest, queue } = setUp(0)
    guest.statistics([
      [4, 2n ** 53n],
      [5, 2n ** 64n - 1n],
      [0xffff, 1n],
      [6, 2n ** 53n - 1n],
    ])
    expect(all).toEqual([{ availableMemory: 2 ** 53 - 1 }])
    guest.device.requestStatistics()
    queue.reapAll()
    // One of them, and a piece of another.
    guest.mock.write(BUFFER, Uint8Array.of(5, 0, 1, 0, 0, 0, 0, 0, 0, 0, 6, 0, 1))
    queue.send([{ address: BUFFER, length: 13 }])
    guest.notify(spec.STATS_QUEUE)
    expect(all[1]).toEqual({ totalMemory: 1 })
  })

  it('are asked for in an interval, by returning the buffer that they came in', () => {
    const { timers, all, guest, queue } = setUp(1000)
    guest.statistics([[4, 1n]])
    expect(queue.reapAll()).toEqual([])
    timers.advance(999)
    expect(queue.reapAll()).toEqual([])
    timers.advance(1)
    expect(queue.reapAll().map(({ length }) => length)).toEqual([0])
    // A guest that does not answer is not asked again.
    timers.advance(5000)
    expect(queue.reapAll()).toEqual([])
    guest.statistics([[4, 2n]])
    timers.advance(1000)
    expect(queue.reapAll().length).toBe(1)
    expect(all.map(({ freeMemory }) => freeMemory)).toEqual([1, 2])
  })

  it('are read once, however often the guest notifies', () => {
    const { all, guest } = setUp(0)
    guest.statistics([[4, 1n]])
    guest.notify(spec.STATS_QUEUE)
    guest.notify(spec.STATS_QUEUE)
    expect(all.length).toBe(1)
  })

  it('can be asked for, and at another interval', () => {
    const { timers, guest, queue } = setUp(0)
    expect(guest.device.requestStatistics()).toBe(false)
    guest.statistics([[4, 1n]])
    expect(guest.device.requestStatistics()).toBe(true)
    expect(guest.device.requestStatistics()).toBe(false)
    expect(queue.reapAll().length).toBe(1)
    guest.statistics([[4, 2n]])
    timers.advance(10_000)
    expect(queue.reapAll()).toEqual([])
    guest.device.setStatisticsInterval(10)
    timers.advance(10)
    expect(queue.reapAll().length).toBe(1)
  })

  it('are not asked for after a reset, after the end, or without a driver', () => {
    const { timers, guest } = setUp(1000)
    expect(timers.pendingCount).toBe(1)
    guest.status = 0
    expect([timers.pendingCount, guest.device.statistics]).toEqual([0, undefined])
    guest.begin()
    guest.device.close()
    expect(timers.pendingCount).toBe(0)
    guest.begin(0)
    expect(timers.pendingCount).toBe(0)
  })
})

describe('a state of virtio-balloon', () => {
  it('goes on, and reads the statistics again', () => {
    const options = { reporting: true, statisticsInterval: 0 }
    const guest = new BalloonGuest({ ...options, target: 8 * PAGE })
    guest.begin()
    guest.writeConfig(spec.CONFIG_ACTUAL_OFFSET, 3)
    guest.writeConfig(spec.CONFIG_POISON_VAL_OFFSET, 7)
    guest.statistics([[4, 1n]])
    // In the middle of a list, nothing is lost by beginning it again.
    guest.pages(
      spec.INFLATE_QUEUE,
      Array.from({ length: 2000 }, () => 200),
    )
    const state = JSON.parse(JSON.stringify(guest.transport.state()))
    const copy = new BalloonGuest(options, { memory: guest.mock }, (all) =>
      MmioTransport.fromState(state, all),
    )
    expect([copy.device.target, copy.device.actual]).toEqual([8 * PAGE, 3 * PAGE])
    expect(copy.config(spec.CONFIG_POISON_VAL_OFFSET)).toBe(7)
    copy.transport.resume()
    copy.turns()
    expect(copy.log.take().length).toBe(2000)
    // The list lies where the statistics were.
    expect(copy.device.statistics).toEqual({})
    expect(guest.driverAt(spec.INFLATE_QUEUE).reapAll().length).toBe(1)
  })

  it.each([
    { version: 0 },
    { targetPages: -1 },
    { targetPages: 2 ** 32 },
    { actualPages: 0.5 },
    { poison: undefined },
  ])('with %o is refused', (change) => {
    const { device } = new BalloonGuest()
    expect(codeThrownBy(() => device.restore({ ...device.state(), ...change }))).toBe('ERR_DEVICE_STATE')
  })
})
