import { describe, expect, it } from 'vitest'
import { createPioBus } from '../../src/bus/bus.ts'
import {
  I8042,
  I8042_COMMAND_PORT,
  I8042_COMMAND_RESET,
  I8042_DATA_PORT,
  type I8042Options,
  type I8042State,
} from '../../src/legacy/i8042/i8042.ts'
import { KEYBOARD_QUEUE_SIZE } from '../../src/legacy/i8042/keyboard.ts'
import { CountingInterrupt, codeThrownBy } from '../support.ts'

const DATA = 0
const COMMAND = I8042_COMMAND_PORT - I8042_DATA_PORT

const STATUS_OUTPUT_FULL = 0x01
const STATUS_INPUT_FULL = 0x02
const STATUS_COMMAND = 0x08
const STATUS_UNLOCKED = 0x10
const STATUS_AUX = 0x20

const READ_MODE = 0x20
const WRITE_MODE = 0x60
const AUX_DISABLE = 0xa7
const AUX_ENABLE = 0xa8
const AUX_TEST = 0xa9
const SELF_TEST = 0xaa
const KEYBOARD_TEST = 0xab
const KEYBOARD_DISABLE = 0xad
const KEYBOARD_ENABLE = 0xae
const READ_INPUT_PORT = 0xc0
const READ_OUTPUT_PORT = 0xd0
const WRITE_OUTPUT_PORT = 0xd1
const KEYBOARD_LOOP = 0xd2
const AUX_LOOP = 0xd3
const AUX_WRITE = 0xd4
const MODE_INTERRUPT = 0x01
const MODE_KEYBOARD_DISABLED = 0x10
const MODE_AUX_DISABLED = 0x20
const MODE_TRANSLATE = 0x40

const ACK = 0xfa
const RESEND = 0xfe

function createController(options: Partial<I8042Options> = {}) {
  let resets = 0
  const i8042 = new I8042({ onReset: () => resets++, ...options })
  return { i8042, resets: () => resets }
}

function createWithKeyboard() {
  const interrupt = new CountingInterrupt()
  return { interrupt, ...createController({ keyboardInterrupt: interrupt }) }
}

const isFull = (i8042: I8042): boolean => (i8042.read(COMMAND) & STATUS_OUTPUT_FULL) !== 0

/** A command, its parameter if it has one, and its answer if there is one. */
function command(i8042: I8042, code: number, parameter?: number): number | undefined {
  i8042.write(COMMAND, code)
  if (parameter !== undefined) i8042.write(DATA, parameter)
  return isFull(i8042) ? i8042.read(DATA) : undefined
}

/** What the keyboard says to a byte. */
function sendKeyboard(i8042: I8042, byte: number): number[] {
  i8042.write(DATA, byte)
  const replies: number[] = []
  while (isFull(i8042)) replies.push(i8042.read(DATA))
  return replies
}

describe('reset', () => {
  it('is what Linux asks for by 0xfe at the command port', () => {
    const { i8042, resets } = createController()
    i8042.write(COMMAND, I8042_COMMAND_RESET)
    expect(resets()).toBe(1)
  })

  it('comes of every pulse of line 0, and of the output port with bit 0 off', () => {
    const { i8042, resets } = createController()
    i8042.write(COMMAND, 0xf0)
    expect(resets()).toBe(1)
    command(i8042, WRITE_OUTPUT_PORT, 0x02)
    expect(resets()).toBe(2)
    expect(command(i8042, READ_OUTPUT_PORT)).toBe(0x03)
  })

  it('comes of no other write', () => {
    const { i8042, resets } = createController()
    for (let value = 0; value < 0x100; value++) {
      i8042.write(DATA, value)
      for (const offset of [1, 2, 3, 5]) i8042.write(offset, value)
    }
    for (let value = 0; value < 0x100; value++) {
      if (value < 0xf0 || (value & 1) !== 0) i8042.write(COMMAND, value)
    }
    command(i8042, WRITE_OUTPUT_PORT, 0x03)
    expect(resets()).toBe(0)
  })

  it('passes on what the callback throws', () => {
    const { i8042 } = createController({
      onReset() {
        throw new Error('no such VM')
      },
    })
    expect(() => i8042.write(COMMAND, I8042_COMMAND_RESET)).toThrowError('no such VM')
  })
})

describe('controller', () => {
  it('is idle, unlocked and ready for a command at first', () => {
    const { i8042 } = createController()
    expect(i8042.read(COMMAND) & (STATUS_OUTPUT_FULL | STATUS_INPUT_FULL | STATUS_AUX)).toBe(0)
    expect(i8042.read(COMMAND) & STATUS_UNLOCKED).toBe(STATUS_UNLOCKED)
    expect(i8042.read(DATA)).toBe(0)
    expect(i8042.read(1)).toBe(0)
  })

  it('says whether the last write was a command', () => {
    const { i8042 } = createController()
    i8042.write(COMMAND, KEYBOARD_ENABLE)
    expect(i8042.read(COMMAND) & STATUS_COMMAND).toBe(STATUS_COMMAND)
    i8042.write(DATA, 0)
    expect(i8042.read(COMMAND) & STATUS_COMMAND).toBe(0)
  })

  it('passes its tests, and has no second port', () => {
    const { i8042 } = createController()
    expect(command(i8042, SELF_TEST)).toBe(0x55)
    expect(command(i8042, KEYBOARD_TEST)).toBe(0)
    expect(command(i8042, AUX_TEST)).toBe(1)
    i8042.write(COMMAND, AUX_LOOP)
    i8042.write(DATA, 0x5a)
    expect(i8042.read(COMMAND) & (STATUS_OUTPUT_FULL | STATUS_AUX)).toBe(STATUS_OUTPUT_FULL)
    expect(command(i8042, AUX_TEST)).toBe(1)
    expect(command(i8042, AUX_WRITE, 0xff)).toBeUndefined()
  })

  it('keeps its mode byte', () => {
    const { i8042 } = createController()
    const initial = command(i8042, READ_MODE)
    expect(initial).toBe(0x65)
    expect(command(i8042, READ_MODE)).toBe(initial)
    command(i8042, WRITE_MODE, MODE_KEYBOARD_DISABLED)
    expect(command(i8042, READ_MODE)).toBe(MODE_KEYBOARD_DISABLED)
    command(i8042, KEYBOARD_ENABLE)
    command(i8042, AUX_DISABLE)
    expect(command(i8042, READ_MODE)).toBe(MODE_AUX_DISABLED)
    command(i8042, KEYBOARD_DISABLE)
    command(i8042, AUX_ENABLE)
    expect(command(i8042, READ_MODE)).toBe(MODE_KEYBOARD_DISABLED)
  })

  it('keeps its output port, gate A20 included', () => {
    const { i8042 } = createController()
    expect(command(i8042, READ_OUTPUT_PORT)).toBe(0x03)
    command(i8042, WRITE_OUTPUT_PORT, 0x01)
    expect(command(i8042, READ_OUTPUT_PORT)).toBe(0x01)
    expect(command(i8042, READ_INPUT_PORT)).toBe(0x80)
    expect(command(i8042, KEYBOARD_LOOP, 0x1c)).toBe(0x1c)
  })

  it('answers at its two ports and leaves those between alone', () => {
    const unmapped: number[] = []
    const pio = createPioBus({ unmappedRead: (address) => unmapped.push(address) })
    const { i8042 } = createController()
    pio.register(...i8042.ranges())
    const data = new DataView(new ArrayBuffer(1))
    data.setUint8(0, SELF_TEST)
    pio.write(I8042_COMMAND_PORT, data, 0, 1)
    pio.read(I8042_COMMAND_PORT, data, 0, 1)
    expect(data.getUint8(0) & STATUS_OUTPUT_FULL).toBe(STATUS_OUTPUT_FULL)
    pio.read(I8042_DATA_PORT, data, 0, 1)
    expect(data.getUint8(0)).toBe(0x55)
    pio.read(0x61, data, 0, 1)
    expect(unmapped).toEqual([0x61])
  })
})

describe('keyboard', () => {
  it('answers what the Linux driver asks', () => {
    const { i8042 } = createWithKeyboard()
    expect(sendKeyboard(i8042, 0xf2)).toEqual([ACK, 0xab, 0x83])
    expect(sendKeyboard(i8042, 0xf5)).toEqual([ACK])
    expect(sendKeyboard(i8042, 0xed)).toEqual([ACK])
    expect(sendKeyboard(i8042, 0x02)).toEqual([ACK])
    expect(sendKeyboard(i8042, 0xf3)).toEqual([ACK])
    expect(sendKeyboard(i8042, 0x00)).toEqual([ACK])
    expect(sendKeyboard(i8042, 0xf0)).toEqual([ACK])
    expect(sendKeyboard(i8042, 0x00)).toEqual([ACK, 0x02])
    expect(sendKeyboard(i8042, 0xf6)).toEqual([ACK])
    expect(sendKeyboard(i8042, 0xf4)).toEqual([ACK])
    expect(sendKeyboard(i8042, 0xee)).toEqual([0xee])
    expect(sendKeyboard(i8042, 0xff)).toEqual([ACK, 0xaa])
    expect(sendKeyboard(i8042, 0x12)).toEqual([RESEND])
  })

  it('takes a command where a parameter is due for a command', () => {
    const { i8042 } = createWithKeyboard()
    sendKeyboard(i8042, 0xed)
    expect(sendKeyboard(i8042, 0xf2)).toEqual([ACK, 0xab, 0x83])
    expect(sendKeyboard(i8042, 0x00)).toEqual([RESEND])
  })

  it('is not there without an interrupt', () => {
    const { i8042 } = createController()
    expect(sendKeyboard(i8042, 0xf2)).toEqual([])
    expect(i8042.pressCtrlAltDel()).toBe(false)
  })

  it('interrupts for each byte that comes up', () => {
    const { i8042, interrupt } = createWithKeyboard()
    i8042.write(DATA, 0xf2)
    expect(interrupt.take()).toBe(1)
    i8042.read(DATA)
    expect(interrupt.take()).toBe(1)
    i8042.read(DATA)
    expect(interrupt.take()).toBe(1)
    i8042.read(DATA)
    expect(interrupt.take()).toBe(0)
  })

  it('waits while it is disabled, without an interrupt, or behind an answer of the controller', () => {
    const { i8042, interrupt } = createWithKeyboard()
    i8042.write(COMMAND, KEYBOARD_DISABLE)
    i8042.write(DATA, 0xee)
    expect([isFull(i8042), interrupt.take()]).toEqual([false, 0])
    i8042.write(COMMAND, SELF_TEST)
    i8042.write(COMMAND, KEYBOARD_ENABLE)
    expect(interrupt.take()).toBe(0)
    expect(i8042.read(DATA)).toBe(0x55)
    expect(interrupt.take()).toBe(1)
    command(i8042, WRITE_MODE, 0)
    i8042.write(DATA, 0xee)
    expect(interrupt.take()).toBe(0)
  })

  it.each([
    ['set 1', MODE_TRANSLATE, [0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d]],
    ['set 2', 0, [0x14, 0x11, 0xe0, 0x71, 0xe0, 0xf0, 0x71, 0xf0, 0x11, 0xf0, 0x14]],
  ])('presses Ctrl-Alt-Del in scan code %s', (_, translate, codes) => {
    const { i8042, interrupt } = createWithKeyboard()
    command(i8042, WRITE_MODE, MODE_INTERRUPT | translate)
    expect(i8042.pressCtrlAltDel()).toBe(true)
    const seen: number[] = []
    while (interrupt.take() > 0) seen.push(i8042.read(DATA))
    expect(seen).toEqual(codes)
  })

  it('does not press keys for a guest that does not listen', () => {
    const { i8042 } = createWithKeyboard()
    expect(i8042.pressCtrlAltDel()).toBe(true)
    expect(i8042.pressCtrlAltDel()).toBe(true)
    expect(i8042.pressCtrlAltDel()).toBe(false)
    sendKeyboard(i8042, 0xff)
    sendKeyboard(i8042, 0xf5)
    expect(i8042.pressCtrlAltDel()).toBe(false)
    sendKeyboard(i8042, 0xf4)
    i8042.write(COMMAND, KEYBOARD_DISABLE)
    expect(i8042.pressCtrlAltDel()).toBe(false)
  })

  it('holds no more than its queue', () => {
    const { i8042 } = createWithKeyboard()
    for (let i = 0; i < 100; i++) i8042.write(DATA, 0xf2)
    expect(i8042.state().keyboard.queue.length).toBeLessThanOrEqual(KEYBOARD_QUEUE_SIZE)
  })
})

describe('a saved controller', () => {
  function busyController() {
    const parts = createWithKeyboard()
    sendKeyboard(parts.i8042, 0xf5)
    parts.i8042.write(DATA, 0xf2)
    parts.i8042.write(DATA, 0xed)
    parts.i8042.write(COMMAND, SELF_TEST)
    parts.i8042.write(COMMAND, WRITE_OUTPUT_PORT)
    return parts
  }

  it('goes on as the one that was saved', () => {
    const { i8042 } = busyController()
    const state = JSON.parse(JSON.stringify(i8042.state())) as I8042State
    const restored = I8042.fromState(state, { onReset() {}, keyboardInterrupt: new CountingInterrupt() })
    expect(restored.state()).toEqual(i8042.state())
    restored.write(DATA, 0x01)
    expect(isFull(restored)).toBe(true)
    expect(restored.read(DATA)).toBe(0x55)
    expect(sendKeyboard(restored, 0x00)).toEqual([ACK, 0xab, 0x83, ACK, ACK])
    expect(command(restored, READ_OUTPUT_PORT)).toBe(0x01)
  })

  it('interrupts again for a key that waits', () => {
    const { i8042 } = createWithKeyboard()
    i8042.pressCtrlAltDel()
    const keyboardInterrupt = new CountingInterrupt()
    I8042.fromState(i8042.state(), { onReset() {}, keyboardInterrupt })
    expect(keyboardInterrupt.count).toBe(1)
  })

  it.each([
    [{ version: 0 }],
    [{ mode: 0x100 }],
    [{ outputPort: 0x02 }],
    [{ command: SELF_TEST }],
    [{ commandWritten: 0 }],
    [{ response: -2 }],
    [{ response: 0x100 }],
    [{ keyboard: null }],
    [{ keyboard: { queue: Array(17).fill(0), command: 0, scanning: true } }],
    [{ keyboard: { queue: [], command: 0xf2, scanning: true } }],
    [{ keyboard: { queue: [], command: 0 } }],
  ])('is refused with %j', (change) => {
    const state = { ...busyController().i8042.state(), ...change } as I8042State
    expect(codeThrownBy(() => I8042.fromState(state, { onReset() {} }))).toBe('ERR_DEVICE_STATE')
  })
})
