/**
 * A 16550A UART: TI PC16550D datasheet (SNLS378), as Linux's drivers/tty/serial/8250 drives it. Complete but
 * for what has no meaning without a wire: baud rate, parity and word length are stored and change nothing, a
 * byte takes no time, and the DMA pins are not there.
 *
 * Interrupts are levels inside: a source is pending, IER enables it. The line out is edge-triggered, as an
 * ISA interrupt is, so an edge is made whenever a source begins to assert, on every arrival of data, and on
 * every write of IER that leaves something asserted. An edge too many makes a driver read IIR once more; one
 * too few loses input for good, as when a driver turns interrupts off to print and on again.
 *
 * OUT2, which connects the interrupt on a PC's board, is not part of the chip, and does not gate it here:
 * neither do other virtual machines, and guests that know no real hardware forget to set it.
 */

import type { BusDevice } from '../../bus/device.ts'
import { type Interrupt, NO_INTERRUPT } from '../../host.ts'
import { type FlushScheduler, OutputBatch, type SerialOutput } from './output.ts'
import { BUFFER_SIZE, FIFO_SIZE, ReceiveFifo } from './receive-fifo.ts'
import * as reg from './registers.ts'
import { checkSerialState, type SerialState } from './state.ts'

/** First port of the first serial port of a PC; its interrupt is ISA line {@link COM1_IRQ}. */
export const COM1_BASE = 0x3f8
/** Interrupt line of the first serial port of a PC. */
export const COM1_IRQ = 4
/** First port of the second serial port of a PC; its interrupt is ISA line {@link COM2_IRQ}. */
export const COM2_BASE = 0x2f8
/** Interrupt line of the second serial port of a PC. */
export const COM2_IRQ = 3
/** Ports that a UART takes. */
export const SERIAL_SIZE = 8

/** What a UART reports, each optional. They are called inside the guest's access and must not throw. */
export interface SerialEvents {
  /** The guest took a received byte. */
  byteReceived?(): void
  /** The guest transmitted a byte. */
  byteSent?(): void
  /** The output threw `cause` instead of taking `count` bytes. */
  outputLost?(count: number, cause: unknown): void
  /** A byte came back in loopback and found the FIFO full. Bytes from the host wait instead. */
  overrun?(): void
}

/** Options of {@link Serial}. */
export interface SerialOptions {
  /** The interrupt line; none unless given, for polled consoles. */
  readonly interrupt?: Interrupt | undefined
  /** Where transmitted bytes go; nowhere unless given. */
  readonly output?: SerialOutput | undefined
  /**
   * When collected output is passed on. `queueMicrotask` unless given: everything that one exit, string
   * instruction or coalesced ring transmits makes one chunk. A vCPU loop that never returns to the event loop
   * needs `(flush) => flush()`, or has to call {@link Serial.flush}.
   */
  readonly scheduleFlush?: FlushScheduler | undefined
  /**
   * `'rts'` lets bytes in only while the guest asserts RTS, which Linux does from the opening of the terminal
   * on: input that is there before a driver is, and input beyond what the guest can buffer (`stty crtscts`),
   * then waits on the host. `'none'` unless given, for guests that never touch MCR.
   */
  readonly flowControl?: 'none' | 'rts' | undefined
  /** Told of bytes and of losses; default nobody. */
  readonly events?: SerialEvents | undefined
}

// Sources of interrupts, as their bits in IER.
const { IER_RDA_BIT, IER_THRE_BIT, IER_RLS_BIT, IER_MS_BIT } = reg

/** Carrier, clear to send and data set ready: a cable with somebody at the other end. */
const CONNECTED = reg.MSR_DCD_BIT | reg.MSR_DSR_BIT | reg.MSR_CTS_BIT

/**
 * A 16550A UART. The guest's side is {@link read} and {@link write}, the host's side is {@link enqueue} for
 * input and the `output` option.
 *
 * @example
 * ```ts
 * const serial = new Serial({ interrupt: irq4, output: process.stdout })
 * pio.register({ base: COM1_BASE, size: SERIAL_SIZE, device: serial, name: 'com1' })
 * ```
 */
export class Serial implements BusDevice {
  /** Registers are bytes: wider accesses reach neighbouring registers. */
  readonly accessBytes = 1

  readonly #interrupt: Interrupt
  readonly #output: OutputBatch
  readonly #events: SerialEvents
  readonly #rtsFlowControl: boolean
  readonly #fifo = new ReceiveFifo()
  #receiveReady: (() => void) | undefined = undefined

  #interruptEnable = 0
  #fifoControl = 0
  #lineControl = 0
  #modemControl = 0
  #scratch = 0
  #divisor = 0
  #overrun = false
  #transmitPending = false
  /** The input lines as MSR bits 4 to 7: those from the cable, and those that MSR showed last. */
  #modemInputs = CONNECTED
  #modemLines = CONNECTED
  #modemDeltas = 0
  /** The sources asserted when last looked at. */
  #asserted = 0

  constructor(options: SerialOptions = {}) {
    this.#interrupt = options.interrupt ?? NO_INTERRUPT
    this.#events = options.events ?? {}
    this.#rtsFlowControl = options.flowControl === 'rts'
    this.#output = new OutputBatch(
      options.output ?? { write() {} },
      options.scheduleFlush ?? queueMicrotask,
      (count, cause) => this.#events.outputLost?.(count, cause),
    )
  }

  /**
   * A UART as {@link Serial.state} described it. An interrupt that was asserted is made again, as the edge may have
   * been lost with the VM.
   *
   * @param state - checked as input from a stranger
   * @throws {@link DevicesError} `ERR_DEVICE_STATE` when no 16550A can be in this state
   */
  static fromState(state: SerialState, options: SerialOptions = {}): Serial {
    checkSerialState(state)
    const serial = new Serial(options)
    serial.#interruptEnable = state.interruptEnable
    serial.#fifoControl = state.fifoControl
    serial.#lineControl = state.lineControl
    serial.#modemControl = state.modemControl
    serial.#scratch = state.scratch
    serial.#divisor = state.divisor
    serial.#overrun = state.overrun
    serial.#transmitPending = state.transmitPending
    serial.#modemInputs = state.modemInputs
    serial.#modemDeltas = state.modemDeltas
    serial.#modemLines = serial.#visibleModemLines()
    for (const [i, byte] of state.received.entries()) serial.#fifo.push(byte, state.receivedErrors[i] ?? 0)
    serial.#update(true)
    return serial
  }

  /** Everything that a driver could tell, as plain data. Collected output is passed on first. */
  state(): SerialState {
    this.flush()
    return {
      version: 1,
      interruptEnable: this.#interruptEnable,
      fifoControl: this.#fifoControl,
      lineControl: this.#lineControl,
      modemControl: this.#modemControl,
      scratch: this.#scratch,
      divisor: this.#divisor,
      overrun: this.#overrun,
      transmitPending: this.#transmitPending,
      modemInputs: this.#modemInputs,
      modemDeltas: this.#modemDeltas,
      received: this.#fifo.bytes(),
      receivedErrors: this.#fifo.errors(),
    }
  }

  /** How many bytes {@link enqueue} would take now: 0 to 16, and 0 in loopback, where the line is cut. */
  get capacity(): number {
    if ((this.#modemControl & reg.MCR_LOOP_BIT) !== 0) return 0
    if (this.#rtsFlowControl && (this.#modemControl & reg.MCR_RTS_BIT) === 0) return 0
    return this.#depth() - this.#fifo.length
  }

  /**
   * Input for the guest. Takes as many bytes as there is room for, and returns how many: keep the rest until
   * {@link onReceiveReady}, as {@link connectInput} does.
   */
  enqueue(bytes: Uint8Array): number {
    const count = Math.min(bytes.length, this.capacity)
    if (count === 0) return 0
    for (let i = 0; i < count; i++) this.#fifo.push(bytes[i] ?? 0, 0)
    this.#update(true)
    return count
  }

  /**
   * A break for the guest, which Linux's magic SysRq begins with.
   *
   * @returns whether there was room for it
   */
  sendBreak(): boolean {
    if (this.capacity === 0) return false
    this.#fifo.push(0, reg.LSR_BI_BIT)
    this.#update(true)
    return true
  }

  /**
   * Whom to tell that the guest has made room: after it has read the last byte, emptied the FIFO, or let
   * input in again. It is called inside the guest's access, so better fill the FIFO later than at once: a
   * guest that finds more whenever it looks never leaves its interrupt handler. One listener; a later one
   * takes its place.
   */
  onReceiveReady(listener: (() => void) | undefined): void {
    this.#receiveReady = listener
  }

  /**
   * Sets the modem lines that come in over the cable. At first carrier, clear to send and data set ready are
   * on. Dropping carrier hangs up on the guest.
   *
   * @param lines - any of MSR's CTS, DSR, RI and DCD bits
   */
  setModemLines(lines: number): void {
    this.#modemInputs = lines & reg.MSR_LINES_MASK
    this.#updateModemLines()
    this.#update(false)
  }

  /** Passes collected output on now. Call it before the process or the output ends. */
  flush(): void {
    this.#output.flush()
  }

  /** A driver's read of the register at `offset`. */
  read(offset: number): number {
    switch (offset) {
      case reg.DATA_OFFSET:
        return this.#divisorLatchOpen() ? this.#divisor & 0xff : this.#readData()
      case reg.IER_OFFSET:
        return this.#divisorLatchOpen() ? this.#divisor >> 8 : this.#interruptEnable
      case reg.IIR_OFFSET:
        return this.#readInterruptIdentification()
      case reg.LCR_OFFSET:
        return this.#lineControl
      case reg.MCR_OFFSET:
        return this.#modemControl
      case reg.LSR_OFFSET:
        return this.#readLineStatus()
      case reg.MSR_OFFSET:
        return this.#readModemStatus()
      case reg.SCR_OFFSET:
        return this.#scratch
      default:
        return 0
    }
  }

  /** A driver's write of the register at `offset`. */
  write(offset: number, value: number): void {
    switch (offset) {
      case reg.DATA_OFFSET:
        if (this.#divisorLatchOpen()) this.#divisor = (this.#divisor & 0xff00) | (value & 0xff)
        else this.#writeData(value & 0xff)
        break
      case reg.IER_OFFSET:
        if (this.#divisorLatchOpen()) this.#divisor = (this.#divisor & 0xff) | ((value & 0xff) << 8)
        else this.#writeInterruptEnable(value & reg.IER_MASK)
        break
      case reg.FCR_OFFSET:
        this.#writeFifoControl(value & 0xff)
        break
      case reg.LCR_OFFSET:
        this.#writeLineControl(value & 0xff)
        break
      case reg.MCR_OFFSET:
        this.#writeModemControl(value & reg.MCR_MASK)
        break
      case reg.SCR_OFFSET:
        this.#scratch = value & 0xff
        break
      // LSR and MSR are for the factory's tests; the rest does not exist.
    }
  }

  #readData(): number {
    if (this.#fifo.length === 0) return 0
    const byte = this.#fifo.shift()
    this.#update(false)
    this.#events.byteReceived?.()
    if (this.#fifo.length === 0) this.#receiveReady?.()
    return byte
  }

  #writeData(byte: number): void {
    if ((this.#modemControl & reg.MCR_LOOP_BIT) !== 0) this.#loopBack(byte, 0)
    else {
      this.#output.put(byte)
      this.#events.byteSent?.()
    }
    // The byte is gone already, whatever becomes of it on the host: a guest must not wait for a broken
    // output.
    this.#transmitPending = true
    this.#update(false)
  }

  #writeInterruptEnable(value: number): void {
    const turnedOn = value & ~this.#interruptEnable
    this.#interruptEnable = value
    // Enabling the interrupt of an empty transmitter makes it pending: Linux's 8250 tests this at start-up
    // (serial8250_do_startup), and starts to transmit this way.
    if ((turnedOn & IER_THRE_BIT) !== 0) this.#transmitPending = true
    this.#update(true)
  }

  #writeFifoControl(value: number): void {
    const enabled = (value & reg.FCR_ENABLE_BIT) !== 0
    const toggled = ((value ^ this.#fifoControl) & reg.FCR_ENABLE_BIT) !== 0
    // The other bits take only while bit 0 is being written as one.
    this.#fifoControl = enabled
      ? value & (reg.FCR_ENABLE_BIT | reg.FCR_DMA_MODE_BIT | reg.FCR_TRIGGER_MASK)
      : 0
    if (!toggled && !(enabled && (value & reg.FCR_CLEAR_RECEIVE_BIT) !== 0)) {
      this.#update(false)
      return
    }
    this.#fifo.clear()
    this.#update(false)
    this.#receiveReady?.()
  }

  #writeLineControl(value: number): void {
    const breakBegins = (value & ~this.#lineControl & reg.LCR_BREAK_BIT) !== 0
    this.#lineControl = value
    if (breakBegins && (this.#modemControl & reg.MCR_LOOP_BIT) !== 0) {
      this.#loopBack(0, reg.LSR_BI_BIT)
      this.#update(false)
    }
  }

  #writeModemControl(value: number): void {
    const capacity = this.capacity
    this.#modemControl = value
    this.#updateModemLines()
    this.#update(false)
    if (capacity === 0 && this.capacity > 0) this.#receiveReady?.()
  }

  #readInterruptIdentification(): number {
    const id = this.#interruptId()
    if (id === reg.IIR_THRE) {
      this.#transmitPending = false
      this.#update(false)
    }
    return id | (this.#fifosEnabled() ? reg.IIR_FIFO_BITS : 0)
  }

  #interruptId(): number {
    const sources = this.#sources()
    if ((sources & IER_RLS_BIT) !== 0) return reg.IIR_RLS
    if ((sources & IER_RDA_BIT) !== 0) {
      // The four character times after which a real FIFO below its trigger level reports are over at once
      // here.
      return this.#fifo.length >= this.#triggerLevel() ? reg.IIR_RDA : reg.IIR_CTI
    }
    if ((sources & IER_THRE_BIT) !== 0) return reg.IIR_THRE
    return (sources & IER_MS_BIT) !== 0 ? reg.IIR_MS : reg.IIR_NONE
  }

  #readLineStatus(): number {
    let status = reg.LSR_THRE_BIT | reg.LSR_TEMT_BIT | this.#fifo.headErrors
    if (this.#fifo.length !== 0) status |= reg.LSR_DR_BIT
    if (this.#overrun) status |= reg.LSR_OE_BIT
    if (this.#fifosEnabled() && this.#fifo.hasError) status |= reg.LSR_FIFO_ERROR_BIT
    this.#overrun = false
    this.#fifo.acknowledgeErrors()
    this.#update(false)
    return status
  }

  #readModemStatus(): number {
    const status = this.#modemLines | this.#modemDeltas
    this.#modemDeltas = 0
    this.#update(false)
    return status
  }

  /** Receives a byte that the guest sent itself. Nobody can be asked to wait here: a full FIFO overruns. */
  #loopBack(byte: number, errors: number): void {
    if (this.#fifo.length < this.#depth()) {
      this.#fifo.push(byte, errors)
      return
    }
    this.#overrun = true
    this.#events.overrun?.()
    // A FIFO keeps what it has; the single buffer of a 16450 is overwritten.
    if (!this.#fifosEnabled()) {
      this.#fifo.clear()
      this.#fifo.push(byte, errors)
    }
  }

  #visibleModemLines(): number {
    const control = this.#modemControl
    if ((control & reg.MCR_LOOP_BIT) === 0) return this.#modemInputs
    return (
      ((control & reg.MCR_RTS_BIT) !== 0 ? reg.MSR_CTS_BIT : 0) |
      ((control & reg.MCR_DTR_BIT) !== 0 ? reg.MSR_DSR_BIT : 0) |
      ((control & reg.MCR_OUT1_BIT) !== 0 ? reg.MSR_RI_BIT : 0) |
      ((control & reg.MCR_OUT2_BIT) !== 0 ? reg.MSR_DCD_BIT : 0)
    )
  }

  #updateModemLines(): void {
    const lines = this.#visibleModemLines()
    const changed = lines ^ this.#modemLines
    // The delta bits lie four below their lines. RI counts only when it goes off.
    this.#modemDeltas |= (changed & ~(lines & reg.MSR_RI_BIT)) >> 4
    this.#modemLines = lines
  }

  /** The interrupts that are pending and enabled, as bits of IER. */
  #sources(): number {
    let pending = 0
    if (this.#fifo.length !== 0) pending |= IER_RDA_BIT
    if (this.#transmitPending) pending |= IER_THRE_BIT
    if (this.#overrun || this.#fifo.headErrors !== 0) pending |= IER_RLS_BIT
    if (this.#modemDeltas !== 0) pending |= IER_MS_BIT
    return pending & this.#interruptEnable
  }

  /**
   * Makes an edge if a source has begun to assert; with `again`, also for those that were asserted before.
   */
  #update(again: boolean): void {
    const before = again ? 0 : this.#asserted
    this.#asserted = this.#sources()
    if ((this.#asserted & ~before) !== 0) this.#interrupt.trigger()
  }

  #divisorLatchOpen(): boolean {
    return (this.#lineControl & reg.LCR_DLAB_BIT) !== 0
  }

  #fifosEnabled(): boolean {
    return (this.#fifoControl & reg.FCR_ENABLE_BIT) !== 0
  }

  #depth(): number {
    return this.#fifosEnabled() ? FIFO_SIZE : BUFFER_SIZE
  }

  #triggerLevel(): number {
    switch (this.#fifoControl & reg.FCR_TRIGGER_MASK) {
      case 0b0100_0000:
        return 4
      case 0b1000_0000:
        return 8
      case 0b1100_0000:
        return 14
      default:
        return 1
    }
  }
}
