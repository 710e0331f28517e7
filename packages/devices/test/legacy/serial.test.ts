import { describe, expect, it } from 'vitest'
import { OUTPUT_CHUNK_BYTES } from '../../src/legacy/serial/output.ts'
import { FIFO_SIZE } from '../../src/legacy/serial/receive-fifo.ts'
import {
  DATA_OFFSET,
  DLL_OFFSET,
  DLM_OFFSET,
  FCR_CLEAR_RECEIVE_BIT,
  FCR_CLEAR_TRANSMIT_BIT,
  FCR_ENABLE_BIT,
  FCR_OFFSET,
  IER_MS_BIT,
  IER_OFFSET,
  IER_RDA_BIT,
  IER_RLS_BIT,
  IER_THRE_BIT,
  IIR_CTI,
  IIR_FIFO_BITS,
  IIR_MS,
  IIR_NONE,
  IIR_OFFSET,
  IIR_RDA,
  IIR_RLS,
  IIR_THRE,
  LCR_BREAK_BIT,
  LCR_DLAB_BIT,
  LCR_OFFSET,
  LSR_BI_BIT,
  LSR_DR_BIT,
  LSR_FIFO_ERROR_BIT,
  LSR_OE_BIT,
  LSR_OFFSET,
  LSR_TEMT_BIT,
  LSR_THRE_BIT,
  MCR_DTR_BIT,
  MCR_LOOP_BIT,
  MCR_OFFSET,
  MCR_OUT1_BIT,
  MCR_OUT2_BIT,
  MCR_RTS_BIT,
  MSR_CTS_BIT,
  MSR_DCD_BIT,
  MSR_DCTS_BIT,
  MSR_DDCD_BIT,
  MSR_DDSR_BIT,
  MSR_DSR_BIT,
  MSR_OFFSET,
  MSR_RI_BIT,
  MSR_TERI_BIT,
  SCR_OFFSET,
} from '../../src/legacy/serial/registers.ts'
import { SERIAL_SIZE, Serial, type SerialOptions } from '../../src/legacy/serial/serial.ts'
import { CountingInterrupt } from '../support.ts'

const IDLE = LSR_THRE_BIT | LSR_TEMT_BIT
const TRIGGER_14 = 0b1100_0000

/** A UART with its host's side recorded. Output is flushed at once. */
function createSerial(options: SerialOptions = {}) {
  const interrupt = new CountingInterrupt()
  const sent: number[] = []
  const output = { write: (chunk: Uint8Array) => void sent.push(...chunk) }
  const serial = new Serial({ interrupt, output, scheduleFlush: (flush) => flush(), ...options })
  return { serial, interrupt, sent }
}

function createFifoSerial(options: SerialOptions = {}) {
  const parts = createSerial(options)
  parts.serial.write(FCR_OFFSET, FCR_ENABLE_BIT)
  return parts
}

const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values)
const countTo = (count: number): Uint8Array => Uint8Array.from({ length: count }, (_, i) => i)
const identification = (serial: Serial): number => serial.read(IIR_OFFSET) & ~IIR_FIFO_BITS
const readAll = (serial: Serial): number[] => {
  const taken: number[] = []
  while ((serial.read(LSR_OFFSET) & LSR_DR_BIT) !== 0) taken.push(serial.read(DATA_OFFSET))
  return taken
}

describe('registers', () => {
  it('are those of an idle UART with a cable at reset', () => {
    const { serial, interrupt } = createSerial()
    expect(Array.from({ length: SERIAL_SIZE }, (_, offset) => serial.read(offset))).toEqual([
      0,
      0,
      IIR_NONE,
      0,
      0,
      IDLE,
      MSR_CTS_BIT | MSR_DSR_BIT | MSR_DCD_BIT,
      0,
    ])
    expect(interrupt.count).toBe(0)
  })

  it('keep what is written, but for bits that do not exist', () => {
    const { serial } = createSerial()
    for (const [offset, kept] of [
      [IER_OFFSET, 0x0f],
      [LCR_OFFSET, 0x7f],
      [MCR_OFFSET, 0x1f],
      [SCR_OFFSET, 0xff],
    ] as const) {
      serial.write(offset, kept === 0x7f ? 0x7f : 0xff)
      expect(serial.read(offset)).toBe(kept)
    }
  })

  it('hide the divisor behind DLAB', () => {
    const { serial, sent } = createSerial()
    serial.write(IER_OFFSET, IER_RDA_BIT)
    serial.write(LCR_OFFSET, LCR_DLAB_BIT)
    serial.write(DLL_OFFSET, 0x34)
    serial.write(DLM_OFFSET, 0x12)
    expect([serial.read(DLL_OFFSET), serial.read(DLM_OFFSET)]).toEqual([0x34, 0x12])
    serial.write(LCR_OFFSET, 0)
    expect([serial.read(DATA_OFFSET), serial.read(IER_OFFSET)]).toEqual([0, IER_RDA_BIT])
    expect(sent).toEqual([])
  })

  it('ignore writes of status registers, and offsets that do not exist', () => {
    const { serial } = createSerial()
    serial.write(LSR_OFFSET, 0)
    serial.write(MSR_OFFSET, 0)
    serial.write(SERIAL_SIZE, 0xff)
    expect(serial.read(LSR_OFFSET)).toBe(IDLE)
    expect(serial.read(MSR_OFFSET)).toBe(MSR_CTS_BIT | MSR_DSR_BIT | MSR_DCD_BIT)
    expect(serial.read(SERIAL_SIZE)).toBe(0)
  })

  it('tell a 16550A by both FIFO bits, while the FIFOs are on', () => {
    const { serial } = createSerial()
    serial.write(FCR_OFFSET, FCR_ENABLE_BIT)
    expect(serial.read(IIR_OFFSET)).toBe(IIR_FIFO_BITS | IIR_NONE)
    serial.write(FCR_OFFSET, 0)
    expect(serial.read(IIR_OFFSET)).toBe(IIR_NONE)
  })
})

describe('transmitter', () => {
  it('passes bytes on in order, and is empty again at once', () => {
    const { serial, sent } = createSerial()
    for (const byte of [0x68, 0x69, 0x00, 0xff]) {
      serial.write(DATA_OFFSET, byte)
      expect(serial.read(LSR_OFFSET)).toBe(IDLE)
    }
    expect(sent).toEqual([0x68, 0x69, 0x00, 0xff])
  })

  it('interrupts once per emptying that IIR has not told of', () => {
    const { serial, interrupt } = createSerial()
    serial.write(IER_OFFSET, IER_THRE_BIT)
    expect(interrupt.take()).toBe(1)
    expect(identification(serial)).toBe(IIR_THRE)
    expect(identification(serial)).toBe(IIR_NONE)
    for (let i = 0; i < FIFO_SIZE; i++) serial.write(DATA_OFFSET, i)
    expect(interrupt.take()).toBe(1)
    expect(identification(serial)).toBe(IIR_THRE)
    expect(identification(serial)).toBe(IIR_NONE)
  })

  it('does not interrupt while IER does not enable it', () => {
    const { serial, interrupt } = createSerial()
    serial.write(DATA_OFFSET, 1)
    expect(identification(serial)).toBe(IIR_NONE)
    expect(interrupt.count).toBe(0)
  })

  it('passes the test of the Linux driver: enabling makes the interrupt pending, every time', () => {
    const { serial } = createSerial()
    for (let i = 0; i < 3; i++) {
      serial.write(IER_OFFSET, IER_THRE_BIT)
      expect(identification(serial)).toBe(IIR_THRE)
      serial.write(IER_OFFSET, 0)
      expect(identification(serial)).toBe(IIR_NONE)
    }
  })

  it('tells the VMM of lost output, and the guest nothing', () => {
    const lost: [number, unknown][] = []
    const failure = new Error('disk full')
    const { serial, interrupt } = createSerial({
      output: {
        write() {
          throw failure
        },
      },
      events: { outputLost: (count, cause) => lost.push([count, cause]) },
    })
    serial.write(IER_OFFSET, IER_THRE_BIT)
    serial.read(IIR_OFFSET)
    interrupt.take()
    serial.write(DATA_OFFSET, 1)
    expect(lost).toEqual([[1, failure]])
    expect(interrupt.count).toBe(1)
    expect(identification(serial)).toBe(IIR_THRE)
    expect(serial.read(LSR_OFFSET)).toBe(IDLE)
  })
})

describe('collected output', () => {
  function collect(scheduleFlush?: SerialOptions['scheduleFlush']) {
    const chunks: number[][] = []
    const { serial } = createSerial({ output: { write: (chunk) => chunks.push([...chunk]) }, scheduleFlush })
    return { serial, chunks }
  }

  it('makes one chunk of what is transmitted before the next microtask', async () => {
    const { serial, chunks } = collect()
    serial.write(DATA_OFFSET, 1)
    serial.write(DATA_OFFSET, 2)
    expect(chunks).toEqual([])
    await Promise.resolve()
    expect(chunks).toEqual([[1, 2]])
    serial.write(DATA_OFFSET, 3)
    await Promise.resolve()
    expect(chunks).toEqual([[1, 2], [3]])
  })

  it('is written out by flush, and before it grows beyond a chunk', () => {
    let scheduled = 0
    const { serial, chunks } = collect(() => {
      scheduled += 1
    })
    for (let i = 0; i < OUTPUT_CHUNK_BYTES + 1; i++) serial.write(DATA_OFFSET, 7)
    expect(chunks.map((chunk) => chunk.length)).toEqual([OUTPUT_CHUNK_BYTES])
    expect(scheduled).toBe(1)
    serial.flush()
    serial.flush()
    expect(chunks.map((chunk) => chunk.length)).toEqual([OUTPUT_CHUNK_BYTES, 1])
  })

  it('hands out chunks that later output does not change', () => {
    const chunks: Uint8Array[] = []
    const { serial } = createSerial({ output: { write: (chunk) => chunks.push(chunk) } })
    serial.write(DATA_OFFSET, 1)
    serial.write(DATA_OFFSET, 2)
    expect(chunks.map((chunk) => [...chunk])).toEqual([[1], [2]])
  })
})

describe('receiver', () => {
  it('takes what fits the FIFO and says how much that was', () => {
    const { serial } = createFifoSerial()
    expect(serial.capacity).toBe(FIFO_SIZE)
    expect(serial.enqueue(countTo(FIFO_SIZE + 1))).toBe(FIFO_SIZE)
    expect(serial.enqueue(bytes())).toBe(0)
    expect(serial.enqueue(bytes(1))).toBe(0)
    expect(serial.read(DATA_OFFSET)).toBe(0)
    expect(serial.enqueue(bytes(FIFO_SIZE, 99))).toBe(1)
    expect(readAll(serial)).toEqual([...countTo(FIFO_SIZE + 1)].slice(1))
  })

  it('holds one byte while the FIFOs are off', () => {
    const { serial } = createSerial()
    expect(serial.enqueue(bytes(1, 2))).toBe(1)
    expect(readAll(serial)).toEqual([1])
  })

  it('shows data in LSR, and interrupts if enabled', () => {
    const { serial, interrupt } = createFifoSerial()
    serial.enqueue(bytes(1))
    expect(interrupt.take()).toBe(0)
    expect(serial.read(LSR_OFFSET)).toBe(IDLE | LSR_DR_BIT)
    serial.write(IER_OFFSET, IER_RDA_BIT)
    expect(interrupt.take()).toBe(1)
    expect(identification(serial)).toBe(IIR_RDA)
    serial.read(DATA_OFFSET)
    expect(identification(serial)).toBe(IIR_NONE)
    expect(serial.read(LSR_OFFSET)).toBe(IDLE)
  })

  it.each([
    [0b0000_0000, 1],
    [0b0100_0000, 4],
    [0b1000_0000, 8],
    [0b1100_0000, 14],
  ])(
    'with trigger level bits %i reports data from %i bytes on, and below that a time-out',
    (level, count) => {
      const { serial, interrupt } = createFifoSerial()
      serial.write(FCR_OFFSET, FCR_ENABLE_BIT | level)
      serial.write(IER_OFFSET, IER_RDA_BIT)
      if (count > 1) {
        serial.enqueue(countTo(count - 1))
        expect(interrupt.take()).toBe(1)
        expect(identification(serial)).toBe(IIR_CTI)
      }
      serial.enqueue(bytes(1))
      expect(identification(serial)).toBe(IIR_RDA)
      serial.read(DATA_OFFSET)
      expect(identification(serial)).toBe(count > 1 ? IIR_CTI : IIR_NONE)
    },
  )

  it('loses no input to a driver that turns interrupts off while it prints', () => {
    const { serial, interrupt } = createFifoSerial()
    serial.write(IER_OFFSET, IER_RDA_BIT | IER_RLS_BIT)
    const enabled = serial.read(IER_OFFSET)
    serial.write(IER_OFFSET, 0)
    serial.enqueue(bytes(1))
    serial.write(DATA_OFFSET, 0x41)
    expect(interrupt.take()).toBe(0)
    serial.write(IER_OFFSET, enabled)
    expect(interrupt.take()).toBe(1)
    expect(readAll(serial)).toEqual([1])
  })

  it('interrupts again for data that arrives on top of unread data', () => {
    const { serial, interrupt } = createFifoSerial()
    serial.write(IER_OFFSET, IER_RDA_BIT)
    serial.enqueue(bytes(1))
    serial.enqueue(bytes(2))
    expect(interrupt.take()).toBe(2)
  })

  it('is emptied by the FIFO control register', () => {
    const { serial } = createFifoSerial()
    for (const control of [FCR_ENABLE_BIT | FCR_CLEAR_RECEIVE_BIT, 0, FCR_ENABLE_BIT]) {
      serial.enqueue(bytes(1))
      serial.write(FCR_OFFSET, control)
      expect(serial.read(LSR_OFFSET) & LSR_DR_BIT).toBe(0)
    }
  })

  it('is not emptied by the other bits, nor by its own bit without the enable bit', () => {
    const { serial } = createFifoSerial()
    serial.enqueue(bytes(1))
    serial.write(FCR_OFFSET, FCR_ENABLE_BIT | FCR_CLEAR_TRANSMIT_BIT | TRIGGER_14)
    expect(readAll(serial)).toEqual([1])
    serial.write(FCR_OFFSET, 0)
    serial.enqueue(bytes(2))
    serial.write(FCR_OFFSET, FCR_CLEAR_RECEIVE_BIT)
    expect(readAll(serial)).toEqual([2])
  })

  it('says when there is room: the FIFO read empty, emptied, or the line open again', () => {
    const { serial } = createFifoSerial()
    let ready = 0
    serial.onReceiveReady(() => {
      ready += 1
    })
    serial.enqueue(bytes(1, 2))
    serial.read(DATA_OFFSET)
    expect(ready).toBe(0)
    serial.read(DATA_OFFSET)
    expect(ready).toBe(1)
    serial.read(DATA_OFFSET)
    expect(ready).toBe(1)
    serial.enqueue(bytes(1))
    serial.write(FCR_OFFSET, FCR_ENABLE_BIT | FCR_CLEAR_RECEIVE_BIT)
    expect(ready).toBe(2)
    serial.write(MCR_OFFSET, MCR_LOOP_BIT)
    expect(ready).toBe(2)
    serial.write(MCR_OFFSET, 0)
    expect(ready).toBe(3)
  })

  it('with RTS flow control takes input only while the guest asserts RTS', () => {
    const { serial } = createFifoSerial({ flowControl: 'rts' })
    let ready = 0
    serial.onReceiveReady(() => {
      ready += 1
    })
    expect(serial.enqueue(bytes(1))).toBe(0)
    serial.write(MCR_OFFSET, MCR_DTR_BIT | MCR_RTS_BIT)
    expect(ready).toBe(1)
    expect(serial.enqueue(bytes(1))).toBe(1)
    serial.write(MCR_OFFSET, MCR_DTR_BIT)
    expect(serial.capacity).toBe(0)
  })

  it('delivers a break with its byte, as a line status interrupt', () => {
    const { serial, interrupt } = createFifoSerial()
    serial.write(IER_OFFSET, IER_RDA_BIT | IER_RLS_BIT)
    serial.enqueue(bytes(0x61))
    interrupt.take()
    expect(serial.sendBreak()).toBe(true)
    serial.enqueue(bytes(0x62))
    expect(identification(serial)).toBe(IIR_RDA)
    expect(serial.read(LSR_OFFSET)).toBe(IDLE | LSR_DR_BIT | LSR_FIFO_ERROR_BIT)
    expect(serial.read(DATA_OFFSET)).toBe(0x61)
    expect(identification(serial)).toBe(IIR_RLS)
    expect(serial.read(LSR_OFFSET)).toBe(IDLE | LSR_DR_BIT | LSR_BI_BIT | LSR_FIFO_ERROR_BIT)
    expect(serial.read(LSR_OFFSET)).toBe(IDLE | LSR_DR_BIT)
    expect([serial.read(DATA_OFFSET), serial.read(DATA_OFFSET)]).toEqual([0, 0x62])
    serial.enqueue(countTo(FIFO_SIZE))
    expect(serial.sendBreak()).toBe(false)
  })
})

describe('the FIFO error bit', () => {
  it('goes with the last byte that carries an error, whether LSR was read or not', () => {
    const { serial } = createFifoSerial()
    serial.sendBreak()
    serial.read(DATA_OFFSET)
    serial.enqueue(bytes(1))
    expect(serial.read(LSR_OFFSET)).toBe(IDLE | LSR_DR_BIT)
    serial.sendBreak()
    serial.write(FCR_OFFSET, FCR_ENABLE_BIT | FCR_CLEAR_RECEIVE_BIT)
    serial.enqueue(bytes(1))
    expect(serial.read(LSR_OFFSET)).toBe(IDLE | LSR_DR_BIT)
  })

  it('does not exist while the FIFOs are off', () => {
    const { serial } = createSerial()
    serial.sendBreak()
    expect(serial.read(LSR_OFFSET)).toBe(IDLE | LSR_DR_BIT | LSR_BI_BIT)
  })
})

describe('loopback', () => {
  it('receives what is sent, and sends nothing', () => {
    const { serial, sent, interrupt } = createFifoSerial()
    serial.write(IER_OFFSET, IER_RDA_BIT)
    serial.write(MCR_OFFSET, MCR_LOOP_BIT)
    serial.write(DATA_OFFSET, 0x61)
    expect(interrupt.take()).toBe(1)
    expect(readAll(serial)).toEqual([0x61])
    expect(sent).toEqual([])
  })

  it('shows the Linux driver a FIFO of its true size', () => {
    const { serial } = createSerial()
    let overruns = 0
    const counted = new Serial({ events: { overrun: () => overruns++ } })
    for (const uart of [serial, counted]) {
      uart.write(FCR_OFFSET, FCR_ENABLE_BIT | FCR_CLEAR_RECEIVE_BIT | FCR_CLEAR_TRANSMIT_BIT)
      uart.write(MCR_OFFSET, MCR_LOOP_BIT)
      for (let i = 0; i < 256; i++) uart.write(DATA_OFFSET, i)
      expect(uart.read(LSR_OFFSET) & LSR_OE_BIT).toBe(LSR_OE_BIT)
      expect(uart.read(LSR_OFFSET) & LSR_OE_BIT).toBe(0)
      expect(readAll(uart)).toEqual([...countTo(FIFO_SIZE)])
    }
    expect(overruns).toBe(256 - FIFO_SIZE)
  })

  it('overwrites the single buffer while the FIFOs are off', () => {
    const { serial, interrupt } = createSerial()
    serial.write(IER_OFFSET, IER_RLS_BIT)
    serial.write(MCR_OFFSET, MCR_LOOP_BIT)
    serial.write(DATA_OFFSET, 1)
    expect(interrupt.take()).toBe(0)
    serial.write(DATA_OFFSET, 2)
    expect(interrupt.take()).toBe(1)
    expect(identification(serial)).toBe(IIR_RLS)
    expect(serial.read(LSR_OFFSET)).toBe(IDLE | LSR_DR_BIT | LSR_OE_BIT)
    expect(identification(serial)).toBe(IIR_NONE)
    expect(readAll(serial)).toEqual([2])
  })

  it('shows the modem control lines in the modem status', () => {
    const { serial } = createSerial()
    for (const [control, line] of [
      [MCR_RTS_BIT, MSR_CTS_BIT],
      [MCR_DTR_BIT, MSR_DSR_BIT],
      [MCR_OUT1_BIT, MSR_RI_BIT],
      [MCR_OUT2_BIT, MSR_DCD_BIT],
      // What Linux's autoconfig expects of a UART.
      [MCR_OUT2_BIT | MCR_RTS_BIT, MSR_DCD_BIT | MSR_CTS_BIT],
    ] as const) {
      serial.write(MCR_OFFSET, MCR_LOOP_BIT | control)
      expect(serial.read(MSR_OFFSET) & 0xf0).toBe(line)
    }
  })

  it('cuts the line: input waits on the host', () => {
    const { serial } = createFifoSerial()
    serial.write(MCR_OFFSET, MCR_LOOP_BIT)
    expect(serial.enqueue(bytes(1))).toBe(0)
  })

  it('receives its own break', () => {
    const { serial } = createFifoSerial()
    serial.write(MCR_OFFSET, MCR_LOOP_BIT)
    serial.write(LCR_OFFSET, LCR_BREAK_BIT)
    expect(serial.read(LSR_OFFSET)).toBe(IDLE | LSR_DR_BIT | LSR_BI_BIT | LSR_FIFO_ERROR_BIT)
  })
})

describe('modem status', () => {
  it('reports changes until read, and interrupts', () => {
    const { serial, interrupt } = createSerial()
    serial.write(IER_OFFSET, IER_MS_BIT)
    serial.setModemLines(MSR_RI_BIT)
    expect(interrupt.take()).toBe(1)
    expect(identification(serial)).toBe(IIR_MS)
    expect(serial.read(MSR_OFFSET)).toBe(MSR_RI_BIT | MSR_DCTS_BIT | MSR_DDSR_BIT | MSR_DDCD_BIT)
    expect(identification(serial)).toBe(IIR_NONE)
    expect(serial.read(MSR_OFFSET)).toBe(MSR_RI_BIT)
    serial.setModemLines(0)
    expect(serial.read(MSR_OFFSET)).toBe(MSR_TERI_BIT)
  })
})

describe('interrupt identification', () => {
  it('goes by priority: line status, data, transmitter, modem', () => {
    const { serial } = createFifoSerial()
    serial.write(IER_OFFSET, IER_RDA_BIT | IER_THRE_BIT | IER_RLS_BIT | IER_MS_BIT)
    serial.setModemLines(0)
    serial.sendBreak()
    expect(identification(serial)).toBe(IIR_RLS)
    serial.read(LSR_OFFSET)
    expect(identification(serial)).toBe(IIR_RDA)
    serial.read(DATA_OFFSET)
    expect(identification(serial)).toBe(IIR_THRE)
    expect(identification(serial)).toBe(IIR_MS)
    serial.read(MSR_OFFSET)
    expect(identification(serial)).toBe(IIR_NONE)
  })
})

describe('events', () => {
  it('count bytes both ways', () => {
    let received = 0
    let sent = 0
    const { serial } = createFifoSerial({
      events: {
        byteReceived: () => {
          received += 1
        },
        byteSent: () => {
          sent += 1
        },
      },
    })
    serial.enqueue(bytes(1, 2, 3))
    readAll(serial)
    serial.read(DATA_OFFSET)
    serial.write(DATA_OFFSET, 1)
    expect([received, sent]).toEqual([3, 1])
  })
})
