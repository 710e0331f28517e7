import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { DevicesError } from '../../src/error.ts'
import { nextAlarm, periodMs } from '../../src/legacy/rtc/calendar.ts'
import {
  CMOS_BASE_MEMORY,
  CMOS_DATA_OFFSET,
  CMOS_EXTENDED_MEMORY,
  CMOS_EXTENDED_MEMORY_MEASURED,
  CMOS_INDEX_OFFSET,
  CMOS_MEMORY_ABOVE_4_GIB,
  CMOS_MEMORY_ABOVE_16_MIB,
  CMOS_SHUTDOWN,
  RTC_A_DEFAULT,
  RTC_A_UPDATE_IN_PROGRESS_BIT,
  RTC_ALARM_ANY,
  RTC_B_24_HOURS_BIT,
  RTC_B_ALARM_INTERRUPT_BIT,
  RTC_B_BINARY_BIT,
  RTC_B_PERIODIC_INTERRUPT_BIT,
  RTC_B_SET_BIT,
  RTC_B_UPDATE_INTERRUPT_BIT,
  RTC_C_INTERRUPT_BIT,
  RTC_CENTURY,
  RTC_D_VALID_BIT,
  RTC_DAY_OF_MONTH,
  RTC_DAY_OF_WEEK,
  RTC_HOURS,
  RTC_HOURS_ALARM,
  RTC_MINUTES,
  RTC_MINUTES_ALARM,
  RTC_MONTH,
  RTC_REGISTER_A,
  RTC_REGISTER_B,
  RTC_REGISTER_C,
  RTC_REGISTER_D,
  RTC_SECONDS,
  RTC_SECONDS_ALARM,
  RTC_YEAR,
} from '../../src/legacy/rtc/registers.ts'
import { CmosRtc, type CmosRtcOptions } from '../../src/legacy/rtc/rtc.ts'
import { CMOS_SIZE, type CmosRtcState } from '../../src/legacy/rtc/state.ts'
import { CountingInterrupt, codeThrownBy, ManualTime } from '../support.ts'

/** A Saturday. */
const START = Date.UTC(2026, 10, 21, 23, 58, 59, 500)
const SECOND = 1000
const HOUR = 3600 * SECOND
const DAY = 24 * HOUR
/** The first moment that the clock's registers can say. */
const YEAR_0 = new Date(0).setUTCFullYear(0, 0, 1)

function createRtc(options: CmosRtcOptions = {}) {
  const time = new ManualTime(START)
  const interrupt = new CountingInterrupt()
  const rtc = new CmosRtc({ clock: time, timers: time, interrupt, ...options })
  return { rtc, time, interrupt }
}

function read(rtc: CmosRtc, register: number): number {
  rtc.write(CMOS_INDEX_OFFSET, register)
  return rtc.read(CMOS_DATA_OFFSET)
}

function write(rtc: CmosRtc, register: number, value: number): void {
  rtc.write(CMOS_INDEX_OFFSET, register)
  rtc.write(CMOS_DATA_OFFSET, value)
}

const TIME = [RTC_CENTURY, RTC_YEAR, RTC_MONTH, RTC_DAY_OF_MONTH, RTC_HOURS, RTC_MINUTES, RTC_SECONDS]
const readTime = (rtc: CmosRtc): number[] => TIME.map((register) => read(rtc, register))

/** Sets the time as Linux's mc146818_set_time does. */
function setTime(rtc: CmosRtc, values: readonly number[]): void {
  const control = read(rtc, RTC_REGISTER_B)
  write(rtc, RTC_REGISTER_B, control | RTC_B_SET_BIT)
  for (const [i, register] of TIME.entries()) write(rtc, register, values[i] ?? 0)
  write(rtc, RTC_REGISTER_B, control)
}

describe('time', () => {
  it('is the host clock in BCD and 24 hours at first', () => {
    const { rtc, time } = createRtc()
    expect(readTime(rtc)).toEqual([0x20, 0x26, 0x11, 0x21, 0x23, 0x58, 0x59])
    expect(read(rtc, RTC_DAY_OF_WEEK)).toBe(7)
    time.advance(61 * SECOND)
    expect(readTime(rtc)).toEqual([0x20, 0x26, 0x11, 0x22, 0x00, 0x00, 0x00])
    expect(read(rtc, RTC_DAY_OF_WEEK)).toBe(1)
  })

  it('is the real time unless a clock is given', () => {
    const rtc = new CmosRtc()
    write(rtc, RTC_REGISTER_B, RTC_B_24_HOURS_BIT | RTC_B_BINARY_BIT)
    const before = new Date().getUTCFullYear()
    const year = read(rtc, RTC_CENTURY) * 100 + read(rtc, RTC_YEAR)
    expect(year).toBeGreaterThanOrEqual(before)
    expect(year).toBeLessThanOrEqual(new Date().getUTCFullYear())
  })

  it('is binary when register B says so', () => {
    const { rtc } = createRtc()
    write(rtc, RTC_REGISTER_B, RTC_B_24_HOURS_BIT | RTC_B_BINARY_BIT)
    expect(readTime(rtc)).toEqual([20, 26, 11, 21, 23, 58, 59])
  })

  it.each([
    [0, 0x12],
    [1, 0x01],
    [11, 0x11],
    [12, 0x92],
    [13, 0x81],
    [23, 0x91],
  ])('shows %i hours as 0x%s with a 12-hour clock, and takes it so', (hours, register) => {
    const { rtc, time } = createRtc()
    write(rtc, RTC_REGISTER_B, 0)
    time.set(Date.UTC(2026, 0, 1, hours))
    expect(read(rtc, RTC_HOURS)).toBe(register)
    setTime(rtc, [0x20, 0x26, 0x01, 0x01, register, 0, 0])
    write(rtc, RTC_REGISTER_B, RTC_B_24_HOURS_BIT | RTC_B_BINARY_BIT)
    expect(read(rtc, RTC_HOURS)).toBe(hours)
  })

  it('is set by the guest, and goes on from there', () => {
    const { rtc, time } = createRtc()
    setTime(rtc, [0x19, 0x99, 0x12, 0x31, 0x23, 0x59, 0x59])
    expect(readTime(rtc)).toEqual([0x19, 0x99, 0x12, 0x31, 0x23, 0x59, 0x59])
    time.advance(SECOND)
    expect(readTime(rtc)).toEqual([0x20, 0x00, 0x01, 0x01, 0x00, 0x00, 0x00])
    expect(read(rtc, RTC_DAY_OF_WEEK)).toBe(7)
  })

  it('stands still while register B stops it', () => {
    const { rtc, time } = createRtc()
    write(rtc, RTC_REGISTER_B, RTC_B_24_HOURS_BIT | RTC_B_SET_BIT)
    time.advance(DAY)
    expect(readTime(rtc)).toEqual([0x20, 0x26, 0x11, 0x21, 0x23, 0x58, 0x59])
    write(rtc, RTC_REGISTER_B, RTC_B_24_HOURS_BIT)
    expect(readTime(rtc)).toEqual([0x20, 0x26, 0x11, 0x21, 0x23, 0x58, 0x59])
  })

  it('takes a single register written while it runs', () => {
    const { rtc } = createRtc()
    write(rtc, RTC_HOURS, 0x07)
    expect(readTime(rtc)).toEqual([0x20, 0x26, 0x11, 0x21, 0x07, 0x58, 0x59])
  })

  it('carries over what is no date', () => {
    const { rtc } = createRtc()
    setTime(rtc, [0x20, 0x26, 0x02, 0x30, 0x25, 0x00, 0x61])
    expect(readTime(rtc)).toEqual([0x20, 0x26, 0x03, 0x03, 0x01, 0x01, 0x01])
  })

  it('any date survives being set and read, in each format', () => {
    const date = fc.date({ min: new Date('0001-01-01'), max: new Date('9999-12-31'), noInvalidDate: true })
    fc.assert(
      fc.property(date, fc.constantFrom(0, 2, 4, 6), (target, format) => {
        const { rtc: reference, time } = createRtc()
        time.set(Math.floor(target.getTime() / SECOND) * SECOND)
        write(reference, RTC_REGISTER_B, format)
        const { rtc } = createRtc()
        write(rtc, RTC_REGISTER_B, format)
        setTime(rtc, readTime(reference))
        expect(readTime(rtc)).toEqual(readTime(reference))
        expect(read(rtc, RTC_DAY_OF_WEEK)).toBe(read(reference, RTC_DAY_OF_WEEK))
      }),
    )
  })
})

describe('registers', () => {
  it('never show an update in progress, whatever is written', () => {
    const { rtc, time } = createRtc()
    expect(read(rtc, RTC_REGISTER_A)).toBe(RTC_A_DEFAULT)
    write(rtc, RTC_REGISTER_A, 0xff)
    for (let i = 0; i < 100; i++) {
      time.advance(10)
      expect(read(rtc, RTC_REGISTER_A) & RTC_A_UPDATE_IN_PROGRESS_BIT).toBe(0)
    }
  })

  it('C and D are read-only, and D says that the time is valid', () => {
    const { rtc } = createRtc()
    write(rtc, RTC_REGISTER_C, 0xff)
    write(rtc, RTC_REGISTER_D, 0)
    expect(read(rtc, RTC_REGISTER_C)).toBe(0)
    expect(read(rtc, RTC_REGISTER_D)).toBe(RTC_D_VALID_BIT)
  })

  it('are chosen by seven bits of a port that cannot be read', () => {
    const { rtc } = createRtc()
    rtc.write(CMOS_INDEX_OFFSET, 0x80 | RTC_REGISTER_D)
    expect(rtc.read(CMOS_DATA_OFFSET)).toBe(RTC_D_VALID_BIT)
    expect(rtc.read(CMOS_INDEX_OFFSET)).toBe(0xff)
    expect(rtc.read(2)).toBe(0)
  })

  it('beyond the clock are memory', () => {
    const { rtc } = createRtc()
    for (let register = 0x0e; register < CMOS_SIZE; register++) {
      if (register !== RTC_CENTURY) write(rtc, register, register ^ 0xff)
    }
    for (let register = 0x0e; register < CMOS_SIZE; register++) {
      if (register !== RTC_CENTURY) expect(read(rtc, register)).toBe(register ^ 0xff)
    }
    write(rtc, CMOS_SHUTDOWN, 0x0a)
    expect(read(rtc, CMOS_SHUTDOWN)).toBe(0x0a)
  })
})

describe('memory sizes', () => {
  const MIB = 2 ** 20
  const GIB = 2 ** 30

  function sizes(below4GiB: number, above4GiB?: number): number[] {
    const { rtc } = createRtc({ memory: { below4GiB, above4GiB } })
    const word = (register: number): number => read(rtc, register) + read(rtc, register + 1) * 0x100
    return [
      word(CMOS_BASE_MEMORY),
      word(CMOS_EXTENDED_MEMORY),
      word(CMOS_EXTENDED_MEMORY_MEASURED),
      word(CMOS_MEMORY_ABOVE_16_MIB),
      word(CMOS_MEMORY_ABOVE_4_GIB) + read(rtc, CMOS_MEMORY_ABOVE_4_GIB + 2) * 0x10000,
    ]
  }

  it('tell the guest what it has, as far as their bits go', () => {
    expect(sizes(0)).toEqual([0, 0, 0, 0, 0])
    expect(sizes(MIB)).toEqual([640, 0, 0, 0, 0])
    expect(sizes(48 * MIB)).toEqual([640, 47 * 1024, 47 * 1024, 32 * 16, 0])
    expect(sizes(3 * GIB, GIB)).toEqual([640, 0xffff, 0xffff, (3 * 1024 - 16) * 16, 0x4000])
    expect(sizes(4 * GIB, 2 ** 39)).toEqual([640, 0xffff, 0xffff, 4080 * 16, 2 ** 23])
  })

  it.each([-1, 1.5, Number.NaN, 2 ** 40])('refuse %d bytes', (size) => {
    expect(codeThrownBy(() => createRtc({ memory: { below4GiB: size } }))).toBe('ERR_DEVICE_OPTION')
    expect(() => createRtc({ memory: { below4GiB: 0, above4GiB: size } })).toThrowError(DevicesError)
  })
})

describe('interrupts', () => {
  const ENABLE = RTC_B_24_HOURS_BIT

  it('come once for each alarm, until its flag is read', () => {
    const { rtc, time, interrupt } = createRtc()
    write(rtc, RTC_HOURS_ALARM, 0x00)
    write(rtc, RTC_MINUTES_ALARM, 0x01)
    write(rtc, RTC_SECONDS_ALARM, 0x02)
    write(rtc, RTC_REGISTER_B, ENABLE | RTC_B_ALARM_INTERRUPT_BIT)
    time.advance(122 * SECOND)
    expect(interrupt.take()).toBe(0)
    time.advance(SECOND)
    expect(interrupt.take()).toBe(1)
    time.advance(2 * DAY)
    expect(interrupt.take()).toBe(0)
    expect(read(rtc, RTC_REGISTER_C) & (RTC_C_INTERRUPT_BIT | RTC_B_ALARM_INTERRUPT_BIT)).toBe(
      RTC_C_INTERRUPT_BIT | RTC_B_ALARM_INTERRUPT_BIT,
    )
    expect(read(rtc, RTC_REGISTER_C)).toBe(0)
    time.advance(DAY)
    expect(interrupt.take()).toBe(1)
  })

  it('come for an alarm that is set after it was enabled', () => {
    const { rtc, time, interrupt } = createRtc()
    write(rtc, RTC_REGISTER_B, ENABLE | RTC_B_ALARM_INTERRUPT_BIT)
    for (const register of [RTC_HOURS_ALARM, RTC_MINUTES_ALARM, RTC_SECONDS_ALARM]) {
      write(rtc, register, RTC_ALARM_ANY)
    }
    time.advance(SECOND)
    expect(interrupt.take()).toBe(1)
  })

  it('do not come for an alarm that setting the time jumps over', () => {
    const { rtc, interrupt } = createRtc()
    write(rtc, RTC_HOURS_ALARM, 0x12)
    write(rtc, RTC_REGISTER_B, ENABLE | RTC_B_ALARM_INTERRUPT_BIT)
    setTime(rtc, [0x20, 0x26, 0x11, 0x22, 0x15, 0x00, 0x00])
    expect(interrupt.take()).toBe(0)
    expect(read(rtc, RTC_REGISTER_C)).toBe(0)
  })

  it('come every second for updates, if each is acknowledged', () => {
    const { rtc, time, interrupt } = createRtc()
    write(rtc, RTC_REGISTER_B, ENABLE | RTC_B_UPDATE_INTERRUPT_BIT)
    time.advance(499)
    expect(interrupt.take()).toBe(0)
    for (let i = 0; i < 3; i++) {
      time.advance(1)
      expect(interrupt.take()).toBe(1)
      expect(read(rtc, RTC_REGISTER_C) & RTC_B_UPDATE_INTERRUPT_BIT).not.toBe(0)
      time.advance(999)
      expect(interrupt.take()).toBe(0)
    }
  })

  it('come at the periodic rate, with no timer running while one is not acknowledged', () => {
    const { rtc, time, interrupt } = createRtc()
    write(rtc, RTC_REGISTER_A, 0b0010_1111)
    write(rtc, RTC_REGISTER_B, ENABLE | RTC_B_PERIODIC_INTERRUPT_BIT)
    expect(time.pendingCount).toBe(1)
    time.advance(500)
    expect(interrupt.take()).toBe(1)
    expect(time.pendingCount).toBe(0)
    time.advance(10 * SECOND)
    expect(interrupt.take()).toBe(0)
    read(rtc, RTC_REGISTER_C)
    time.advance(500)
    expect(interrupt.take()).toBe(1)
  })

  it('are made at once when a flag that is already up gets enabled', () => {
    const { rtc, time, interrupt } = createRtc()
    time.advance(SECOND)
    write(rtc, RTC_REGISTER_B, ENABLE | RTC_B_UPDATE_INTERRUPT_BIT)
    expect(interrupt.take()).toBe(1)
  })

  it('do not come while updates are stopped, when disabled, nor after close', () => {
    const { rtc, time, interrupt } = createRtc()
    write(rtc, RTC_REGISTER_B, ENABLE | RTC_B_UPDATE_INTERRUPT_BIT | RTC_B_SET_BIT)
    expect(time.pendingCount).toBe(0)
    time.advance(10 * SECOND)
    expect(read(rtc, RTC_REGISTER_C) & RTC_B_UPDATE_INTERRUPT_BIT).toBe(0)
    write(rtc, RTC_REGISTER_B, ENABLE | RTC_B_UPDATE_INTERRUPT_BIT)
    write(rtc, RTC_REGISTER_B, ENABLE)
    expect(time.pendingCount).toBe(0)
    write(rtc, RTC_REGISTER_B, ENABLE | RTC_B_UPDATE_INTERRUPT_BIT)
    rtc.close()
    rtc[Symbol.dispose]()
    time.advance(10 * SECOND)
    expect(interrupt.count).toBe(0)
  })

  it('survive a host clock that is set back', () => {
    const { rtc, time, interrupt } = createRtc()
    write(rtc, RTC_REGISTER_B, ENABLE | RTC_B_UPDATE_INTERRUPT_BIT)
    time.set(START - DAY)
    time.advance(DAY + SECOND)
    expect(interrupt.take()).toBe(1)
  })

  it('are flags to be polled without a line, and set no timer', () => {
    const { rtc, time } = createRtc({ interrupt: undefined })
    write(rtc, RTC_REGISTER_B, ENABLE | RTC_B_UPDATE_INTERRUPT_BIT)
    expect(time.pendingCount).toBe(0)
    time.advance(SECOND)
    expect(read(rtc, RTC_REGISTER_C) & RTC_B_UPDATE_INTERRUPT_BIT).not.toBe(0)
    expect(read(rtc, RTC_REGISTER_C)).toBe(0)
  })

  it("come by Node's timers and the wall clock unless others are given", async () => {
    await new Promise<void>((resolve) => {
      const rtc = new CmosRtc({
        interrupt: {
          trigger() {
            rtc.close()
            resolve()
          },
        },
      })
      write(rtc, RTC_REGISTER_B, ENABLE | RTC_B_PERIODIC_INTERRUPT_BIT)
    })
  })

  it('keep at most one timer, however often the guest writes', () => {
    const { rtc, time } = createRtc()
    for (let i = 0; i < 1000; i++) write(rtc, RTC_REGISTER_B, 0x70 | (i & 0x0f))
    expect(time.pendingCount).toBeLessThanOrEqual(1)
  })
})

describe('alarm and period', () => {
  it('nextAlarm finds what trying every second finds', () => {
    const field = (most: number): fc.Arbitrary<number> =>
      fc.oneof(fc.integer({ min: 0, max: most }), fc.constantFrom(RTC_ALARM_ANY, 0xff))
    const binary = RTC_B_24_HOURS_BIT | RTC_B_BINARY_BIT
    fc.assert(
      fc.property(
        field(23),
        field(59),
        field(59),
        fc.integer({ min: 0, max: DAY - 1 }),
        // A guest may set any year that the registers can say: time before 1970 is negative.
        fc.constantFrom(START, Date.UTC(1900, 0, 1), Date.UTC(1969, 11, 31), YEAR_0),
        (hours, minutes, seconds, phase, start) => {
          const matches = (pattern: number, value: number): boolean =>
            pattern >= RTC_ALARM_ANY || pattern === value
          const after = start + phase
          let expected = Math.floor(after / SECOND) * SECOND
          let date: Date
          do {
            expected += SECOND
            date = new Date(expected)
          } while (
            !matches(hours, date.getUTCHours()) ||
            !matches(minutes, date.getUTCMinutes()) ||
            !matches(seconds, date.getUTCSeconds())
          )
          expect(nextAlarm({ hours, minutes, seconds }, binary, after)).toBe(expected)
        },
      ),
      { numRuns: 30 },
    )
  })

  it.each([
    [24, 0, 0],
    [0, 60, 0],
    [0, 0, 60],
  ])('an alarm at %i:%i:%i never comes', (hours, minutes, seconds) => {
    const binary = RTC_B_24_HOURS_BIT | RTC_B_BINARY_BIT
    expect(nextAlarm({ hours, minutes, seconds }, binary, START)).toBe(Number.POSITIVE_INFINITY)
  })

  it.each([
    [0, Number.POSITIVE_INFINITY],
    [1, 1000 / 256],
    [2, 1000 / 128],
    [3, 1000 / 8192],
    [6, 1000 / 1024],
    [15, 500],
  ])('rate %i is a period of %d ms', (rate, period) => {
    expect(periodMs(0b0010_0000 | rate)).toBe(period)
  })
})

describe('a saved clock', () => {
  function busyRtc() {
    const parts = createRtc({ memory: { below4GiB: 2 ** 26 } })
    setTime(parts.rtc, [0x20, 0x30, 0x01, 0x02, 0x03, 0x04, 0x05])
    write(parts.rtc, RTC_HOURS_ALARM, 0x04)
    write(parts.rtc, RTC_MINUTES_ALARM, 0x00)
    write(parts.rtc, RTC_SECONDS_ALARM, 0x00)
    write(parts.rtc, CMOS_SHUTDOWN, 0x55)
    write(parts.rtc, RTC_REGISTER_B, RTC_B_24_HOURS_BIT | RTC_B_ALARM_INTERRUPT_BIT)
    return parts
  }

  it('goes on as the one that was saved', () => {
    const { rtc, time } = busyRtc()
    const state = JSON.parse(JSON.stringify(rtc.state())) as CmosRtcState
    const restored = CmosRtc.fromState(state, {
      clock: time,
      timers: time,
      interrupt: new CountingInterrupt(),
    })
    expect(restored.state()).toEqual(rtc.state())
    for (let register = 0; register < CMOS_SIZE; register++) {
      expect(read(restored, register)).toBe(read(rtc, register))
    }
  })

  it('is interrupted by an alarm that passed while it was away', () => {
    const { rtc } = busyRtc()
    const state = rtc.state()
    const later = new ManualTime(START + 2 * HOUR)
    const interrupt = new CountingInterrupt()
    const restored = CmosRtc.fromState(state, { clock: later, timers: later, interrupt })
    expect(interrupt.count).toBe(1)
    expect(read(restored, RTC_HOURS)).toBe(0x05)
  })

  it('stays stopped', () => {
    const { rtc, time } = createRtc()
    write(rtc, RTC_REGISTER_B, RTC_B_24_HOURS_BIT | RTC_B_SET_BIT)
    write(rtc, RTC_YEAR, 0x42)
    const restored = CmosRtc.fromState(rtc.state(), { clock: time, timers: time })
    write(restored, RTC_REGISTER_B, RTC_B_24_HOURS_BIT)
    expect(read(restored, RTC_YEAR)).toBe(0x42)
  })

  it.each([
    [{ version: 2 }],
    [{ index: 0x80 }],
    [{ offsetMs: Number.MAX_SAFE_INTEGER }],
    [{ offsetMs: 0.5 }],
    [{ flags: 0x80 }],
    [{ collectedMs: null }],
    [{ memory: [] }],
    [{ memory: Array(CMOS_SIZE).fill(256) }],
    [{ memory: Array(CMOS_SIZE).fill(0xff) }],
  ])('is refused with %j', (change) => {
    const state = { ...busyRtc().rtc.state(), ...change } as CmosRtcState
    expect(codeThrownBy(() => CmosRtc.fromState(state))).toBe('ERR_DEVICE_STATE')
  })
})
