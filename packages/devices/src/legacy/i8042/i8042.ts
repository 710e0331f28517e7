/**
 * The i8042 keyboard controller of a PC, as firmware leaves it: the commands that Linux's
 * drivers/input/serio/i8042.c and its reboot code use, per the IBM PS/2 technical reference. With an
 * interrupt there is a keyboard behind it, whose only keys are Ctrl, Alt and Del; there is never a mouse.
 * Gate A20 is stored and changes nothing.
 */

import type { BusDevice, BusRange } from '../../bus/device.ts'
import { type Interrupt, NO_INTERRUPT } from '../../host.ts'
import { StateChecker } from '../../state.ts'
import { KEYBOARD_QUEUE_SIZE, Keyboard, type KeyboardState, PARAMETER_COMMANDS } from './keyboard.ts'

/** The data port. */
export const I8042_DATA_PORT = 0x60
/** Status when read, command when written. The ports between belong to the timer and the speaker. */
export const I8042_COMMAND_PORT = 0x64
/** Interrupt line of the keyboard. */
export const KEYBOARD_IRQ = 1
/** What a guest writes to {@link I8042_COMMAND_PORT} to reset the machine. */
export const I8042_COMMAND_RESET = 0xfe

const DATA_OFFSET = 0
const COMMAND_OFFSET = I8042_COMMAND_PORT - I8042_DATA_PORT

const STATUS_OUTPUT_FULL_BIT = 0b0000_0001
const STATUS_SELF_TEST_PASSED_BIT = 0b0000_0100
const STATUS_COMMAND_BIT = 0b0000_1000
/** The keyboard is not locked with a key. */
const STATUS_UNLOCKED_BIT = 0b0001_0000

const MODE_KEYBOARD_INTERRUPT_BIT = 0b0000_0001
const MODE_SELF_TEST_PASSED_BIT = 0b0000_0100
const MODE_KEYBOARD_DISABLED_BIT = 0b0001_0000
const MODE_AUX_DISABLED_BIT = 0b0010_0000
const MODE_TRANSLATE_BIT = 0b0100_0000
/** What firmware leaves behind. */
const DEFAULT_MODE =
  MODE_KEYBOARD_INTERRUPT_BIT | MODE_SELF_TEST_PASSED_BIT | MODE_AUX_DISABLED_BIT | MODE_TRANSLATE_BIT

const OUTPUT_PORT_RESET_BIT = 0b01
const OUTPUT_PORT_A20_BIT = 0b10
const INPUT_PORT_UNLOCKED_BIT = 0b1000_0000

const COMMAND_READ_MODE = 0x20
const COMMAND_WRITE_MODE = 0x60
const COMMAND_AUX_DISABLE = 0xa7
const COMMAND_AUX_ENABLE = 0xa8
const COMMAND_AUX_TEST = 0xa9
const COMMAND_SELF_TEST = 0xaa
const COMMAND_KEYBOARD_TEST = 0xab
const COMMAND_KEYBOARD_DISABLE = 0xad
const COMMAND_KEYBOARD_ENABLE = 0xae
const COMMAND_READ_INPUT_PORT = 0xc0
const COMMAND_READ_OUTPUT_PORT = 0xd0
const COMMAND_WRITE_OUTPUT_PORT = 0xd1
const COMMAND_KEYBOARD_LOOP = 0xd2
const COMMAND_AUX_LOOP = 0xd3
const COMMAND_AUX_WRITE = 0xd4
/** 0xf0 to 0xff pulse those of the output port's low four lines whose bit is 0; line 0 is reset. */
const COMMAND_PULSE_MASK = 0xf0
/** 0: the next byte at the data port is for the keyboard. */
const NO_COMMAND = 0

const SELF_TEST_PASSED = 0x55
const TEST_PASSED = 0x00
/** The clock line of the second port is stuck low: nothing there. */
const TEST_CLOCK_LOW = 0x01
/** No answer of the controller is waiting. */
const NO_RESPONSE = -1

/** Options of {@link I8042}. */
export interface I8042Options {
  /** The guest asks for a reset of the machine; it may do so again and again. */
  readonly onReset: () => void
  /** The keyboard's interrupt line. Without it no keyboard is connected. */
  readonly keyboardInterrupt?: Interrupt | undefined
}

/** What {@link I8042.state} returns: plain data that survives JSON. */
export interface I8042State {
  readonly version: 1
  /** The command byte: interrupts, disabled ports, translation. */
  readonly mode: number
  readonly outputPort: number
  /** The command whose parameter is to come, or 0. */
  readonly command: number
  /** Whether the last write was to the command port. */
  readonly commandWritten: boolean
  /** The controller's answer that waits to be read, or -1. */
  readonly response: number
  readonly keyboard: KeyboardState
}

/**
 * An i8042 keyboard controller.
 *
 * @example
 * ```ts
 * const i8042 = new I8042({ keyboardInterrupt: irq1, onReset: () => vm.stop('the guest reset') })
 * pio.register(...i8042.ranges())
 * ```
 */
export class I8042 implements BusDevice {
  readonly accessBytes = 1
  readonly #onReset: () => void
  readonly #interrupt: Interrupt
  readonly #connected: boolean
  readonly #keyboard = new Keyboard()
  #mode = DEFAULT_MODE
  #outputPort = OUTPUT_PORT_RESET_BIT | OUTPUT_PORT_A20_BIT
  #command = NO_COMMAND
  #commandWritten = false
  #response = NO_RESPONSE

  constructor(options: I8042Options) {
    this.#onReset = options.onReset
    this.#interrupt = options.keyboardInterrupt ?? NO_INTERRUPT
    this.#connected = options.keyboardInterrupt !== undefined
  }

  /**
   * A controller as {@link I8042.state} described it. If the guest has key presses to read, it is interrupted
   * again.
   *
   * @throws {@link DevicesError} `ERR_DEVICE_STATE` when no i8042 can be in this state
   */
  static fromState(state: I8042State, options: I8042Options): I8042 {
    checkState(state)
    const i8042 = new I8042(options)
    i8042.#mode = state.mode
    i8042.#outputPort = state.outputPort
    i8042.#command = state.command
    i8042.#commandWritten = state.commandWritten
    i8042.#response = state.response
    i8042.#keyboard.restore(state.keyboard)
    i8042.#announceKeyboard()
    return i8042
  }

  /** Everything that a driver could tell, as plain data. */
  state(): I8042State {
    return {
      version: 1,
      mode: this.#mode,
      outputPort: this.#outputPort,
      command: this.#command,
      commandWritten: this.#commandWritten,
      response: this.#response,
      keyboard: this.#keyboard.state(),
    }
  }

  /** The controller's two ports, ready for the bus. */
  ranges(): BusRange[] {
    const range = { size: 1, device: this, name: 'i8042' }
    return [
      { ...range, base: I8042_DATA_PORT, offset: DATA_OFFSET },
      { ...range, base: I8042_COMMAND_PORT, offset: COMMAND_OFFSET },
    ]
  }

  /**
   * Presses Ctrl-Alt-Del, which most guests take as a request to reboot.
   *
   * @returns false when there is no keyboard, or the guest does not listen to it
   */
  pressCtrlAltDel(): boolean {
    if (!this.#connected || this.#keyboardDisabled()) return false
    const pressed = this.#keyboard.pressCtrlAltDel((this.#mode & MODE_TRANSLATE_BIT) !== 0)
    if (pressed) this.#announceKeyboard()
    return pressed
  }

  read(offset: number): number {
    if (offset === DATA_OFFSET) return this.#readData()
    return offset === COMMAND_OFFSET ? this.#status() : 0
  }

  write(offset: number, value: number): void {
    if (offset === DATA_OFFSET) {
      this.#commandWritten = false
      this.#writeData(value)
    } else if (offset === COMMAND_OFFSET) {
      this.#commandWritten = true
      this.#writeCommand(value)
    }
  }

  #status(): number {
    const full = this.#response !== NO_RESPONSE || this.#keyboardReadable()
    return (
      STATUS_UNLOCKED_BIT |
      STATUS_SELF_TEST_PASSED_BIT |
      (this.#commandWritten ? STATUS_COMMAND_BIT : 0) |
      (full ? STATUS_OUTPUT_FULL_BIT : 0)
    )
  }

  #readData(): number {
    let data = 0
    if (this.#response !== NO_RESPONSE) {
      data = this.#response
      this.#response = NO_RESPONSE
    } else if (this.#keyboardReadable()) {
      data = this.#keyboard.shift()
    }
    this.#announceKeyboard()
    return data
  }

  #writeCommand(value: number): void {
    this.#command = NO_COMMAND
    switch (value) {
      case COMMAND_READ_MODE:
        this.#response = this.#mode
        break
      case COMMAND_WRITE_MODE:
      case COMMAND_WRITE_OUTPUT_PORT:
      case COMMAND_KEYBOARD_LOOP:
      case COMMAND_AUX_LOOP:
      case COMMAND_AUX_WRITE:
        this.#command = value
        break
      case COMMAND_AUX_DISABLE:
        this.#mode |= MODE_AUX_DISABLED_BIT
        break
      case COMMAND_AUX_ENABLE:
        this.#mode &= ~MODE_AUX_DISABLED_BIT
        break
      case COMMAND_AUX_TEST:
        this.#response = TEST_CLOCK_LOW
        break
      case COMMAND_SELF_TEST:
        this.#mode |= MODE_SELF_TEST_PASSED_BIT
        this.#response = SELF_TEST_PASSED
        break
      case COMMAND_KEYBOARD_TEST:
        this.#response = TEST_PASSED
        break
      case COMMAND_KEYBOARD_DISABLE:
        this.#mode |= MODE_KEYBOARD_DISABLED_BIT
        break
      case COMMAND_KEYBOARD_ENABLE:
        this.#mode &= ~MODE_KEYBOARD_DISABLED_BIT
        this.#announceKeyboard()
        break
      case COMMAND_READ_INPUT_PORT:
        this.#response = INPUT_PORT_UNLOCKED_BIT
        break
      case COMMAND_READ_OUTPUT_PORT:
        this.#response = this.#outputPort
        break
      default:
        if ((value & COMMAND_PULSE_MASK) === COMMAND_PULSE_MASK && (value & OUTPUT_PORT_RESET_BIT) === 0) {
          this.#onReset()
        }
    }
  }

  #writeData(value: number): void {
    const command = this.#command
    this.#command = NO_COMMAND
    switch (command) {
      case COMMAND_WRITE_MODE:
        this.#mode = value
        this.#announceKeyboard()
        break
      case COMMAND_WRITE_OUTPUT_PORT:
        this.#outputPort = value | OUTPUT_PORT_RESET_BIT
        if ((value & OUTPUT_PORT_RESET_BIT) === 0) this.#onReset()
        break
      case COMMAND_KEYBOARD_LOOP:
      // Without the status bit of the second port, which tells a driver that it is not there.
      case COMMAND_AUX_LOOP:
        this.#response = value
        break
      case COMMAND_AUX_WRITE:
        break
      default:
        if (!this.#connected) break
        this.#keyboard.write(value)
        this.#announceKeyboard()
    }
  }

  #keyboardDisabled(): boolean {
    return (this.#mode & MODE_KEYBOARD_DISABLED_BIT) !== 0
  }

  #keyboardReadable(): boolean {
    return this.#keyboard.length !== 0 && !this.#keyboardDisabled()
  }

  /** Interrupts the guest for the keyboard's next byte. The controller's own answers are polled for. */
  #announceKeyboard(): void {
    if (this.#response !== NO_RESPONSE || !this.#keyboardReadable()) return
    if ((this.#mode & MODE_KEYBOARD_INTERRUPT_BIT) !== 0) this.#interrupt.trigger()
  }
}

/** The commands that have one parameter byte. */
const CONTROLLER_PARAMETER_COMMANDS: readonly number[] = [
  NO_COMMAND,
  COMMAND_WRITE_MODE,
  COMMAND_WRITE_OUTPUT_PORT,
  COMMAND_KEYBOARD_LOOP,
  COMMAND_AUX_LOOP,
  COMMAND_AUX_WRITE,
]

function checkState(state: I8042State): void {
  const check = new StateChecker('i8042', state)
  check.version(1)
  check.bits('mode', 0xff)
  const outputPort = check.bits('outputPort', 0xff)
  if ((outputPort & OUTPUT_PORT_RESET_BIT) === 0) check.refuse('outputPort', 'a byte with bit 0 set')
  check.oneOf('command', CONTROLLER_PARAMETER_COMMANDS)
  check.boolean('commandWritten')
  check.integer('response', NO_RESPONSE, 0xff)
  const keyboard = new StateChecker('i8042 keyboard', state.keyboard)
  keyboard.bitsArray('queue', 0, KEYBOARD_QUEUE_SIZE, 0xff)
  keyboard.oneOf('command', PARAMETER_COMMANDS)
  keyboard.boolean('scanning')
}
