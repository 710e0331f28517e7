/**
 * The least keyboard that drivers accept: it answers every command of a PS/2 keyboard in scan code set 2, and
 * has three keys. A microVM has no display to type for, but Ctrl-Alt-Del asks a guest to shut down.
 */

const REPLY_ACK = 0xfa
const REPLY_RESEND = 0xfe
const REPLY_TEST_PASSED = 0xaa
const REPLY_ECHO = 0xee
/** What an MF2 keyboard calls itself. */
const KEYBOARD_ID = [0xab, 0x83]
const SCAN_CODE_SET = 2

const COMMAND_SET_LEDS = 0xed
const COMMAND_ECHO = 0xee
const COMMAND_SCAN_CODE_SET = 0xf0
const COMMAND_IDENTIFY = 0xf2
const COMMAND_SET_RATE = 0xf3
const COMMAND_ENABLE = 0xf4
const COMMAND_DISABLE = 0xf5
const COMMAND_DEFAULTS = 0xf6
const COMMAND_RESET = 0xff
/** 0: the next byte is a command. */
const NO_COMMAND = 0

/** Control, Alt and Delete pressed and released, as the keyboard sends it: scan code set 2. */
const CTRL_ALT_DEL_SET_2 = [0x14, 0x11, 0xe0, 0x71, 0xe0, 0xf0, 0x71, 0xf0, 0x11, 0xf0, 0x14]
/** The same after the controller's translation to set 1, in which releases have bit 7 set. */
const CTRL_ALT_DEL_SET_1 = [0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d]

/** Bytes that wait for the guest; a real keyboard holds 16 too, and drops what is beyond. */
export const KEYBOARD_QUEUE_SIZE = 16

/** What of a keyboard is saved. */
export interface KeyboardState {
  /** Bytes that the guest has not read, oldest first; at most 16. */
  readonly queue: readonly number[]
  /** The command whose parameter is to come, or 0. */
  readonly command: number
  /** Whether key presses are sent. */
  readonly scanning: boolean
}

/** The commands that have one parameter byte. */
export const PARAMETER_COMMANDS: readonly number[] = [
  NO_COMMAND,
  COMMAND_SET_LEDS,
  COMMAND_SCAN_CODE_SET,
  COMMAND_SET_RATE,
]

/** The keyboard's end of the wire. */
export class Keyboard {
  #queue: number[] = []
  #command = NO_COMMAND
  #scanning = true

  get length(): number {
    return this.#queue.length
  }

  /** Takes the oldest byte; 0 when there is none. */
  shift(): number {
    return this.#queue.shift() ?? 0
  }

  /**
   * Presses the three keys and lets go of them.
   *
   * @param translated - whether the controller turns scan codes into set 1
   * @returns false when the guest has turned key presses off, or has yet to read others
   */
  pressCtrlAltDel(translated: boolean): boolean {
    const codes = translated ? CTRL_ALT_DEL_SET_1 : CTRL_ALT_DEL_SET_2
    if (!this.#scanning || this.#queue.length + codes.length > KEYBOARD_QUEUE_SIZE) return false
    this.#queue.push(...codes)
    return true
  }

  /** A byte from the guest: a command, or the parameter of the one before. */
  write(byte: number): void {
    const command = this.#command
    this.#command = NO_COMMAND
    // A parameter is below 0x80: anything else is a new command, as on a real keyboard.
    if (command !== NO_COMMAND && byte < 0x80) {
      this.#reply(REPLY_ACK)
      if (command === COMMAND_SCAN_CODE_SET && byte === 0) this.#reply(SCAN_CODE_SET)
      return
    }
    switch (byte) {
      case COMMAND_SET_LEDS:
      case COMMAND_SCAN_CODE_SET:
      case COMMAND_SET_RATE:
        this.#command = byte
        this.#reply(REPLY_ACK)
        break
      case COMMAND_ECHO:
        this.#reply(REPLY_ECHO)
        break
      case COMMAND_IDENTIFY:
        this.#reply(REPLY_ACK, ...KEYBOARD_ID)
        break
      case COMMAND_ENABLE:
      case COMMAND_DEFAULTS:
        this.#scanning = true
        this.#reply(REPLY_ACK)
        break
      case COMMAND_DISABLE:
        this.#scanning = false
        this.#reply(REPLY_ACK)
        break
      case COMMAND_RESET:
        this.#scanning = true
        this.#queue = []
        this.#reply(REPLY_ACK, REPLY_TEST_PASSED)
        break
      default:
        this.#reply(REPLY_RESEND)
    }
  }

  state(): KeyboardState {
    return { queue: [...this.#queue], command: this.#command, scanning: this.#scanning }
  }

  /** Takes over a state that has been checked. */
  restore(state: KeyboardState): void {
    this.#queue = [...state.queue]
    this.#command = state.command
    this.#scanning = state.scanning
  }

  #reply(...bytes: number[]): void {
    if (this.#queue.length + bytes.length <= KEYBOARD_QUEUE_SIZE) this.#queue.push(...bytes)
  }
}
