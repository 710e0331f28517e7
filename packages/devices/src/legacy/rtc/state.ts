/** The saved state of a real-time clock, and what must hold of one that comes from a file. */
import { StateChecker } from '../../state.ts'
import * as reg from './registers.ts'

/** Bytes of CMOS memory, clock registers included. */
export const CMOS_SIZE = 128

/** What {@link CmosRtc.state} returns: plain data that survives JSON. */
export interface CmosRtcState {
  readonly version: 1
  /** The register that the data port accesses, 0 to 127. */
  readonly index: number
  /** What the guest's clock is ahead of the host's, in milliseconds. */
  readonly offsetMs: number
  /** Flags of register C that the guest has not read: bits 4 to 6. */
  readonly flags: number
  /** The guest's time up to which they are complete, in milliseconds since 1970. */
  readonly collectedMs: number
  /** The 128 bytes. Time registers count only while register B stops updates; C and D are not used. */
  readonly memory: readonly number[]
}

/** Beyond every time that the registers can say, year 16,599, and well inside what a `Date` holds. */
const MAX_TIME_MS = 10 ** 15

/** Throws `ERR_DEVICE_STATE` unless `state` is one that the clock can be in. */
export function checkCmosRtcState(state: CmosRtcState): void {
  const check = new StateChecker('RTC', state)
  check.version(1)
  check.bits('index', reg.CMOS_INDEX_MASK)
  check.integer('offsetMs', -MAX_TIME_MS, MAX_TIME_MS)
  check.bits('flags', reg.RTC_C_FLAGS_MASK)
  check.integer('collectedMs', -MAX_TIME_MS, MAX_TIME_MS)
  const memory = check.bitsArray('memory', CMOS_SIZE, CMOS_SIZE, 0xff)
  if (((memory[reg.RTC_REGISTER_A] ?? 0) & reg.RTC_A_UPDATE_IN_PROGRESS_BIT) !== 0) {
    check.refuse('memory[10]', 'a byte without bit 7', memory[reg.RTC_REGISTER_A])
  }
}
