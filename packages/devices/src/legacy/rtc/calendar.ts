/** The time registers' formats, and when an alarm is due. Pure functions; no clock is read here. */
import * as reg from './registers.ts'

/** A number as a time register holds it. */
export function encode(value: number, registerB: number): number {
  if ((registerB & reg.RTC_B_BINARY_BIT) !== 0) return value & 0xff
  return ((Math.floor(value / 10) << 4) | (value % 10)) & 0xff
}

/** A time register as a number. A digit above 9 counts as it stands: nothing is refused. */
export function decode(byte: number, registerB: number): number {
  return (registerB & reg.RTC_B_BINARY_BIT) !== 0 ? byte : (byte >> 4) * 10 + (byte & 0xf)
}

const PM_BIT = 0b1000_0000

/** Hours 0 to 23 as the hour registers hold them. */
export function encodeHours(hours: number, registerB: number): number {
  if ((registerB & reg.RTC_B_24_HOURS_BIT) !== 0) return encode(hours, registerB)
  return encode(hours % 12 === 0 ? 12 : hours % 12, registerB) | (hours >= 12 ? PM_BIT : 0)
}

/** An hour register as hours, 0 to 23 if the guest wrote a valid one. */
export function decodeHours(byte: number, registerB: number): number {
  if ((registerB & reg.RTC_B_24_HOURS_BIT) !== 0) return decode(byte, registerB)
  return (decode(byte & ~PM_BIT, registerB) % 12) + ((byte & PM_BIT) !== 0 ? 12 : 0)
}

/** The value of a time register at a date. `register` is one for which {@link isTimeRegister} holds. */
export function timeRegister(register: number, date: Date, registerB: number): number {
  switch (register) {
    case reg.RTC_SECONDS:
      return encode(date.getUTCSeconds(), registerB)
    case reg.RTC_MINUTES:
      return encode(date.getUTCMinutes(), registerB)
    case reg.RTC_HOURS:
      return encodeHours(date.getUTCHours(), registerB)
    case reg.RTC_DAY_OF_WEEK:
      return date.getUTCDay() + 1
    case reg.RTC_DAY_OF_MONTH:
      return encode(date.getUTCDate(), registerB)
    case reg.RTC_MONTH:
      return encode(date.getUTCMonth() + 1, registerB)
    case reg.RTC_YEAR:
      return encode(date.getUTCFullYear() % 100, registerB)
    default:
      return encode(Math.floor(date.getUTCFullYear() / 100), registerB)
  }
}

/** The registers that hold the time. */
export const TIME_REGISTERS: readonly number[] = [
  reg.RTC_SECONDS,
  reg.RTC_MINUTES,
  reg.RTC_HOURS,
  reg.RTC_DAY_OF_WEEK,
  reg.RTC_DAY_OF_MONTH,
  reg.RTC_MONTH,
  reg.RTC_YEAR,
  reg.RTC_CENTURY,
]

/** Whether a register holds part of the time. */
export function isTimeRegister(register: number): boolean {
  return TIME_REGISTERS.includes(register)
}

/**
 * The time that time registers hold, in milliseconds since 1970. What is no date is carried over, as February
 * 30 to March, so that every set of bytes is a time. The day of the week follows from the date.
 */
export function timeFromRegisters(read: (register: number) => number, registerB: number): number {
  const number = (register: number): number => decode(read(register), registerB)
  const date = new Date(0)
  // Date.UTC would take the years 0 to 99 for 1900 to 1999.
  date.setUTCFullYear(
    number(reg.RTC_CENTURY) * 100 + number(reg.RTC_YEAR),
    number(reg.RTC_MONTH) - 1,
    number(reg.RTC_DAY_OF_MONTH),
  )
  const hours = decodeHours(read(reg.RTC_HOURS), registerB)
  return date.setUTCHours(hours, number(reg.RTC_MINUTES), number(reg.RTC_SECONDS))
}

const DAY_SECONDS = 86_400

/** The alarm registers' bytes. */
export interface Alarm {
  readonly hours: number
  readonly minutes: number
  readonly seconds: number
}

/**
 * The first time after `afterMs` at which the clock shows what the alarm registers say, in milliseconds since
 * 1970; Infinity when it never does. At most a day and a second away.
 */
export function nextAlarm(alarm: Alarm, registerB: number, afterMs: number): number {
  const any = reg.RTC_ALARM_ANY
  const hours = alarm.hours >= any ? -1 : decodeHours(alarm.hours, registerB)
  const minutes = alarm.minutes >= any ? -1 : decode(alarm.minutes, registerB)
  const seconds = alarm.seconds >= any ? -1 : decode(alarm.seconds, registerB)
  if (hours > 23 || minutes > 59 || seconds > 59) return Number.POSITIVE_INFINITY
  // From the beginning of a day, since before 1970 time is negative, and what is left of it by `%`, too.
  const first = Math.floor(afterMs / 1000) + 1
  const day = Math.floor(first / DAY_SECONDS) * DAY_SECONDS
  // Steps to the next hour, minute or second until all three fit: some 200 steps at most.
  let time = first - day
  for (;;) {
    if (hours >= 0 && Math.floor(time / 3600) % 24 !== hours) time = (Math.floor(time / 3600) + 1) * 3600
    else if (minutes >= 0 && Math.floor(time / 60) % 60 !== minutes) time = (Math.floor(time / 60) + 1) * 60
    else if (seconds >= 0 && time % 60 !== seconds) time += 1
    else return (day + time) * 1000
  }
}

/**
 * The period of the periodic interrupt in milliseconds, for the 32,768 Hz divider; Infinity when it is off.
 */
export function periodMs(registerA: number): number {
  const rate = registerA & reg.RTC_A_RATE_MASK
  if (rate === 0) return Number.POSITIVE_INFINITY
  // The two lowest rates are those of 8 and 9.
  return (1000 * 2 ** ((rate < 3 ? rate + 7 : rate) - 1)) / 32768
}
