/**
 * Any sequence of accesses at any address does to guest memory what it does to one flat array with holes, and never
 * fails other than with a MemoryError.
 */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { GuestMemory, MemoryError } from '../src/index.ts'

const SIZE = 0x200
const RANGES = [
  { start: 0x10, size: 0x50 },
  { start: 0x60, size: 0x21 },
  { start: 0x100, size: 0x40 },
  { start: 0x140, size: 0x30 },
]

class Model {
  readonly bytes = new Uint8Array(SIZE)
  readonly isMemory = new Uint8Array(SIZE)

  constructor() {
    for (const { start, size } of RANGES) this.isMemory.fill(1, start, start + size)
  }

  /** Bytes of memory from an address on, up to a length. */
  count(address: number, length: number): number {
    let count = 0
    while (count < length && this.isMemory[address + count] === 1) count += 1
    return count
  }
}

function outcome<T>(call: () => T): T | 'refused' {
  try {
    return call()
  } catch (error) {
    if (error instanceof MemoryError) return 'refused'
    throw error
  }
}

const anyAddress = fc.oneof(
  { weight: 20, arbitrary: fc.integer({ min: -8, max: SIZE }) },
  { weight: 1, arbitrary: fc.constantFrom(Number.NaN, -Infinity, Infinity, 2 ** 53, 2 ** 64, -(2 ** 53)) },
)
const anyLength = fc.oneof(fc.integer({ min: 0, max: 70 }), fc.integer({ min: 0, max: SIZE }))
const operation = fc.record({
  kind: fc.constantFrom('write', 'read', 'fill', 'copy', 'scalar', 'atomic', 'check', 'slices'),
  address: anyAddress,
  other: fc.integer({ min: -8, max: SIZE }),
  length: anyLength,
  seed: fc.integer({ min: 1, max: 255 }),
  width: fc.constantFrom(1, 2, 4, 8),
})

function source(length: number, seed: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => i * 13 + seed)
}

test('behaves as a flat array with holes', () => {
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 30 }), (operations) => {
      const memory = GuestMemory.fromRanges(RANGES)
      const model = new Model()
      for (const { kind, address, other, length, seed, width } of operations) {
        const held = model.count(address, length)
        switch (kind) {
          case 'write': {
            const data = source(length, seed)
            expect(memory.write(address, data)).toBe(held)
            if (held > 0) model.bytes.set(data.subarray(0, held), address)
            break
          }
          case 'read': {
            const target = new Uint8Array(length)
            expect(memory.read(address, target)).toBe(held)
            if (held > 0) {
              expect(target.subarray(0, held)).toEqual(model.bytes.subarray(address, address + held))
            }
            break
          }
          case 'fill': {
            const result = outcome(() => memory.fill(address, length, seed))
            expect(result).toBe(held === length ? undefined : 'refused')
            if (held === length && length > 0) model.bytes.fill(seed, address, address + length)
            break
          }
          case 'copy': {
            const fits = held === length && model.count(other, length) === length
            expect(outcome(() => memory.copy(address, other, length))).toBe(fits ? undefined : 'refused')
            if (fits && length > 0) model.bytes.copyWithin(address, other, other + length)
            break
          }
          case 'scalar': {
            const fits = model.count(address, width) === width
            const value = seed * 0x0101_0101
            const write = () => {
              if (width === 1) memory.writeUint8(address, value)
              else if (width === 2) memory.writeUint16(address, value)
              else if (width === 4) memory.writeUint32(address, value)
              else memory.writeUint64(address, BigInt(value))
            }
            const result = outcome(write)
            expect(result).toBe(fits ? undefined : 'refused')
            if (!fits) {
              // What is held of a scalar at the end may have been written.
              const rest = new Uint8Array(model.count(address, width))
              memory.read(address, rest)
              if (rest.length > 0) model.bytes.set(rest, address)
              break
            }
            const bytes = new Uint8Array(new BigUint64Array([BigInt(value)]).buffer, 0, width)
            model.bytes.set(bytes, address)
            break
          }
          case 'atomic': {
            const aligned = Number.isSafeInteger(address) && address % 4 === 0
            const fits = model.count(address, 4) === 4 && aligned
            const value = seed * 0x0101_0101
            const result = outcome(() => memory.atomicStore32(address, value))
            expect(result).toBe(fits ? undefined : 'refused')
            if (fits) model.bytes.fill(seed, address, address + 4)
            break
          }
          case 'check':
            expect(memory.checkRange(address, length)).toBe(held === length)
            expect(memory.checkAddress(address)).toBe(model.count(address, 1) === 1)
            break
          case 'slices': {
            const pieces: Uint8Array[] = []
            const result = outcome(() => {
              for (const piece of memory.slices(address, length)) pieces.push(piece)
            })
            expect(result).toBe(held === length ? undefined : 'refused')
            expect(pieces.reduce((sum, piece) => sum + piece.length, 0)).toBe(held)
          }
        }
      }
      for (const { start, size, bytes } of memory.regions) {
        expect(bytes).toEqual(model.bytes.subarray(start, start + size))
      }
    }),
    { numRuns: 500 },
  )
})
