import { describe, expect, it } from 'vitest'
import { FIFO_SIZE } from '../../src/legacy/serial/receive-fifo.ts'
import {
  DATA_OFFSET,
  FCR_ENABLE_BIT,
  FCR_OFFSET,
  IER_OFFSET,
  IER_RDA_BIT,
  IER_THRE_BIT,
  IIR_FIFO_BITS,
  IIR_OFFSET,
  IIR_THRE,
  LCR_DLAB_BIT,
  LCR_OFFSET,
  LSR_OFFSET,
  MCR_LOOP_BIT,
  MCR_OFFSET,
  MSR_OFFSET,
  SCR_OFFSET,
} from '../../src/legacy/serial/registers.ts'
import { SERIAL_SIZE, Serial } from '../../src/legacy/serial/serial.ts'
import type { SerialState } from '../../src/legacy/serial/state.ts'
import { CountingInterrupt, codeThrownBy } from '../support.ts'

/** A UART in the middle of things. */
function busySerial(): Serial {
  const serial = new Serial()
  serial.write(FCR_OFFSET, FCR_ENABLE_BIT | 0b1100_0000)
  serial.write(LCR_OFFSET, LCR_DLAB_BIT)
  serial.write(DATA_OFFSET, 0x0c)
  serial.write(IER_OFFSET, 0x01)
  serial.write(LCR_OFFSET, 0x03)
  serial.write(SCR_OFFSET, 0x5a)
  serial.write(IER_OFFSET, 0x0f)
  serial.enqueue(Uint8Array.of(1, 2))
  serial.sendBreak()
  serial.setModemLines(0x10)
  serial.write(MCR_OFFSET, MCR_LOOP_BIT | 0x05)
  for (let i = 0; i < FIFO_SIZE; i++) serial.write(DATA_OFFSET, i)
  return serial
}

/** Everything that a driver can read, which changes the UART. */
function drain(serial: Serial): number[] {
  const order = [IIR_OFFSET, LSR_OFFSET, MSR_OFFSET, ...Array(SERIAL_SIZE).keys()]
  return Array.from({ length: FIFO_SIZE + 1 }, () => order.map((offset) => serial.read(offset))).flat()
}

describe('a saved UART', () => {
  it('goes on as the one that was saved', () => {
    const state = busySerial().state()
    const restored = Serial.fromState(JSON.parse(JSON.stringify(state)))
    expect(restored.state()).toEqual(state)
    expect(drain(restored)).toEqual(drain(busySerial()))
  })

  it('is not changed by being saved', () => {
    const serial = busySerial()
    serial.state()
    expect(drain(serial)).toEqual(drain(busySerial()))
  })

  it('passes on the output that it still holds', () => {
    const sent: number[] = []
    const serial = new Serial({ output: { write: (chunk) => sent.push(...chunk) }, scheduleFlush() {} })
    serial.write(DATA_OFFSET, 0x21)
    serial.state()
    expect(sent).toEqual([0x21])
  })

  it('interrupts again for data that the guest has not read', () => {
    const serial = new Serial()
    serial.enqueue(Uint8Array.of(1))
    serial.write(IER_OFFSET, IER_RDA_BIT)
    const interrupt = new CountingInterrupt()
    Serial.fromState(serial.state(), { interrupt })
    expect(interrupt.count).toBe(1)
  })

  it('interrupts again for an empty transmitter', () => {
    const serial = new Serial()
    serial.write(IER_OFFSET, IER_THRE_BIT)
    const interrupt = new CountingInterrupt()
    const restored = Serial.fromState(serial.state(), { interrupt })
    expect(interrupt.count).toBe(1)
    expect(restored.read(IIR_OFFSET) & ~IIR_FIFO_BITS).toBe(IIR_THRE)
  })

  it('does not interrupt when nothing is pending', () => {
    const interrupt = new CountingInterrupt()
    Serial.fromState(new Serial().state(), { interrupt })
    expect(interrupt.count).toBe(0)
  })
})

describe('a state from a stranger', () => {
  const good = busySerial().state()
  const nothing = Symbol('nothing')

  it.each([
    ['version', 2],
    ['interruptEnable', 0x10],
    ['interruptEnable', -1],
    ['interruptEnable', 1.5],
    ['interruptEnable', '1'],
    ['interruptEnable', nothing],
    ['fifoControl', 0x02],
    ['fifoControl', 0xc0],
    ['lineControl', 0x100],
    ['modemControl', 0x20],
    ['scratch', 2 ** 32],
    ['divisor', 0x10000],
    ['overrun', 1],
    ['transmitPending', null],
    ['modemInputs', 0x01],
    ['modemDeltas', 0x10],
    ['received', 'bytes'],
    ['received', { length: 1 }],
    ['received', Array(FIFO_SIZE + 1).fill(0)],
    ['received', Array(FIFO_SIZE).fill(256)],
    ['received', Array(FIFO_SIZE)],
    ['receivedErrors', []],
    ['receivedErrors', Array(FIFO_SIZE).fill(0xff)],
  ])('is refused when %s is %j', (field, value) => {
    const state = { ...good, [field]: value }
    if (value === nothing) delete state[field as keyof SerialState]
    expect(codeThrownBy(() => Serial.fromState(state as SerialState))).toBe('ERR_DEVICE_STATE')
    expect(() => Serial.fromState(state as SerialState)).toThrowError(new RegExp(`^16550A state: ${field}`))
  })

  it.each([null, undefined, 1, 'state', []])('is refused when it is %j', (state) => {
    expect(codeThrownBy(() => Serial.fromState(state as unknown as SerialState))).toBe('ERR_DEVICE_STATE')
  })

  it('is refused when it holds more than the FIFOs do while they are off', () => {
    const state = { ...new Serial().state(), received: [1, 2], receivedErrors: [0, 0] }
    expect(codeThrownBy(() => Serial.fromState(state))).toBe('ERR_DEVICE_STATE')
  })
})
