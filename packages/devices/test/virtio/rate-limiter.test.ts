import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { RateLane, RateLimiterOptions } from '../../src/virtio/index.ts'
import { RateLimiter } from '../../src/virtio/index.ts'
import { codeThrownBy, ManualTime } from '../support.ts'

const START = 5_000.25

function setUp(options: RateLimiterOptions) {
  const time = new ManualTime(START)
  const limiter = new RateLimiter({ ...options, clock: time, timers: time })
  return { time, limiter }
}

/** A stream of packets behind a limiter: what passed, and when. */
class Stream {
  readonly passed: { at: number; bytes: number }[] = []
  readonly #time: ManualTime
  readonly #lane: RateLane
  readonly packets: number[] = []
  wakeups = 0

  constructor(limiter: RateLimiter, time: ManualTime) {
    this.#time = time
    this.#lane = limiter.lane(() => {
      this.wakeups += 1
      this.pump()
    })
  }

  send(...packets: number[]): void {
    this.packets.push(...packets)
    this.pump()
  }

  pump(): void {
    for (;;) {
      const [bytes] = this.packets
      if (bytes === undefined || !this.#lane.take(bytes)) return
      this.packets.shift()
      this.passed.push({ at: this.#time.now() - START, bytes })
    }
  }

  drop(): void {
    this.packets.length = 0
    this.#lane.cancel()
  }

  get bytes(): number {
    return this.passed.reduce((sum, { bytes }) => sum + bytes, 0)
  }
}

describe('a rate limiter', () => {
  it('passes everything without limits, and sets no timer', () => {
    const { time, limiter } = setUp({})
    const stream = new Stream(limiter, time)
    stream.send(1e9, 1e9)
    expect([limiter.isLimited, stream.bytes, time.pendingCount]).toEqual([false, 2e9, 0])
  })

  it('passes a burst at once, and the rest as the tokens come', () => {
    const { time, limiter } = setUp({ bytes: { perSecond: 1000, burst: 300 } })
    const stream = new Stream(limiter, time)
    stream.send(100, 100, 100, 100, 100)
    expect(stream.bytes).toBe(300)
    time.advance(99)
    expect(stream.bytes).toBe(300)
    time.advance(1)
    expect(stream.bytes).toBe(400)
    time.advance(100)
    expect([stream.bytes, stream.wakeups, time.pendingCount]).toEqual([500, 2, 0])
  })

  it('counts operations beside bytes, and waits for both', () => {
    const { time, limiter } = setUp({
      bytes: { perSecond: 1000, burst: 1000 },
      operations: { perSecond: 10, burst: 2 },
    })
    const stream = new Stream(limiter, time)
    stream.send(1, 1, 1, 997, 1000)
    expect(stream.passed.length).toBe(2)
    time.advance(100)
    expect(stream.passed.length).toBe(3)
    time.advance(100)
    expect(stream.passed.length).toBe(4)
    time.advance(799)
    expect(stream.passed.length).toBe(4)
    time.advance(1000)
    expect(stream.passed.length).toBe(5)
  })

  it('has a burst of a tenth of a second, or of one, by default', () => {
    const { time, limiter } = setUp({ bytes: { perSecond: 1000 }, operations: { perSecond: 5 } })
    expect(limiter.state().bytes?.tokens).toBe(100)
    expect(limiter.state().operations?.tokens).toBe(1)
    time.advance(10_000)
    expect(limiter.state().bytes?.tokens).toBe(100)
  })

  it('passes what is larger than the bucket when that is full, and has those after it wait for the debt', () => {
    const { time, limiter } = setUp({ bytes: { perSecond: 1000, burst: 100 } })
    const stream = new Stream(limiter, time)
    stream.send(1, 1100, 1)
    expect(stream.bytes).toBe(1)
    time.advance(1)
    expect(stream.bytes).toBe(1101)
    expect(limiter.state().bytes?.tokens).toBe(-1000)
    time.advance(1000)
    expect(stream.bytes).toBe(1101)
    time.advance(1)
    expect(stream.bytes).toBe(1102)
  })

  it('spends the one-time burst first, and only once', () => {
    const { time, limiter } = setUp({ bytes: { perSecond: 1000, burst: 100, oneTimeBurst: 5000 } })
    const stream = new Stream(limiter, time)
    stream.send(4950, 100, 51)
    expect(stream.bytes).toBe(5050)
    expect(limiter.state().bytes).toEqual({ tokens: 50, oneTimeBurst: 0 })
    time.advance(1)
    expect(stream.bytes).toBe(5101)
    time.advance(60_000)
    expect(limiter.state().bytes).toEqual({ tokens: 100, oneTimeBurst: 0 })
  })

  it('loses no fraction of a token, however often it is asked', () => {
    const { time, limiter } = setUp({ bytes: { perSecond: 1, burst: 1e6 } })
    const stream = new Stream(limiter, time)
    stream.send(1e6, 1)
    for (let i = 0; i < 10_000; i += 1) {
      time.set(START + i / 10)
      stream.pump()
      expect(stream.passed.length).toBe(1)
    }
    time.set(START + 1000)
    stream.pump()
    expect(stream.passed.length).toBe(2)
  })

  it('goes on when the clock is set back', () => {
    const { time, limiter } = setUp({ bytes: { perSecond: 1000, burst: 100 } })
    const stream = new Stream(limiter, time)
    stream.send(100, 100)
    time.set(START - 1e6)
    stream.pump()
    expect(stream.passed.length).toBe(1)
    time.set(START - 1e6 + 100)
    stream.pump()
    expect(stream.passed.length).toBe(2)
  })

  it('has one timer, however many wait', () => {
    const { time, limiter } = setUp({ bytes: { perSecond: 1000, burst: 100 } })
    const streams = [1, 2, 3].map(() => new Stream(limiter, time))
    for (const stream of streams) stream.send(100, 100)
    for (const stream of streams) stream.pump()
    expect(time.pendingCount).toBe(1)
    time.advance(500)
    expect(streams.map(({ bytes }) => bytes)).toEqual([200, 200, 200])
    expect(time.pendingCount).toBe(0)
  })

  it('lets nobody overtake: small packets keep no tokens from a large one', () => {
    const { time, limiter } = setUp({ bytes: { perSecond: 1000, burst: 100 } })
    const large = new Stream(limiter, time)
    const small = new Stream(limiter, time)
    small.send(100)
    large.send(100)
    for (let i = 0; i < 100; i += 1) {
      small.send(1)
      time.advance(1)
    }
    expect([large.bytes, small.bytes]).toEqual([100, 100])
    time.advance(100)
    expect([large.bytes, small.bytes]).toEqual([100, 200])
  })

  it('divides what there is among those who wait', () => {
    const { time, limiter } = setUp({ bytes: { perSecond: 1000, burst: 100 } })
    const streams = [1, 2, 3].map(() => new Stream(limiter, time))
    for (const stream of streams) stream.send(...Array.from({ length: 1000 }, () => 10))
    time.advance(9000)
    const [first = 0, second = 0, third = 0] = streams.map(({ bytes }) => bytes)
    expect(first + second + third).toBe(9100)
    expect(Math.max(first, second, third) - Math.min(first, second, third)).toBeLessThanOrEqual(110)
  })

  it('forgets who has nothing to send any more', () => {
    const { time, limiter } = setUp({ bytes: { perSecond: 1000, burst: 100 } })
    const [gone, other] = [new Stream(limiter, time), new Stream(limiter, time)]
    other.send(100)
    gone.send(100)
    other.send(10)
    gone.drop()
    time.advance(10)
    expect([gone.wakeups, other.bytes]).toEqual([0, 110])
    other.send(100)
    other.drop()
    other.drop()
    expect(time.pendingCount).toBe(0)
  })

  it('lets what costs nothing pass those who wait', () => {
    const { time, limiter } = setUp({ bytes: { perSecond: 1000, burst: 100 } })
    const [waiting, flushing] = [new Stream(limiter, time), new Stream(limiter, time)]
    waiting.send(100, 100)
    flushing.send(0, 0)
    expect(flushing.passed.length).toBe(2)
  })

  it('waits longer than a timer can', () => {
    const { time, limiter } = setUp({ operations: { perSecond: 0.001, burst: 200 } })
    const stream = new Stream(limiter, time)
    stream.send(...Array.from({ length: 201 }, () => 0))
    const lane = limiter.lane(() => undefined)
    expect(lane.take(0, 200)).toBe(false)
    expect(stream.passed.length).toBe(200)
    time.advance(999_999)
    expect(stream.passed.length).toBe(200)
    time.advance(1)
    expect(stream.passed.length).toBe(201)
    const day = 86_400_000
    const asked: number[] = []
    const spy = new RateLimiter({
      operations: { perSecond: 0.001, burst: 200 },
      clock: time,
      timers: {
        after: (delay) => {
          asked.push(delay)
          return { cancel: () => undefined }
        },
      },
    })
    const far = spy.lane(() => undefined)
    expect([far.take(0, 200), far.take(0, 200), asked]).toEqual([true, false, [day]])
  })

  it('takes no limit that is none', () => {
    const bad = [0, -1, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 51]
    for (const perSecond of bad) {
      expect(codeThrownBy(() => new RateLimiter({ bytes: { perSecond } }))).toBe('ERR_DEVICE_OPTION')
      expect(codeThrownBy(() => new RateLimiter({ operations: { perSecond: 1, burst: perSecond } }))).toBe(
        'ERR_DEVICE_OPTION',
      )
    }
    expect(codeThrownBy(() => new RateLimiter({ bytes: { perSecond: 1, oneTimeBurst: -1 } }))).toBe(
      'ERR_DEVICE_OPTION',
    )
  })
})

describe('other limits at run time', () => {
  it('hold for those who wait, at once', () => {
    const { time, limiter } = setUp({ bytes: { perSecond: 1, burst: 100 } })
    const stream = new Stream(limiter, time)
    stream.send(100, 50, 50)
    limiter.update({ bytes: { perSecond: 1000, burst: 100 } })
    expect(stream.bytes).toBe(100)
    time.advance(50)
    expect(stream.bytes).toBe(150)
    limiter.update({})
    expect([stream.bytes, time.pendingCount]).toEqual([200, 0])
  })

  it('leave the tokens that are there, as far as they fit', () => {
    const { time, limiter } = setUp({ bytes: { perSecond: 1000, burst: 1000 } })
    new Stream(limiter, time).send(400)
    limiter.update({ bytes: { perSecond: 10, burst: 2000 }, operations: { perSecond: 10, burst: 7 } })
    expect(limiter.state()).toMatchObject({ bytes: { tokens: 600 }, operations: { tokens: 7 } })
    limiter.update({ bytes: { perSecond: 10, burst: 50, oneTimeBurst: 9 } })
    expect(limiter.state()).toEqual({ version: 1, bytes: { tokens: 50, oneTimeBurst: 9 }, operations: null })
  })

  it.each([
    { perSecond: 1, waits: 1000 },
    { perSecond: 10_000, waits: 100 },
  ])('let a debt of 1000 at 1000 a second take $waits ms at $perSecond', ({ perSecond, waits }) => {
    const { time, limiter } = setUp({ bytes: { perSecond: 1000, burst: 1000 } })
    const stream = new Stream(limiter, time)
    stream.send(2000)
    limiter.update({ bytes: { perSecond, burst: 1000 } })
    const token = 1000 / perSecond
    stream.send(1)
    time.advance(Math.floor(waits + token) - 1)
    expect(stream.passed.length).toBe(1)
    time.advance(2)
    expect(stream.passed.length).toBe(2)
  })

  it('change nothing where one is refused', () => {
    const { limiter } = setUp({ bytes: { perSecond: 1000 } })
    const before = limiter.state()
    const refused = { bytes: { perSecond: 5 }, operations: { perSecond: 0 } }
    expect(codeThrownBy(() => limiter.update(refused))).toBe('ERR_DEVICE_OPTION')
    expect(limiter.state()).toEqual(before)
  })
})

describe('a saved rate limiter', () => {
  const limits = { bytes: { perSecond: 1000, burst: 100, oneTimeBurst: 50 }, operations: { perSecond: 10 } }

  it('comes back with what was left, and gives no burst twice', () => {
    const { time, limiter } = setUp(limits)
    new Stream(limiter, time).send(120)
    const state = JSON.parse(JSON.stringify(limiter.state()))
    expect(state).toEqual({
      version: 1,
      bytes: { tokens: 30, oneTimeBurst: 0 },
      operations: { tokens: 0, oneTimeBurst: 0 },
    })
    const copy = setUp(limits)
    copy.limiter.restore(state)
    expect(copy.limiter.state()).toEqual(state)
  })

  it('fits other limits', () => {
    const { limiter } = setUp({ bytes: { perSecond: 1000, burst: 10 } })
    limiter.restore({
      version: 1,
      bytes: { tokens: 1e9, oneTimeBurst: 0 },
      operations: { tokens: 5, oneTimeBurst: 0 },
    })
    expect(limiter.state()).toEqual({ version: 1, bytes: { tokens: 10, oneTimeBurst: 0 }, operations: null })
  })

  it.each([
    undefined,
    null,
    7,
    {},
    { version: 2, bytes: null, operations: null },
    { version: 1, bytes: null },
    { version: 1, bytes: 'many', operations: null },
    { version: 1, bytes: { tokens: Number.NaN, oneTimeBurst: 0 }, operations: null },
    { version: 1, bytes: { tokens: 0.5, oneTimeBurst: 0 }, operations: null },
    { version: 1, bytes: { tokens: 2 ** 51, oneTimeBurst: 0 }, operations: null },
    { version: 1, bytes: null, operations: { tokens: 0, oneTimeBurst: -1 } },
  ])('is refused as %j', (state) => {
    const { limiter } = setUp(limits)
    const before = limiter.state()
    expect(codeThrownBy(() => limiter.restore(state))).toBe('ERR_DEVICE_STATE')
    expect(limiter.state()).toEqual(before)
  })
})

describe('over any schedule', () => {
  const schedule = fc.record({
    perSecond: fc.integer({ min: 10, max: 100_000 }),
    burst: fc.integer({ min: 1, max: 10_000 }),
    streams: fc.integer({ min: 1, max: 3 }),
    steps: fc.array(
      fc.record({
        wait: fc.oneof(fc.constant(0), fc.nat(50), fc.nat(2000)),
        late: fc.nat(3),
        stream: fc.nat(2),
        packets: fc.array(fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 20_000 })), {
          maxLength: 5,
        }),
      }),
      { maxLength: 40, minLength: 1 },
    ),
  })

  it('no more passes than the rate, the time and the burst allow, and while somebody waits no less', () => {
    fc.assert(
      fc.property(schedule, ({ perSecond, burst, streams: count, steps }) => {
        const { time, limiter } = setUp({ bytes: { perSecond, burst } })
        const streams = Array.from({ length: count }, () => new Stream(limiter, time))
        let largest = 0
        /** Since when somebody has been waiting, and what had passed by then. */
        let waiting: { since: number; bytes: number; tokens: number } | undefined
        const total = (): number => streams.reduce((sum, { bytes }) => sum + bytes, 0)
        const look = (): void => {
          const isWaiting = streams.some(({ packets }) => packets.length > 0)
          if (!isWaiting) waiting = undefined
          else waiting ??= { since: time.now(), bytes: total(), tokens: limiter.state().bytes?.tokens ?? 0 }
        }
        for (const { wait, late, stream, packets } of steps) {
          largest = Math.max(largest, ...packets)
          streams[stream % count]?.send(...packets)
          look()
          // The timer comes when it will, as Node's do: late.
          if (late > 0) time.set(time.now() + late)
          time.advance(wait)
          if (waiting !== undefined && streams.some(({ packets }) => packets.length > 0)) {
            const came = ((time.now() - waiting.since) * perSecond) / 1000
            // A late timer may find the bucket full: that much is lost at most, for each that was late.
            const lost = steps.length * 4 * (perSecond / 1000)
            const least = waiting.tokens + came - Math.min(burst, largest) - lost - 1
            expect(total() - waiting.bytes).toBeGreaterThanOrEqual(least)
          }
          look()
        }
        const passed = streams.flatMap((one) => one.passed).sort((a, b) => a.at - b.at)
        for (let from = 0; from < passed.length; from += 1) {
          let sum = 0
          for (let to = from; to < passed.length; to += 1) {
            const [first, last] = [passed[from], passed[to]]
            if (first === undefined || last === undefined) throw new Error('no packet')
            sum += last.bytes
            const most = ((last.at - first.at) * perSecond) / 1000 + Math.max(burst, largest)
            expect(sum).toBeLessThanOrEqual(most + 1e-3)
          }
        }
        // Nothing is lost: given time, all of it passes, and nobody is left to wait.
        time.advance(1e9)
        expect(streams.flatMap((one) => one.packets)).toEqual([])
        expect(time.pendingCount).toBe(0)
      }),
      { numRuns: 300 },
    )
  })
})
