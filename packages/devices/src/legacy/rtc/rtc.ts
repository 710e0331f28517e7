/**
 * A PC's real-time clock and its 128 bytes of CMOS memory: Motorola MC146818A, as Linux's
 * drivers/rtc/rtc-cmos.c and rtc-mc146818-lib.c drive it. The time is the host's, plus what the guest has set
 * it off by.
 *
 * Alarm, update and periodic interrupts are there; how often the periodic one comes is up to the host's
 * timers, which is at most 1,000 times a second with Node's. Not modelled: the phase within a second that a
 * reset of the divider sets, the square wave, daylight saving, the NMI mask of the index port.
 */
import type { BusDevice } from '../../bus/device.ts'
import { DevicesError } from '../../error.ts'
import {
  type Clock,
  type Interrupt,
  NODE_TIMERS,
  type PendingCall,
  type Timers,
  WALL_CLOCK,
} from '../../host.ts'
import {
  isTimeRegister,
  nextAlarm,
  periodMs,
  TIME_REGISTERS,
  timeFromRegisters,
  timeRegister,
} from './calendar.ts'
import * as reg from './registers.ts'
import { CMOS_SIZE, type CmosRtcState, checkCmosRtcState } from './state.ts'

/** Index port of the clock; the data port is the next one. */
export const CMOS_BASE = 0x70
/** Ports that the clock takes. */
export const CMOS_PORTS = 2
/** Interrupt line of the clock. */
export const RTC_IRQ = 8

const KIB = 1024
const MIB = 1024 * KIB

/** Guest memory, for the CMOS bytes that old guests read it from; both in bytes. */
export interface CmosMemory {
  /** From 0 up to 4 GiB, counting the hole below 1 MiB as memory. */
  readonly below4GiB: number
  /** From 4 GiB on; 0 unless given. */
  readonly above4GiB?: number | undefined
}

/** Options of {@link CmosRtc}. */
export interface CmosRtcOptions {
  /** Milliseconds since 1970-01-01 UTC; the host's wall clock unless given. */
  readonly clock?: Clock | undefined
  /** The interrupt line. Without it no timer is ever set, and flags can be polled. */
  readonly interrupt?: Interrupt | undefined
  /** What wakes the clock for an interrupt; Node's timers unless given. */
  readonly timers?: Timers | undefined
  /** What the CMOS memory says of the guest's; all 0 unless given. */
  readonly memory?: CmosMemory | undefined
}

/**
 * A PC's real-time clock.
 *
 * @example
 * ```ts
 * const rtc = new CmosRtc({ interrupt: irq8, memory: { below4GiB: 256 * 2 ** 20 } })
 * pio.register({ base: CMOS_BASE, size: CMOS_PORTS, device: rtc, name: 'rtc' })
 * ```
 */
export class CmosRtc implements BusDevice {
  readonly accessBytes = 1
  readonly #clock: Clock
  readonly #interrupt: Interrupt | undefined
  readonly #timers: Timers
  readonly #date = new Date(0)
  /** CMOS memory. Of the time registers it holds the time only while updates are stopped (SET). */
  readonly #ram = new DataView(new ArrayBuffer(CMOS_SIZE))
  #index = 0
  /** Guest time minus host time. */
  #offsetMs = 0
  /** Flags of register C that have not been read. */
  #flags = 0
  /** The guest time up to which flags have been collected. */
  #collectedMs = 0
  #asserted = false
  #wakeUp: PendingCall | undefined = undefined

  /**
   * @throws {@link DevicesError} `ERR_DEVICE_OPTION` when a memory size is no whole number from 0 to 2 ** 40
   */
  constructor(options: CmosRtcOptions = {}) {
    this.#clock = options.clock ?? WALL_CLOCK
    this.#interrupt = options.interrupt
    this.#timers = options.timers ?? NODE_TIMERS
    this.#ram.setUint8(reg.RTC_REGISTER_A, reg.RTC_A_DEFAULT)
    this.#ram.setUint8(reg.RTC_REGISTER_B, reg.RTC_B_24_HOURS_BIT)
    if (options.memory !== undefined) this.#describeMemory(options.memory)
    this.#collectedMs = this.#now()
  }

  /**
   * A clock as {@link CmosRtc.state} described it, on the time of `options.clock`. An alarm that was due while the VM
   * was away is due now. `options.memory` is ignored: the saved bytes say it.
   *
   * @throws {@link DevicesError} `ERR_DEVICE_STATE` when no clock can be in this state
   */
  static fromState(state: CmosRtcState, options: CmosRtcOptions = {}): CmosRtc {
    checkCmosRtcState(state)
    const rtc = new CmosRtc({ ...options, memory: undefined })
    for (const [i, byte] of state.memory.entries()) rtc.#ram.setUint8(i, byte)
    rtc.#index = state.index
    rtc.#offsetMs = state.offsetMs
    rtc.#flags = state.flags
    rtc.#collectedMs = state.collectedMs
    rtc.#update()
    return rtc
  }

  /** Everything that a driver could tell, as plain data. */
  state(): CmosRtcState {
    return {
      version: 1,
      index: this.#index,
      offsetMs: this.#offsetMs,
      flags: this.#flags,
      collectedMs: this.#collectedMs,
      memory: Array.from({ length: CMOS_SIZE }, (_, i) => this.#ram.getUint8(i)),
    }
  }

  /** Cancels the timer. The clock still answers, but interrupts no more. Idempotent. */
  close(): void {
    this.#wakeUp?.cancel()
    this.#wakeUp = undefined
  }

  [Symbol.dispose](): void {
    this.close()
  }

  read(offset: number): number {
    if (offset === reg.CMOS_DATA_OFFSET) return this.#readRegister(this.#index)
    // The index port is write-only: nothing drives the bus.
    return offset === reg.CMOS_INDEX_OFFSET ? 0xff : 0
  }

  write(offset: number, value: number): void {
    if (offset === reg.CMOS_INDEX_OFFSET) this.#index = value & reg.CMOS_INDEX_MASK
    else if (offset === reg.CMOS_DATA_OFFSET) this.#writeRegister(this.#index, value & 0xff)
  }

  #readRegister(register: number): number {
    switch (register) {
      case reg.RTC_REGISTER_C:
        return this.#readFlags()
      case reg.RTC_REGISTER_D:
        return reg.RTC_D_VALID_BIT
      default:
        if (!isTimeRegister(register) || this.#isStopped()) return this.#ram.getUint8(register)
        this.#date.setTime(this.#now())
        return timeRegister(register, this.#date, this.#registerB())
    }
  }

  #writeRegister(register: number, value: number): void {
    switch (register) {
      case reg.RTC_REGISTER_A:
        this.#collect()
        // An update takes no time here, so a guest never waits for one: polling the bit out costs tens of
        // thousands of exits on a KVM that interprets kernel code.
        this.#ram.setUint8(register, value & ~reg.RTC_A_UPDATE_IN_PROGRESS_BIT)
        break
      case reg.RTC_REGISTER_B:
        this.#writeRegisterB(value)
        break
      case reg.RTC_REGISTER_C:
      case reg.RTC_REGISTER_D:
        return
      default:
        if (isTimeRegister(register)) this.#writeTimeRegister(register, value)
        else {
          this.#collect()
          this.#ram.setUint8(register, value)
        }
    }
    if (register <= reg.RTC_REGISTER_B) this.#update()
  }

  #writeTimeRegister(register: number, value: number): void {
    const stopped = this.#isStopped()
    if (!stopped) this.#latchTime(this.#registerB())
    this.#ram.setUint8(register, value)
    if (!stopped) this.#setTime()
  }

  #writeRegisterB(value: number): void {
    this.#collect()
    const wasStopped = this.#isStopped()
    const stops = (value & reg.RTC_B_SET_BIT) !== 0
    // Stopping and changing format at once: the registers show the time in the new format.
    if (stops && !wasStopped) this.#latchTime(value)
    this.#ram.setUint8(reg.RTC_REGISTER_B, value)
    if (!stops && wasStopped) this.#setTime()
  }

  /** Puts the present time into the time registers. */
  #latchTime(registerB: number): void {
    this.#collect()
    this.#date.setTime(this.#now())
    for (const register of TIME_REGISTERS) {
      this.#ram.setUint8(register, timeRegister(register, this.#date, registerB))
    }
  }

  /** Goes on from the time in the time registers. */
  #setTime(): void {
    const time = timeFromRegisters((register) => this.#ram.getUint8(register), this.#registerB())
    this.#offsetMs += time - this.#now()
    this.#collectedMs = time
  }

  #readFlags(): number {
    this.#collect()
    const flags = this.#flags
    const interrupt = (flags & this.#registerB()) !== 0 ? reg.RTC_C_INTERRUPT_BIT : 0
    this.#flags = 0
    this.#update()
    return flags | interrupt
  }

  /** Sets the flags of what has happened since the last time. */
  #collect(): void {
    const now = this.#now()
    const since = this.#collectedMs
    this.#collectedMs = now
    if (this.#nextPeriod(since) <= now) this.#flags |= reg.RTC_B_PERIODIC_INTERRUPT_BIT
    if (this.#isStopped()) return
    if (nextUpdate(since) <= now) this.#flags |= reg.RTC_B_UPDATE_INTERRUPT_BIT
    if (this.#nextAlarm(since) <= now) this.#flags |= reg.RTC_B_ALARM_INTERRUPT_BIT
  }

  /** Makes an edge if an enabled flag has come up, else sees to it that the next one is noticed. */
  #update(): void {
    this.#collect()
    const before = this.#asserted
    this.#asserted = (this.#flags & this.#registerB() & reg.RTC_C_FLAGS_MASK) !== 0
    if (this.#interrupt === undefined) return
    this.close()
    if (!this.#asserted) this.#scheduleWakeUp()
    else if (!before) this.#interrupt.trigger()
    // While asserted there can be no edge until the guest has read the flags: no timer, however fast the
    // period.
  }

  #scheduleWakeUp(): void {
    const now = this.#collectedMs
    const enabled = this.#registerB()
    let next = Number.POSITIVE_INFINITY
    if ((enabled & reg.RTC_B_PERIODIC_INTERRUPT_BIT) !== 0) next = this.#nextPeriod(now)
    if (!this.#isStopped()) {
      if ((enabled & reg.RTC_B_UPDATE_INTERRUPT_BIT) !== 0) next = Math.min(next, nextUpdate(now))
      if ((enabled & reg.RTC_B_ALARM_INTERRUPT_BIT) !== 0) next = Math.min(next, this.#nextAlarm(now))
    }
    if (next === Number.POSITIVE_INFINITY) return
    // A timer may come early, or the host's clock be set: then this ends up here once more.
    const delayMs = Math.min(Math.max(1, Math.ceil(next - now)), DAY_MS)
    this.#wakeUp = this.#timers.after(delayMs, this.#onWakeUp)
  }

  readonly #onWakeUp = (): void => {
    this.#wakeUp = undefined
    this.#update()
  }

  #nextPeriod(afterMs: number): number {
    const period = periodMs(this.#ram.getUint8(reg.RTC_REGISTER_A))
    return (Math.floor(afterMs / period) + 1) * period
  }

  #nextAlarm(afterMs: number): number {
    const alarm = {
      hours: this.#ram.getUint8(reg.RTC_HOURS_ALARM),
      minutes: this.#ram.getUint8(reg.RTC_MINUTES_ALARM),
      seconds: this.#ram.getUint8(reg.RTC_SECONDS_ALARM),
    }
    return nextAlarm(alarm, this.#registerB(), afterMs)
  }

  #now(): number {
    return Math.floor(this.#clock.now()) + this.#offsetMs
  }

  #registerB(): number {
    return this.#ram.getUint8(reg.RTC_REGISTER_B)
  }

  #isStopped(): boolean {
    return (this.#registerB() & reg.RTC_B_SET_BIT) !== 0
  }

  #describeMemory(memory: CmosMemory): void {
    const below = checkMemory('below4GiB', memory.below4GiB)
    const above = checkMemory('above4GiB', memory.above4GiB ?? 0)
    const word = (register: number, value: number): void =>
      this.#ram.setUint16(register, Math.min(Math.max(0, Math.floor(value)), 0xffff), true)
    word(reg.CMOS_BASE_MEMORY, Math.min(below / KIB, 640))
    word(reg.CMOS_EXTENDED_MEMORY, (below - MIB) / KIB)
    word(reg.CMOS_EXTENDED_MEMORY_MEASURED, (below - MIB) / KIB)
    word(reg.CMOS_MEMORY_ABOVE_16_MIB, (below - 16 * MIB) / (64 * KIB))
    const chunks = Math.floor(above / (64 * KIB))
    this.#ram.setUint16(reg.CMOS_MEMORY_ABOVE_4_GIB, chunks & 0xffff, true)
    this.#ram.setUint8(reg.CMOS_MEMORY_ABOVE_4_GIB + 2, chunks >>> 16)
  }
}

const DAY_MS = 86_400_000
/** What three bytes of 64 KiB can say. */
const MAX_MEMORY = 2 ** 40

function nextUpdate(afterMs: number): number {
  return (Math.floor(afterMs / 1000) + 1) * 1000
}

function checkMemory(name: string, sizeBytes: number): number {
  if (Number.isSafeInteger(sizeBytes) && sizeBytes >= 0 && sizeBytes < MAX_MEMORY) return sizeBytes
  const message = `memory.${name} must be a whole number of bytes below ${MAX_MEMORY}, got ${sizeBytes}`
  throw new DevicesError('ERR_DEVICE_OPTION', message)
}
