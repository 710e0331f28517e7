import { PassThrough, Readable, Writable } from 'node:stream'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { connectInput } from '../../src/legacy/serial/input.ts'
import { boundedOutput } from '../../src/legacy/serial/output.ts'
import { FIFO_SIZE } from '../../src/legacy/serial/receive-fifo.ts'
import {
  DATA_OFFSET,
  FCR_ENABLE_BIT,
  FCR_OFFSET,
  IER_OFFSET,
  IER_RDA_BIT,
  LSR_DR_BIT,
  LSR_OFFSET,
  MCR_OFFSET,
  MCR_RTS_BIT,
} from '../../src/legacy/serial/registers.ts'
import { Serial, type SerialOptions } from '../../src/legacy/serial/serial.ts'
import { CountingInterrupt, ManualTime } from '../support.ts'

function createSerial(options: SerialOptions = {}) {
  const interrupt = new CountingInterrupt()
  const serial = new Serial({ interrupt, ...options })
  serial.write(FCR_OFFSET, FCR_ENABLE_BIT)
  serial.write(IER_OFFSET, IER_RDA_BIT)
  return { serial, interrupt }
}

/** What a driver takes in one interrupt: at most `limit` bytes. */
function takeInterrupt(serial: Serial, limit: number): number[] {
  const taken: number[] = []
  while (taken.length < limit && (serial.read(LSR_OFFSET) & LSR_DR_BIT) !== 0)
    taken.push(serial.read(DATA_OFFSET))
  return taken
}

describe('connectInput', () => {
  /** A UART fed by a stream, with the time in the test's hands. */
  function connect(options: SerialOptions = {}, source: Readable = new PassThrough()) {
    const time = new ManualTime(0)
    const parts = createSerial(options)
    const input = connectInput(source, parts.serial, { clock: time, timers: time })
    return { ...parts, time, source: source as PassThrough, input }
  }

  it('loses no byte of a long paste to a guest that reads only when interrupted', async () => {
    const paste = Uint8Array.from({ length: 100_000 }, (_, i) => i % 251)
    const { serial, interrupt, time, source } = connect()
    source.end(paste)
    const received: number[] = []
    let idleTurns = 0
    while (received.length < paste.length && idleTurns < 100) {
      time.advance(1)
      if (interrupt.take() > 0) {
        idleTurns = 0
        received.push(...takeInterrupt(serial, Number.POSITIVE_INFINITY))
      } else {
        idleTurns += 1
        await nextTurn()
      }
    }
    expect(Buffer.from(received).equals(paste)).toBe(true)
  })

  it('ends each interrupt after a FIFO, and leaves the guest three times as long as it took', async () => {
    const { serial, interrupt, time, source } = connect()
    source.write(new Uint8Array(100))
    await nextTurn()
    expect(interrupt.take()).toBe(1)
    time.advance(5)
    expect(takeInterrupt(serial, 100)).toHaveLength(FIFO_SIZE)
    time.advance(14)
    expect(interrupt.take()).toBe(0)
    time.advance(1)
    expect(interrupt.take()).toBe(1)
    time.advance(1_000_000)
    expect(takeInterrupt(serial, 100)).toHaveLength(FIFO_SIZE)
    time.advance(100)
    expect(interrupt.take()).toBe(1)
  })

  it('passes on at once what is typed with pauses', async () => {
    const { serial, interrupt, time, source } = connect()
    for (const key of ['a', 'b', 'c']) {
      source.write(key)
      await nextTurn()
      expect(interrupt.take()).toBe(1)
      expect(takeInterrupt(serial, 16)).toEqual([key.charCodeAt(0)])
      time.advance(50)
    }
    expect(time.pendingCount).toBe(0)
  })

  it('holds the stream back while the guest does not read', async () => {
    let produced = 0
    const source = new Readable({
      highWaterMark: 1024,
      read() {
        produced += 512
        this.push(Buffer.alloc(512))
      },
    })
    connect({}, source)
    for (let i = 0; i < 20; i++) await nextTurn()
    expect(source.isPaused()).toBe(true)
    expect(produced).toBeLessThan(8192)
    source.destroy()
  })

  it('keeps what is typed until the guest asserts RTS', async () => {
    const { serial, time, source } = connect({ flowControl: 'rts' })
    source.write('ls\n')
    await nextTurn()
    expect(takeInterrupt(serial, 16)).toEqual([])
    serial.write(MCR_OFFSET, MCR_RTS_BIT)
    time.advance(100)
    expect(Buffer.from(takeInterrupt(serial, 16)).toString()).toBe('ls\n')
  })

  it('takes streams of strings', async () => {
    const { serial } = connect({}, Readable.from(['é']))
    await nextTurn()
    expect(takeInterrupt(serial, 16)).toEqual([0xc3, 0xa9])
  })

  it('stops when closed, twice if need be', async () => {
    const { serial, time, source, input } = connect()
    source.write(new Uint8Array(100))
    await nextTurn()
    takeInterrupt(serial, 100)
    expect(time.pendingCount).toBe(1)
    input.close()
    input[Symbol.dispose]()
    expect(time.pendingCount).toBe(0)
    source.write('x')
    await nextTurn()
    expect(takeInterrupt(serial, 16)).toEqual([])
    expect(source.listenerCount('data')).toBe(0)
  })
})

describe('boundedOutput', () => {
  it('refuses what a stream that does not drain would have to hold', () => {
    const lost: number[] = []
    const stuck = new Writable({ write() {} })
    const serial = new Serial({
      output: boundedOutput(stuck, 100),
      scheduleFlush: (flush) => flush(),
      events: { outputLost: (count) => lost.push(count) },
    })
    for (let i = 0; i < 1000; i++) serial.write(DATA_OFFSET, 0x2e)
    expect(stuck.writableLength).toBe(100)
    expect(lost).toHaveLength(900)
  })

  it('refuses everything once the stream has ended, instead of raising its error', async () => {
    const lost: unknown[] = []
    const ended = new PassThrough()
    ended.end()
    const serial = new Serial({
      output: boundedOutput(ended),
      events: { outputLost: (_, cause) => lost.push(cause) },
    })
    serial.write(DATA_OFFSET, 0x2e)
    await nextTurn()
    expect(lost).toEqual([new Error('the output stream has ended')])
  })

  it('passes output on in order', async () => {
    const stream = new PassThrough()
    const serial = new Serial({ output: boundedOutput(stream) })
    for (const byte of Buffer.from('Linux version')) serial.write(DATA_OFFSET, byte)
    await nextTurn()
    expect(String(stream.read())).toBe('Linux version')
  })
})
