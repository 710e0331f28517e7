import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  BOOT_TIMER_PORT,
  BOOT_TIMER_SIZE,
  BootTimer,
  CMOS_BASE,
  CMOS_PORTS,
  CmosRtc,
  COM1_BASE,
  createPioBus,
  EXIT_PORT,
  EXIT_PORT_SIZE,
  ExitPort,
  I8042,
  I8042_DATA_PORT,
  MAX_ACCESS_BYTES,
  OUTPUT_CHUNK_BYTES,
  SERIAL_FIFO_SIZE,
  SERIAL_SIZE,
  Serial,
} from '../src/index.ts'
import { KEYBOARD_QUEUE_SIZE } from '../src/legacy/i8042/keyboard.ts'
import { CountingInterrupt, ManualTime } from './support.ts'

/** Accesses at and around every device, of any length a bus can have. */
const bases = [COM1_BASE, I8042_DATA_PORT, CMOS_BASE, EXIT_PORT, BOOT_TIMER_PORT]
const access = fc.record({
  write: fc.boolean(),
  address: fc
    .tuple(fc.constantFrom(...bases), fc.integer({ min: -1, max: SERIAL_SIZE }))
    .map(([base, offset]) => base + offset),
  size: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: MAX_ACCESS_BYTES })),
  value: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
})
/** What the host may do meanwhile. */
const hostAction = fc.record({
  host: fc.constantFrom('type', 'break', 'lines', 'time', 'ctrlAltDel'),
  amount: fc.nat(10_000),
})
const script = fc.array(fc.oneof({ weight: 9, arbitrary: access }, hostAction), {
  maxLength: 400,
  size: 'max',
})

function createMachine() {
  const time = new ManualTime(Date.UTC(2026, 10, 21))
  const interrupt = new CountingInterrupt()
  let longestChunk = 0
  const output = {
    write(chunk: Uint8Array) {
      longestChunk = Math.max(longestChunk, chunk.length)
      throw new Error('the output is broken')
    },
  }
  const serial = new Serial({ interrupt, output })
  const i8042 = new I8042({ onReset() {}, keyboardInterrupt: interrupt })
  const rtc = new CmosRtc({ clock: time, timers: time, interrupt })
  const exit = new ExitPort(() => {})
  const bootTimer = new BootTimer(() => {}, time)
  const pio = createPioBus()
  pio.register(
    { base: COM1_BASE, size: SERIAL_SIZE, device: serial },
    { base: CMOS_BASE, size: CMOS_PORTS, device: rtc },
    { base: EXIT_PORT, size: EXIT_PORT_SIZE, device: exit },
    { base: BOOT_TIMER_PORT, size: BOOT_TIMER_SIZE, device: bootTimer },
    ...i8042.ranges(),
  )
  return { pio, serial, i8042, rtc, time, longestChunk: () => longestChunk }
}

type Machine = ReturnType<typeof createMachine>

function actOnHost(machine: Machine, host: string, amount: number): void {
  if (host === 'type') machine.serial.enqueue(new Uint8Array(amount % 40))
  else if (host === 'break') machine.serial.sendBreak()
  else if (host === 'lines') machine.serial.setModemLines(amount)
  else if (host === 'time') machine.time.advance(amount)
  else machine.i8042.pressCtrlAltDel()
}

describe('a hostile guest', () => {
  it('makes no device throw, grow, or reach a state that it refuses to restore', () => {
    fc.assert(
      fc.property(script, (steps) => {
        const machine = createMachine()
        const data = new DataView(new ArrayBuffer(MAX_ACCESS_BYTES))
        for (const step of steps) {
          if ('host' in step) actOnHost(machine, step.host, step.amount)
          else if (step.write) {
            data.setBigUint64(0, step.value, true)
            machine.pio.write(step.address, data, 0, step.size)
          } else machine.pio.read(step.address, data, 0, step.size)
          expect(machine.time.pendingCount).toBeLessThanOrEqual(1)
        }
        const serial = machine.serial.state()
        const i8042 = machine.i8042.state()
        const rtc = machine.rtc.state()
        expect(serial.received.length).toBeLessThanOrEqual(SERIAL_FIFO_SIZE)
        expect(i8042.keyboard.queue.length).toBeLessThanOrEqual(KEYBOARD_QUEUE_SIZE)
        expect(machine.longestChunk()).toBeLessThanOrEqual(OUTPUT_CHUNK_BYTES)
        const clock = { clock: machine.time, timers: machine.time }
        expect(Serial.fromState(serial).state()).toEqual(serial)
        expect(I8042.fromState(i8042, { onReset() {} }).state()).toEqual(i8042)
        expect(CmosRtc.fromState(rtc, clock).state()).toEqual({
          ...rtc,
          collectedMs: expect.any(Number),
          flags: expect.any(Number),
        })
      }),
      { numRuns: 500 },
    )
  })

  it('gets the same registers as ISA would give it: each device byte by byte', () => {
    fc.assert(
      fc.property(fc.array(access, { maxLength: 60, size: 'max' }), (accesses) => {
        const wide = createMachine()
        const narrow = createMachine()
        const data = new DataView(new ArrayBuffer(MAX_ACCESS_BYTES))
        for (const { write, address, size, value } of accesses) {
          const range = wide.pio.find(address)
          const whole = range !== undefined && address + size <= range.base + range.size
          if (!write || range?.base === EXIT_PORT || !whole) continue
          data.setBigUint64(0, value, true)
          wide.pio.write(address, data, 0, size)
          for (let i = 0; i < size; i++) narrow.pio.write(address + i, data, i, 1)
        }
        expect(wide.serial.state()).toEqual(narrow.serial.state())
        expect(wide.i8042.state()).toEqual(narrow.i8042.state())
        expect(wide.rtc.state()).toEqual(narrow.rtc.state())
      }),
    )
  })

  it('loses no interrupt: an edge is made for all data that it has not read', () => {
    // After any history, an interrupt handler that runs once per edge and reads until LSR is clear gets
    // everything.
    const typed = fc.array(
      fc.oneof(fc.integer({ min: 1, max: 40 }), fc.constantFrom('mask', 'unmask', 'print')),
    )
    fc.assert(
      fc.property(typed, (steps) => {
        const interrupt = new CountingInterrupt()
        const serial = new Serial({ interrupt })
        const [DATA, IER, FCR, LSR] = [0, 1, 2, 5]
        serial.write(FCR, 1)
        serial.write(IER, 1)
        let sent = 0
        let received = 0
        const handle = (): void => {
          while (interrupt.take() > 0) {
            while ((serial.read(LSR) & 1) !== 0) {
              serial.read(DATA)
              received += 1
            }
          }
        }
        for (const step of steps) {
          if (typeof step === 'number') sent += serial.enqueue(new Uint8Array(step))
          else if (step === 'mask') serial.write(IER, 0)
          else if (step === 'unmask') serial.write(IER, 1)
          else serial.write(DATA, 0x2e)
          handle()
        }
        serial.write(IER, 1)
        handle()
        expect(received).toBe(sent)
      }),
    )
  })
})
