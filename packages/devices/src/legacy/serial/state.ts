/** The saved state of a 16550A, and what must hold of one that comes from a file. */
import { StateChecker } from '../../state.ts'
import { BUFFER_SIZE, FIFO_SIZE } from './receive-fifo.ts'
import * as reg from './registers.ts'

/** What {@link Serial.state} returns: plain data that survives JSON. */
export interface SerialState {
  readonly version: 1
  /** IER. */
  readonly interruptEnable: number
  /** FCR as it was last written, without the bits that clear themselves; 0 with the FIFOs off. */
  readonly fifoControl: number
  /** LCR. */
  readonly lineControl: number
  /** MCR. */
  readonly modemControl: number
  /** SCR. */
  readonly scratch: number
  /** DLM and DLL. */
  readonly divisor: number
  /** A received byte was lost since LSR was last read. */
  readonly overrun: boolean
  /** The transmitter has become empty since IIR last said so. */
  readonly transmitPending: boolean
  /** The modem lines from the cable, as bits 4 to 7 of MSR. */
  readonly modemInputs: number
  /** Bits 0 to 3 of MSR. */
  readonly modemDeltas: number
  /** Received bytes that the guest has not read, oldest first: at most 16, with the FIFOs off 1. */
  readonly received: readonly number[]
  /** For each of them 0, or LSR's break bit. */
  readonly receivedErrors: readonly number[]
}

const FIFO_CONTROL_MASK = reg.FCR_ENABLE_BIT | reg.FCR_DMA_MODE_BIT | reg.FCR_TRIGGER_MASK

/** Throws `ERR_DEVICE_STATE` unless `state` is one that a 16550A can be in. */
export function checkSerialState(state: SerialState): void {
  const check = new StateChecker('16550A', state)
  check.version(1)
  check.bits('interruptEnable', reg.IER_MASK)
  const fifoControl = check.bits('fifoControl', FIFO_CONTROL_MASK)
  const fifosEnabled = (fifoControl & reg.FCR_ENABLE_BIT) !== 0
  if (!fifosEnabled && fifoControl !== 0) check.refuse('fifoControl', '0 with the FIFOs off')
  check.bits('lineControl', 0xff)
  check.bits('modemControl', reg.MCR_MASK)
  check.bits('scratch', 0xff)
  check.bits('divisor', 0xffff)
  check.boolean('overrun')
  check.boolean('transmitPending')
  check.bits('modemInputs', reg.MSR_LINES_MASK)
  check.bits('modemDeltas', 0b1111)
  const received = check.bitsArray('received', 0, fifosEnabled ? FIFO_SIZE : BUFFER_SIZE, 0xff)
  check.bitsArray('receivedErrors', received.length, received.length, reg.LSR_BI_BIT)
}
