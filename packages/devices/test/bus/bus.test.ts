import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  type Bus,
  createMmioBus,
  createPioBus,
  MAX_ACCESS_BYTES,
  MMIO_SPACE_SIZE,
  PIO_SPACE_SIZE,
} from '../../src/bus/bus.ts'
import type { BusDevice } from '../../src/bus/device.ts'
import { DevicesError } from '../../src/error.ts'
import { codeThrownBy } from '../support.ts'

type Access = ['read' | 'write', number, number, number?]

/** Records what reaches it; reads give the offset of each byte. */
class RecordingDevice implements BusDevice {
  readonly log: Access[] = []
  readonly accessBytes: 1 | 2 | 4 | undefined

  constructor(accessBytes?: 1 | 2 | 4) {
    this.accessBytes = accessBytes
  }

  read(offset: number, size: number): number {
    this.log.push(['read', offset, size])
    let value = 0
    for (let i = size - 1; i >= 0; i--) value = value * 256 + ((offset + i) & 0xff)
    return value
  }

  write(offset: number, value: number, size: number): void {
    this.log.push(['write', offset, size, value])
  }
}

const BASE = 0x1000
const SIZE = 0x100
const window = new DataView(new ArrayBuffer(16))

function readBytes(bus: Bus, address: number, size: number): number[] {
  bus.read(address, window, 4, size)
  return Array.from({ length: size }, (_, i) => window.getUint8(4 + i))
}

function writeBytes(bus: Bus, address: number, ...bytes: number[]): void {
  for (const [i, byte] of bytes.entries()) window.setUint8(4 + i, byte)
  bus.write(address, window, 4, bytes.length)
}

describe('ranges', () => {
  it('answers from the first to the last address of a range and nowhere else', () => {
    const bus = createPioBus()
    const device = new RecordingDevice()
    bus.register({ base: 10, size: 10, device })
    for (let address = 10; address <= 19; address++) expect(bus.find(address)?.device).toBe(device)
    expect(bus.find(9)).toBeUndefined()
    expect(bus.find(20)).toBeUndefined()
  })

  it.each([
    ['the same', 10, 10],
    ['the left end', 1, 10],
    ['the right end', 19, 10],
    ['all of it', 1, 119],
    ['its inside', 12, 1],
  ])('refuses a range that overlaps %s', (_, base, size) => {
    const bus = createPioBus()
    bus.register({ base: 10, size: 10, device: new RecordingDevice(), name: 'first' })
    const second = { base, size, device: new RecordingDevice(), name: 'second' }
    expect(bus.findOverlap(base, size)?.name).toBe('first')
    expect(() => bus.register(second)).toThrowError(/second .* overlaps first|first .* overlaps second/)
    expect(codeThrownBy(() => bus.register(second))).toBe('ERR_BUS_RANGE_OVERLAP')
    expect(bus.ranges).toHaveLength(1)
  })

  it('takes neighbours', () => {
    const bus = createPioBus()
    bus.register({ base: 10, size: 10, device: new RecordingDevice() })
    expect(bus.findOverlap(20, 5)).toBeUndefined()
    bus.register({ base: 20, size: 5, device: new RecordingDevice() })
    bus.register({ base: 0, size: 10, device: new RecordingDevice() })
    expect(bus.ranges.map((range) => range.base)).toEqual([0, 10, 20])
  })

  it.each([
    ['empty', 0, 0],
    ['negative', 0, -1],
    ['fractional', 0, 1.5],
    ['infinite', 0, Number.POSITIVE_INFINITY],
    ['at a negative address', -1, 1],
    ['at no number', Number.NaN, 1],
    ['over the end', PIO_SPACE_SIZE - 1, 2],
    ['beyond the end', PIO_SPACE_SIZE, 1],
  ])('refuses a range that is %s', (_, base, size) => {
    const bus = createPioBus()
    const register = (): void => bus.register({ base, size, device: new RecordingDevice() })
    expect(codeThrownBy(register)).toBe('ERR_BUS_RANGE_INVALID')
  })

  it('takes the whole space', () => {
    const bus = createMmioBus()
    const device = new RecordingDevice()
    bus.register({ base: 0, size: MMIO_SPACE_SIZE, device })
    expect(bus.find(MMIO_SPACE_SIZE - 1)?.device).toBe(device)
  })

  it('registers several ranges or, when one is refused, none', () => {
    const bus = createPioBus()
    const device = new RecordingDevice()
    bus.register({ base: 0x40, size: 8, device })
    const good = { base: 0x10, size: 8, device }
    expect(codeThrownBy(() => bus.register(good, { base: 0x44, size: 8, device }))).toBe(
      'ERR_BUS_RANGE_OVERLAP',
    )
    expect(codeThrownBy(() => bus.register(good, { base: 0x14, size: 8, device }))).toBe(
      'ERR_BUS_RANGE_OVERLAP',
    )
    expect(codeThrownBy(() => bus.register(good, { base: 0x80, size: 0, device }))).toBe(
      'ERR_BUS_RANGE_INVALID',
    )
    expect(bus.ranges.map((range) => range.base)).toEqual([0x40])
    bus.register(good, { base: 0x80, size: 8, device })
    expect(bus.deregisterDevice(device)).toBe(3)
    expect(bus.ranges).toHaveLength(0)
    expect(bus.deregisterDevice(device)).toBe(0)
  })

  it('registers again what was deregistered', () => {
    const bus = createPioBus()
    const device = new RecordingDevice()
    bus.register({ base: BASE, size: SIZE, device })
    expect(bus.deregister(BASE)).toBe(device)
    expect(bus.find(BASE)).toBeUndefined()
    expect(codeThrownBy(() => bus.deregister(BASE))).toBe('ERR_BUS_RANGE_UNKNOWN')
    bus.register({ base: BASE, size: SIZE, device })
    expect(bus.find(BASE)?.device).toBe(device)
  })

  it('lets a device deregister itself from inside its own access', () => {
    const bus = createPioBus()
    const offsets: number[] = []
    const device: BusDevice = {
      accessBytes: 1,
      read: () => 0,
      write(offset) {
        offsets.push(offset)
        bus.deregisterDevice(device)
      },
    }
    bus.register({ base: BASE, size: SIZE, device })
    writeBytes(bus, BASE, 1, 2)
    expect(offsets).toEqual([0, 1])
    expect(bus.ranges).toHaveLength(0)
  })

  it('finds what a linear search finds', () => {
    const layout = fc.array(fc.tuple(fc.integer({ min: 0, max: 20 }), fc.integer({ min: 1, max: 20 })), {
      maxLength: 20,
    })
    fc.assert(
      fc.property(layout, fc.array(fc.integer({ min: 0, max: 900 })), (gaps, addresses) => {
        const bus = createPioBus()
        let base = 0
        const ranges = gaps.map(([gap, size]) => {
          const range = { base: base + gap, size, device: new RecordingDevice() }
          base += gap + size
          return range
        })
        bus.register(...[...ranges].reverse())
        for (const address of addresses) {
          const expected = ranges.find((range) => address >= range.base && address < range.base + range.size)
          expect(bus.find(address)?.device).toBe(expected?.device)
        }
      }),
    )
  })
})

describe('accesses', () => {
  it('pass the offset into the device, and a size', () => {
    const bus = createPioBus()
    const device = new RecordingDevice()
    bus.register({ base: BASE, size: SIZE, device })
    expect(readBytes(bus, BASE + 8, 4)).toEqual([8, 9, 10, 11])
    writeBytes(bus, BASE + 2, 0x34, 0x12)
    writeBytes(bus, BASE, 0xef, 0xbe, 0xad, 0xde)
    expect(device.log).toEqual([
      ['read', 8, 4],
      ['write', 2, 2, 0x1234],
      ['write', 0, 4, 0xdeadbeef],
    ])
  })

  it('take the whole window, or what is left of it, unless told otherwise', () => {
    const bus = createPioBus()
    const device = new RecordingDevice()
    bus.register({ base: BASE, size: SIZE, device })
    const data = new DataView(new ArrayBuffer(4))
    bus.read(BASE, data)
    bus.write(BASE, data)
    bus.write(BASE, data, 2)
    expect(device.log).toEqual([
      ['read', 0, 4],
      ['write', 0, 4, 0x03020100],
      ['write', 0, 2, 0x0302],
    ])
  })

  it('add the offset at which a range lies in its device', () => {
    const bus = createPioBus()
    const device = new RecordingDevice()
    bus.register({ base: BASE, size: 1, device }, { base: BASE + 0x10, size: 4, device, offset: 4 })
    expect(readBytes(bus, BASE, 1)).toEqual([0])
    expect(readBytes(bus, BASE + 0x12, 2)).toEqual([6, 7])
  })

  it.each([
    [undefined, 8, [4, 4]],
    [undefined, 7, [4, 2, 1]],
    [undefined, 3, [2, 1]],
    [2, 8, [2, 2, 2, 2]],
    [2, 5, [2, 2, 1]],
    [1, 4, [1, 1, 1, 1]],
  ] as const)('reach a device of %s bytes in pieces: %i bytes as %j', (accessBytes, size, pieces) => {
    const bus = createMmioBus()
    const device = new RecordingDevice(accessBytes)
    bus.register({ base: BASE, size: SIZE, device })
    const bytes = Array.from({ length: size }, (_, i) => 0x10 + i)
    expect(readBytes(bus, BASE + 0x10, size)).toEqual(bytes)
    writeBytes(bus, BASE + 0x10, ...bytes)
    const sizes = (verb: string): number[] =>
      device.log.filter((access) => access[0] === verb).map((access) => access[2])
    expect(sizes('read')).toEqual(pieces)
    expect(sizes('write')).toEqual(pieces)
    const [, offset, first, value] = device.log[pieces.length] ?? []
    expect([offset, value]).toEqual([0x10, Number(`0x13121110`) % 2 ** (8 * (first ?? 0))])
  })

  it('cut off what a device returns beyond the size, and take no number for 0', () => {
    const bus = createPioBus()
    const returns = (value: unknown): BusDevice => ({ read: () => value as number, write() {} })
    bus.register(
      { base: 0, size: 4, device: returns(0x1_2345_6789) },
      { base: 4, size: 4, device: returns(-1) },
      { base: 8, size: 4, device: returns(undefined) },
    )
    expect(readBytes(bus, 0, 1)).toEqual([0x89])
    expect(readBytes(bus, 0, 4)).toEqual([0x89, 0x67, 0x45, 0x23])
    expect(readBytes(bus, 4, 2)).toEqual([0xff, 0xff])
    expect(readBytes(bus, 8, 4)).toEqual([0, 0, 0, 0])
  })

  it('give ones where nothing is, drop writes, and report both', () => {
    const seen: Access[] = []
    const bus = createPioBus({
      unmappedRead: (address, size) => seen.push(['read', address, size]),
      unmappedWrite: (address, size) => seen.push(['write', address, size]),
    })
    expect(readBytes(bus, 0xcfc, 4)).toEqual([0xff, 0xff, 0xff, 0xff])
    writeBytes(bus, 0x80, 1)
    expect(seen).toEqual([
      ['read', 0xcfc, 4],
      ['write', 0x80, 1],
    ])
  })

  it('that cross the end of a range do not reach the device', () => {
    const bus = createPioBus()
    const device = new RecordingDevice()
    const next = new RecordingDevice()
    bus.register({ base: BASE, size: 4, device }, { base: BASE + 4, size: 4, device: next })
    expect(readBytes(bus, BASE + 2, 4)).toEqual([0xff, 0xff, 0xff, 0xff])
    writeBytes(bus, BASE + 3, 1, 2)
    expect([device.log, next.log]).toEqual([[], []])
  })

  it.each([0, -1, 9, 1.5, Number.NaN])('of %d bytes are refused', (size) => {
    const bus = createPioBus()
    expect(codeThrownBy(() => bus.read(0, window, 0, size))).toBe('ERR_BUS_ACCESS')
    expect(codeThrownBy(() => bus.write(0, window, 0, size))).toBe('ERR_BUS_ACCESS')
  })

  it.each([-1, window.byteLength - 3, 0.5])('outside the window are refused: 4 bytes at %d', (at) => {
    const bus = createPioBus()
    expect(codeThrownBy(() => bus.read(0, window, at, 4))).toBe('ERR_BUS_ACCESS')
    expect(codeThrownBy(() => bus.write(0, window, at, 4))).toBe('ERR_BUS_ACCESS')
  })

  it('never touch bytes outside their window', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: MAX_ACCESS_BYTES }),
        fc.nat(8),
        fc.boolean(),
        (size, at, mapped) => {
          const bus = createPioBus()
          if (mapped) bus.register({ base: 0, size: 0x100, device: { read: () => 0x5555_5555, write() {} } })
          const data = new DataView(new ArrayBuffer(16))
          bus.read(0x10, data, at, size)
          for (let i = 0; i < 16; i++) {
            const inside = i >= at && i < at + size
            expect(data.getUint8(i)).toBe(inside ? (mapped ? 0x55 : 0xff) : 0)
          }
        },
      ),
    )
  })
})

describe('a device whose code throws', () => {
  const cause = new TypeError('its bug')
  const broken: BusDevice = {
    read() {
      throw cause
    },
    write() {
      throw cause
    },
  }

  it('ends the access with an error that names device, address and cause', () => {
    const bus = createPioBus()
    bus.register({ base: BASE, size: SIZE, device: broken, name: 'sound card' })
    for (const access of [() => bus.read(BASE + 4, window, 0, 2), () => bus.write(BASE + 4, window, 0, 2)]) {
      expect(access).toThrowError(DevicesError)
      expect(access).toThrowError(
        /^pio: sound card failed to (read|write) 2 bytes at 0x1004: TypeError: its bug$/,
      )
      try {
        access()
      } catch (error) {
        expect(error).toMatchObject({
          code: 'ERR_DEVICE_FAILED',
          address: BASE + 4,
          size: 2,
          device: 'sound card',
          cause,
        })
      }
    }
  })

  it('is reported instead, and the read gives ones, when the VMM asks to be told', () => {
    const errors: DevicesError[] = []
    const bus = createPioBus({ deviceFailed: (error) => errors.push(error) })
    bus.register({ base: BASE, size: SIZE, device: broken })
    expect(readBytes(bus, BASE, 8)).toEqual(Array(8).fill(0xff))
    writeBytes(bus, BASE, 1)
    expect(errors.map((error) => error.code)).toEqual(['ERR_DEVICE_FAILED', 'ERR_DEVICE_FAILED'])
    expect(errors[0]?.device).toBe('device at 0x1000')
  })
})
