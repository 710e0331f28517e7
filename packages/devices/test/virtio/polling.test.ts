import { availableParallelism } from 'node:os'
import { type DescriptorChain, VIRTIO_F_RING_PACKED, type Virtqueue } from '@vmm/virtio-queue'
import type { MockDriver } from '@vmm/virtio-queue/testing'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Clock } from '../../src/host.ts'
import type { PollOptions, VirtioTransport } from '../../src/virtio/index.ts'
import {
  BUSY,
  featureBit,
  IN_FLIGHT,
  LATER,
  MmioTransport,
  VIRTIO_CONFIG_S_NEEDS_RESET as NEEDS_RESET,
  QueuePoller,
  QueueRunner,
} from '../../src/virtio/index.ts'
import * as reg from '../../src/virtio/mmio/registers.ts'
import { CountingInterrupt, codeThrownBy } from '../support.ts'
import { createGuest, DRIVER_OK, Guest, TestDevice, VERSION_1 } from './support.ts'

const BATCH = 8
const US = 0.001
/** What a driver takes that goes on soon. */
const SOON = 10 * US
/** The longest window, and the longest slice. */
const MAX_US = 50
const MAX = MAX_US * US

/** A clock that moves on by itself: who looks at it has taken time. */
class WorkingClock implements Clock {
  time = 1000
  /** The time that passes between two looks at it. */
  step: number = US / 2
  /** What other cores do meanwhile. */
  meanwhile: () => void = () => undefined

  now(): number {
    this.time += this.step
    this.meanwhile()
    return this.time
  }
}

/** A device with two queues that are run, and whose answers the test gives. */
class RunnerDevice extends TestDevice {
  readonly runners: QueueRunner[] = []
  readonly inFlight: { chain: DescriptorChain; queue: Virtqueue; runner: QueueRunner }[] = []
  served = 0
  looks = 0
  answer: (queue: number) => number = () => 0

  constructor() {
    super({ queueSizes: [16, 16] })
  }

  override attach(transport: VirtioTransport): void {
    super.attach(transport)
    const handler = {
      beginTurn: () => {
        this.looks += 1
      },
      serve: (chain: DescriptorChain, queue: Virtqueue, runner: QueueRunner): number => {
        this.served += 1
        const result = this.answer(runner.index)
        if (result === IN_FLIGHT) this.inFlight.push({ chain, queue, runner })
        return result
      },
    }
    for (const index of [0, 1]) this.runners.push(new QueueRunner(transport, index, handler, BATCH))
  }

  override notify(queue: number): void {
    this.runners[queue]?.run()
  }

  /** Ends what is in flight. */
  complete(count: number = this.inFlight.length): void {
    for (const { chain, queue, runner } of this.inFlight.splice(0, count)) {
      runner.complete(chain, queue, 0)
      runner.flush()
    }
  }
}

/** An event loop of one poller. */
class Loop {
  readonly clock = new WorkingClock()
  readonly pending: (() => void)[] = []
  readonly poller: QueuePoller

  constructor() {
    this.poller = new QueuePoller({ clock: this.clock, defer: (callback) => this.pending.push(callback) })
  }

  /** One turn, in which others take some time. */
  turn(others = 0): void {
    this.clock.time += others
    for (const callback of this.pending.splice(0)) callback()
  }

  /** Turns until nothing is left to do. */
  settle(): number {
    let turns = 0
    while (this.pending.length > 0) {
      this.turn()
      turns += 1
      if (turns > 10_000) throw new Error('it polls for ever')
    }
    return turns
  }
}

interface Setup {
  readonly loop: Loop
  readonly guest: Guest<RunnerDevice>
  readonly device: RunnerDevice
  readonly drivers: MockDriver[]
  /** Makes buffers available. @returns whether the device is to be notified */
  send(count?: number, queue?: number): boolean
  /** A driver that has gone on soon, again and again, and has been answered just now. */
  beQuick(queue?: number): void
}

function setUp(
  options: { packed?: boolean; eventIndex?: boolean; poll?: PollOptions; loop?: Loop } = {},
): Setup {
  const loop = options.loop ?? new Loop()
  const device = new RunnerDevice()
  const { packed = false, eventIndex = false, poll } = options
  const guest = new Guest(device, {
    features: { packed, eventIndex },
    poll: { maxMicroseconds: MAX_US, poller: loop.poller, ...poll },
    defer: (callback) => loop.pending.push(callback),
  })
  const drivers = guest.start()
  const send = (count = 1, queue = 0): boolean => {
    const driver = drivers[queue] as MockDriver
    for (let i = 0; i < count; i += 1) driver.add([{ address: 0x8_0000, length: 16, writable: true }])
    driver.publish()
    return driver.needsKick()
  }
  const beQuick = (queue = 0): void => {
    for (let i = 0; i < 3; i += 1) {
      loop.clock.time += SOON
      if (send(1, queue)) guest.notify(queue)
      drivers[queue]?.reapAll()
    }
  }
  return { loop, guest, device, drivers, send, beQuick }
}

describe.each([
  { ring: 'split', eventIndex: false },
  { ring: 'split', eventIndex: true },
  { ring: 'packed', eventIndex: false },
  { ring: 'packed', eventIndex: true },
])('polling of a $ring queue (event index $eventIndex)', ({ ring, eventIndex }) => {
  const make = (): Setup => setUp({ packed: ring === 'packed', eventIndex })

  it('begins when a driver has gone on soon, not the first time', () => {
    const { loop, guest, send } = make()
    for (const isPolled of [false, false, true]) {
      loop.clock.time += SOON
      expect(send()).toBe(true)
      guest.notify(0)
      expect(loop.poller.size).toBe(isPolled ? 1 : 0)
    }
    expect(send()).toBe(false)
  })

  it('finds what comes without a notification', () => {
    const { loop, device, drivers, send, beQuick } = make()
    beQuick()
    const before = device.served
    for (let i = 0; i < 5; i += 1) {
      expect(send()).toBe(false)
      loop.turn(MAX)
    }
    expect(device.served - before).toBe(5)
    expect(drivers[0]?.reapAll().length).toBe(5)
  })

  it('finds what comes while it looks, in the same turn', () => {
    const { loop, drivers, send, beQuick } = make()
    beQuick()
    const times = [1, 4, 7].map((us) => loop.clock.time + us * US)
    const kicks: boolean[] = []
    loop.clock.meanwhile = () => {
      if (loop.clock.time < (times[0] ?? Number.POSITIVE_INFINITY)) return
      times.shift()
      kicks.push(send())
    }
    loop.turn()
    expect(kicks).toEqual([false, false, false])
    expect(drivers[0]?.reapAll().length).toBe(3)
  })

  it('ends when nothing comes, and has the driver notify again', () => {
    const { loop, guest, device, send, beQuick } = make()
    beQuick()
    const before = loop.clock.time
    loop.settle()
    expect(loop.clock.time - before).toBeLessThan(2 * MAX)
    expect(loop.poller.size).toBe(0)
    const served = device.served
    expect(send()).toBe(true)
    guest.notify(0)
    expect(device.served).toBe(served + 1)
  })

  it('finds what came after its last look', () => {
    const { loop, device, drivers, send, beQuick } = make()
    beQuick()
    const queue = device.transport.queue(0) as Virtqueue
    const enable = queue.enableNotification.bind(queue)
    const kicks: boolean[] = []
    Object.assign(queue, {
      enableNotification: () => {
        // On another core, right before the driver could know.
        if (kicks.length === 0) kicks.push(send())
        return enable()
      },
    })
    loop.settle()
    expect(kicks).toEqual([false])
    expect(drivers[0]?.reapAll().length).toBe(1)
  })

  it.each(['device', 'queue'])('ends with a reset of the %s', (what) => {
    const { loop, guest, send, beQuick, drivers } = make()
    beQuick()
    send()
    if (what === 'device') guest.status = 0
    else {
      guest.select(0)
      guest.write(reg.VIRTIO_MMIO_QUEUE_RESET, 1)
    }
    loop.settle()
    expect(loop.poller.size).toBe(0)
    expect(drivers[0]?.reapAll()).toEqual([])
  })

  it('goes on with the queue after a reset in between', () => {
    const { loop, guest, drivers, send, beQuick } = make()
    beQuick()
    guest.status = 0
    drivers.splice(0, 2, ...guest.start(undefined, ring === 'packed' ? undefined : VERSION_1))
    if (send()) guest.notify(0)
    loop.settle()
    expect(drivers[0]?.reapAll().length).toBe(1)
    expect(send()).toBe(true)
  })

  it('ends with DEVICE_NEEDS_RESET', () => {
    const { loop, guest, device, drivers, send, beQuick } = make()
    beQuick()
    send()
    device.transport.fault({ code: 'ERR_TEST', needsReset: true, message: 'a test' }, 0)
    loop.settle()
    expect(guest.status).toBe(DRIVER_OK | NEEDS_RESET)
    expect([loop.poller.size, drivers[0]?.reapAll().length]).toEqual([0, 0])
  })

  it('ends with a malformed chain', () => {
    const { loop, guest, drivers, beQuick } = make()
    beQuick()
    drivers[0]?.add([
      { address: 0x8_0000, length: 16, writable: true },
      { address: 0x8_0000, length: 16 },
    ])
    drivers[0]?.publish()
    loop.settle()
    expect(guest.faults.map(({ code }) => code)).toEqual(['ERR_VIRTQ_DIRECTION'])
    expect([loop.poller.size, guest.status]).toEqual([0, DRIVER_OK | NEEDS_RESET])
  })

  it('ends with the transport', () => {
    const { loop, guest, drivers, send, beQuick } = make()
    beQuick()
    send()
    guest.transport.close()
    loop.settle()
    expect([loop.poller.size, drivers[0]?.reapAll().length]).toEqual([0, 0])
  })

  it('leaves a queue whose device has to wait', () => {
    const { loop, device, drivers, send, beQuick } = make()
    beQuick()
    device.answer = () => BUSY
    send()
    loop.settle()
    expect([loop.poller.size, drivers[0]?.reapAll().length]).toEqual([0, 0])
    device.answer = () => 0
    device.runners[0]?.run()
    loop.settle()
    expect(drivers[0]?.reapAll().length).toBe(1)
    expect(send()).toBe(true)
  })

  it('leaves what is too much to a turn of its own', () => {
    const { loop, device, drivers, send, beQuick } = make()
    beQuick()
    device.answer = () => (device.served % 3 === 0 ? LATER : 0)
    send(BATCH + 3)
    loop.settle()
    expect(drivers[0]?.reapAll().length).toBe(BATCH + 3)
    expect([loop.poller.size, send()]).toEqual([0, true])
  })

  it('takes a notification all the same', () => {
    const { loop, guest, drivers, send, beQuick } = make()
    beQuick()
    send()
    guest.notify(0)
    expect(drivers[0]?.reapAll().length).toBe(1)
    guest.notify(0)
    loop.settle()
    expect(send()).toBe(true)
  })

  it('begins again where work that was in flight has ended', () => {
    const { loop, guest, device, send } = make()
    device.answer = () => IN_FLIGHT
    for (const isPolled of [false, false, true]) {
      loop.clock.time += SOON
      expect(send()).toBe(true)
      guest.notify(0)
      expect(loop.poller.size).toBe(0)
      loop.clock.time += 10 * MAX
      device.complete()
      expect(loop.poller.size).toBe(isPolled ? 1 : 0)
    }
    expect(send()).toBe(false)
    loop.settle()
    expect(device.inFlight.length).toBe(1)
  })

  it('is over when the driver has followed up all its answers, and the work is in flight', () => {
    const { loop, device, drivers, send, beQuick } = make()
    beQuick()
    device.answer = () => IN_FLIGHT
    const state = (): number[] => [device.inFlight.length, loop.poller.size]
    send(2)
    loop.turn()
    expect(state()).toEqual([2, 0])
    device.complete()
    expect(state()).toEqual([0, 1])
    for (const [inFlight, isPolled] of [
      [1, 1],
      [2, 0],
    ]) {
      expect(send()).toBe(false)
      loop.turn()
      expect(state()).toEqual([inFlight, isPolled])
    }
    expect(drivers[0]?.reapAll().length).toBe(2)
    expect(send()).toBe(true)
  })
})

describe('the time that polling takes', () => {
  it('is none where drivers come late', () => {
    const { loop, guest, drivers, send } = setUp()
    for (let i = 0; i < 20; i += 1) {
      drivers[0]?.reapAll()
      loop.clock.time += 2 * MAX
      expect(send()).toBe(true)
      guest.notify(0)
      expect(loop.pending.length).toBe(0)
    }
  })

  it('is none again when a driver comes late once', () => {
    const { loop, guest, send, beQuick } = setUp()
    beQuick()
    loop.settle()
    loop.clock.time += 10 * MAX
    send()
    guest.notify(0)
    expect(loop.pending.length).toBe(0)
  })

  it('lets the event loop turn, however fast a driver is', () => {
    const { loop, device, drivers, send, beQuick } = setUp()
    beQuick()
    send()
    loop.clock.meanwhile = () => {
      if ((drivers[0]?.reapAll().length ?? 0) > 0) send()
    }
    let longest = 0
    for (let turns = 0; turns < 100; turns += 1) {
      const before = loop.clock.time
      loop.turn()
      longest = Math.max(longest, loop.clock.time - before)
    }
    expect(longest).toBeLessThan(MAX + 10 * US)
    expect(longest).toBeGreaterThan(MAX)
    expect([loop.poller.size, device.served > 1000]).toEqual([1, true])
  })

  it('is one look a turn while others have work', () => {
    const { loop, device, beQuick } = setUp()
    beQuick()
    // No end of the window interferes.
    loop.clock.step = 0
    for (let i = 0; i < 10; i += 1) {
      const before = device.looks
      device.runners[0]?.served(loop.clock.time)
      Object.assign(device.runners[0] as QueueRunner, { deadline: loop.clock.time + 1e6 })
      loop.turn(20 * US)
      expect(device.looks - before).toBe(1)
    }
    loop.clock.step = US / 2
    const before = device.looks
    loop.turn()
    expect(device.looks - before).toBeGreaterThan(10)
  })

  it('is one look a turn while something is in flight: the event loop has to tell its end', () => {
    const { loop, guest, device, send, beQuick } = setUp()
    beQuick()
    device.answer = () => IN_FLIGHT
    send(2)
    loop.turn()
    device.complete(1)
    expect([loop.poller.size, device.inFlight.length, guest.faults]).toEqual([1, 1, []])
    for (let i = 0; i < 5; i += 1) {
      const before = device.looks
      loop.turn()
      expect(device.looks - before).toBe(1)
    }
  })

  it('is a tenth of all where it is in vain, and whoever is not looked at notifies', () => {
    const { loop, guest, device, drivers, send, beQuick } = setUp()
    beQuick()
    loop.settle()
    const begin = loop.clock.time
    let vain = 0
    let refused = 0
    for (let i = 0; i < 2000; i += 1) {
      // Soon enough to be worth a look, and each time after the look has ended.
      Object.defineProperty(device.runners[0], 'window', { get: () => 20 * US, configurable: true })
      loop.clock.time += 5 * US
      expect(send()).toBe(true)
      guest.notify(0)
      if (loop.poller.size === 0) refused += 1
      const before = loop.clock.time
      loop.settle()
      vain += loop.clock.time - before
      drivers[0]?.reapAll()
    }
    const total = loop.clock.time - begin
    expect(refused).toBeGreaterThan(100)
    expect(vain).toBeLessThan(0.1 * total + 1 + MAX)
    expect(vain).toBeGreaterThan(0.05 * total)
  })

  it('is divided among queues and devices alike', () => {
    const loop = new Loop()
    const setups = [1, 2, 3].map(() => setUp({ loop }))
    for (const { beQuick } of setups) {
      beQuick(0)
      beQuick(1)
    }
    expect(loop.poller.size).toBe(6)
    const count = new Map<string, number>()
    for (const [i, { device, send }] of setups.entries()) {
      device.answer = (queue) => {
        count.set(`${i} ${queue}`, (count.get(`${i} ${queue}`) ?? 0) + 1)
        return 0
      }
      for (const queue of [0, 1]) send(1, queue)
    }
    loop.clock.meanwhile = () => {
      for (const { drivers, send } of setups) {
        for (const queue of [0, 1]) if ((drivers[queue]?.reapAll().length ?? 0) > 0) send(1, queue)
      }
    }
    for (let i = 0; i < 100; i += 1) loop.turn()
    const counts = [...count.values()]
    expect([counts.length, loop.poller.size]).toEqual([6, 6])
    expect(Math.min(...counts)).toBeGreaterThan(100)
    expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(2)
  })

  it('is none where polling is switched off', () => {
    const { loop, guest, drivers, send } = setUp({ poll: { maxMicroseconds: 0 } })
    for (let i = 0; i < 20; i += 1) {
      drivers[0]?.reapAll()
      expect(send()).toBe(true)
      guest.notify(0)
    }
    expect([loop.pending.length, loop.poller.size]).toEqual([0, 0])
  })
})

describe('the option', () => {
  it('is on by default where there is a CPU beside the one of this thread', () => {
    const device = new RunnerDevice()
    new MmioTransport({ device, memory: createGuest().memory, interrupt: new CountingInterrupt() })
    const { polling } = device.transport
    expect(polling?.maxMicroseconds).toBe(availableParallelism() > 1 ? MAX_US : undefined)
  })

  it.each([-1, Number.NaN, 10_001])('cannot be %d microseconds', (maxMicroseconds) => {
    expect(codeThrownBy(() => setUp({ poll: { maxMicroseconds } }))).toBe('ERR_DEVICE_OPTION')
  })
})

describe('whatever the order of events', () => {
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom('add', 'kick', 'turn', 'doorbell', 'soon') },
    { weight: 1, arbitrary: fc.constantFrom('late', 'others', 'complete', 'free', 'reap', 'flood') },
    { weight: 1, arbitrary: fc.constantFrom('reset', 'queue reset', 'needs reset') },
  )

  it.each([
    { packed: false, eventIndex: false },
    { packed: false, eventIndex: true },
    { packed: true, eventIndex: false },
    { packed: true, eventIndex: true },
  ])('no buffer is left (packed $packed, event index $eventIndex)', ({ packed, eventIndex }) => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(step, fc.nat(1)), { maxLength: 120 }),
        fc.array(fc.constantFrom(0, 0, 0, 0, IN_FLIGHT, BUSY, LATER), { minLength: 1, maxLength: 20 }),
        (steps, answers) => {
          const { loop, guest, device, drivers } = setUp({ packed, eventIndex })
          const high = packed
            ? (VERSION_1 | featureBit(VIRTIO_F_RING_PACKED) | featureBit(40)) >>> 0
            : (VERSION_1 | featureBit(40)) >>> 0
          let owed = [0, 0]
          let rung = [false, false]
          /** Whether a driver has published something and has not yet looked whether to notify. */
          let published = [false, false]
          device.answer = () => answers[device.served % answers.length] as number
          const begin = (): void => {
            drivers.splice(0, 2, ...guest.start(undefined, high))
            owed = [0, 0]
            rung = [false, false]
            published = [false, false]
          }
          const add = (queue: number): void => {
            const driver = drivers[queue] as MockDriver
            if (driver.add([{ address: 0x8_0000, length: 16, writable: true }]) === undefined) return
            driver.publish()
            owed[queue] = (owed[queue] ?? 0) + 1
            published[queue] = true
          }
          const kick = (queue: number): void => {
            if (published[queue] === true && drivers[queue]?.needsKick() === true) rung[queue] = true
            published[queue] = false
          }
          const reap = (queue: number): void => {
            owed[queue] = (owed[queue] ?? 0) - (drivers[queue]?.reapAll().length ?? 0)
          }
          const doorbell = (queue: number): void => {
            if (rung[queue] !== true) return
            rung[queue] = false
            guest.notify(queue)
          }
          /** What the host does sooner or later for a device that has to wait. */
          const free = (): void => {
            for (const runner of device.runners) runner.run()
          }
          for (const [what, queue] of steps) {
            if (what === 'add') add(queue)
            else if (what === 'kick') kick(queue)
            else if (what === 'turn') loop.turn()
            else if (what === 'others') loop.turn(0.1)
            else if (what === 'doorbell') doorbell(queue)
            else if (what === 'soon') loop.clock.time += 5 * US
            else if (what === 'late') loop.clock.time += 1
            else if (what === 'complete') device.complete(1)
            else if (what === 'free') free()
            else if (what === 'reap') reap(queue)
            else if (what === 'flood') for (let i = 0; i < 16; i += 1) add(queue)
            else if (what === 'reset') begin()
            else if (what === 'needs reset') {
              device.transport.fault({ code: 'ERR_TEST', needsReset: true, message: 'a test' }, queue)
              loop.turn()
              begin()
            } else {
              guest.select(queue)
              guest.write(reg.VIRTIO_MMIO_QUEUE_RESET, 1)
              drivers[queue] = guest.driverOf(queue)
              guest.enable(queue, drivers[queue] as MockDriver)
              owed[queue] = 0
              rung[queue] = false
              published[queue] = false
            }
          }
          // Everybody does what was left to do.
          device.answer = () => 0
          for (const queue of [0, 1]) kick(queue)
          for (const queue of [0, 1]) doorbell(queue)
          const isWaiting = answers.includes(BUSY)
          device.complete()
          if (isWaiting) free()
          loop.settle()
          for (const queue of [0, 1]) reap(queue)
          expect(owed).toEqual([0, 0])
          expect(loop.poller.size).toBe(0)
          for (const queue of [0, 1]) {
            add(queue)
            kick(queue)
          }
          expect(rung).toEqual([true, true])
        },
      ),
      { numRuns: 500 },
    )
  })
})
