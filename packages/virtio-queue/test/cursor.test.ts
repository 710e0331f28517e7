import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { DescriptorChain } from '../src/index.ts'
import { POP_BUFFER_ADDRESS, POP_OK, Reader, Writer } from '../src/index.ts'
import type { MockBuffer, MockMemory } from '../src/testing/index.ts'
import { at, setUp } from './helpers.ts'

const OUTSIDE = 0x8000_0000

/** A chain with buffers of these lengths, each on a page of its own; negative ones are outside memory. */
function chainOf(
  readable: readonly number[],
  writable: readonly number[] = [],
): { chain: DescriptorChain; memory: MockMemory } {
  const { memory, driver, queue, chain } = setUp({}, 16, [{ start: 0, size: 0x2_0000 }])
  const list: MockBuffer[] = [...readable, ...writable].map((length, i) => ({
    address: length < 0 ? OUTSIDE : at(i),
    length: Math.abs(length),
    writable: i >= readable.length,
  }))
  driver.send(list)
  const isMapped = [...readable, ...writable].every((length) => length >= 0)
  expect(queue.pop(chain)).toBe(isMapped ? POP_OK : POP_BUFFER_ADDRESS)
  return { chain, memory }
}

const counting = (length: number, from = 1): Uint8Array => Uint8Array.from({ length }, (_, i) => from + i)

describe('a reader', () => {
  test('reads scalars in little-endian and counts', () => {
    const { chain, memory } = chainOf([16], [8])
    memory.write(at(0), Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 0, 0, 0))
    const reader = chain.reader()
    expect([reader.available, reader.consumed]).toEqual([16, 0])
    expect(reader.readUint8()).toBe(1)
    expect(reader.readUint16()).toBe(0x0302)
    expect(reader.readUint32()).toBe(0x07060504)
    expect(reader.readUint64()).toBe(0x0d0c_0b0a_0908)
    expect([reader.available, reader.consumed, reader.failed]).toEqual([1, 15, false])
  })

  test('reads scalars shattered over descriptors', () => {
    const { chain, memory } = chainOf([1, 2, 1, 3, 1, 1, 1, 1, 5])
    let next = 1
    for (const [i, length] of [1, 2, 1, 3, 1, 1, 1, 1, 5].entries()) {
      memory.write(at(i), counting(length, next))
      next += length
    }
    const reader = chain.reader()
    expect(reader.readUint16()).toBe(0x0201)
    expect(reader.readUint32()).toBe(0x06050403)
    // 0x0e0d0c0b0a090807
    expect(reader.readUint64()).toBe(Number.POSITIVE_INFINITY)
    expect(reader.consumed).toBe(14)
    expect(reader.failed).toBe(false)
  })

  test('never rounds 64 bits to a number that passes', () => {
    const { chain, memory } = chainOf([16])
    const { view } = memory.regions[0] as { view: DataView }
    view.setBigUint64(at(0), 2n ** 53n - 1n, true)
    view.setBigUint64(at(0) + 8, 2n ** 53n, true)
    const reader = chain.reader()
    expect(reader.readUint64()).toBe(Number.MAX_SAFE_INTEGER)
    expect(reader.readUint64()).toBe(Number.POSITIVE_INFINITY)
    expect(reader.failed).toBe(false)
  })

  test.each(['readUint8', 'readUint16', 'readUint32', 'readUint64'] as const)(
    '%s past the end gives 0 and fails',
    (method) => {
      const reader = chainOf([7]).chain.reader()
      reader.skip(method === 'readUint64' ? 4 : 7)
      expect(reader.failed).toBe(false)
      expect(reader[method]()).toBe(0)
      expect(reader.failed).toBe(true)
    },
  )

  test('sees nothing writable, and a writer nothing readable', () => {
    const { chain } = chainOf([4], [5])
    expect(chain.reader().available).toBe(4)
    expect(chain.writer().available).toBe(5)
    expect(chainOf([], [5]).chain.reader().available).toBe(0)
    expect(chainOf([4]).chain.writer().available).toBe(0)
  })

  test('is rewound by each call, beside readers of one’s own', () => {
    const { chain } = chainOf([4])
    const own = new Reader().attach(chain)
    chain.reader().skip(3)
    chain.reader().readUint64()
    expect(chain.reader().failed).toBe(false)
    expect(chain.reader().available).toBe(4)
    expect(own.available).toBe(4)
  })

  test('copies whole or as much as there is', () => {
    const { chain, memory } = chainOf([3, 100, 2])
    memory.write(at(0), counting(3))
    memory.write(at(1), counting(100, 4))
    memory.write(at(2), counting(2, 104))
    const target = new Uint8Array(110)
    expect(chain.reader().read(target, 2)).toBe(105)
    expect(target.subarray(2, 107)).toEqual(counting(105))
    expect(chain.reader().read(target, 0, 4)).toBe(4)
    const reader = chain.reader()
    expect(reader.readFull(target)).toBe(false)
    expect([reader.failed, reader.consumed]).toEqual([true, 0])
    expect(chain.reader().readFull(target, 5)).toBe(true)
  })

  test('gives pieces for iovecs', () => {
    const { chain, memory } = chainOf([16, 32, 8])
    const reader = chain.reader()
    reader.skip(10)
    const pieces: number[][] = []
    for (let length = reader.takePiece(20); length > 0; length = reader.takePiece(20)) {
      expect(reader.pieceRegion).toBe(memory.regions[0])
      pieces.push([reader.pieceOffset, length])
    }
    expect(pieces).toEqual([
      [at(0) + 10, 6],
      [at(1), 20],
      [at(1) + 20, 12],
      [at(2), 8],
    ])
    expect(reader.failed).toBe(false)
  })

  test.each([0, 3, 4, 7, 10])('splits at %i', (length) => {
    const { chain, memory } = chainOf([4, 6])
    memory.write(at(0), counting(4))
    memory.write(at(1), counting(6, 5))
    const reader = chain.reader()
    const tail = new Reader()
    expect(reader.splitAt(length, tail)).toBe(true)
    const [head, rest] = [new Uint8Array(10), new Uint8Array(10)]
    expect([reader.available, tail.available]).toEqual([length, 10 - length])
    expect([reader.read(head), tail.read(rest)]).toEqual([length, 10 - length])
    expect([...head.subarray(0, length), ...rest.subarray(0, 10 - length)]).toEqual([...counting(10)])
    expect([...head.subarray(length), ...rest.subarray(10 - length)].every((byte) => byte === 0)).toBe(true)
    expect([reader.consumed, tail.consumed]).toEqual([length, 10 - length])
    expect(reader.readUint8()).toBe(0)
    expect(reader.failed).toBe(true)
  })

  test.each([11, -1, Number.NaN, Number.POSITIVE_INFINITY])(
    'does not split or skip %d bytes of 10',
    (length) => {
      const { chain } = chainOf([4, 6])
      const [reader, tail] = [chain.reader(), new Reader()]
      expect(reader.splitAt(length, tail)).toBe(false)
      expect(reader.skip(length)).toBe(false)
      expect([reader.available, reader.failed]).toEqual([10, true])
    },
  )

  test('stops at memory that does not exist, and skips it', () => {
    const { chain } = chainOf([4, -8, 4])
    const reader = chain.reader()
    expect(reader.available).toBe(16)
    reader.readUint32()
    expect(reader.read(new Uint8Array(8))).toBe(0)
    expect(reader.failed).toBe(true)
    const other = chain.reader()
    expect(other.skip(6)).toBe(true)
    expect(other.takePiece()).toBe(0)
    expect(other.skip(6)).toBe(true)
    expect(other.takePiece()).toBe(4)
    const shattered = chain.reader()
    expect(shattered.readUint64()).toBe(0)
    expect(shattered.failed).toBe(true)
  })
})

describe('a writer', () => {
  test('writes scalars in little-endian, whole or shattered, and notes them', () => {
    const { chain, memory } = chainOf([4], [1, 2, 1, 3, 8])
    const writer = chain.writer()
    expect(writer.writeUint16(0x0201)).toBe(true)
    expect(writer.writeUint32(0x06050403)).toBe(true)
    expect(writer.writeUint8(7)).toBe(true)
    expect(writer.writeUint64(0x0008_0f0e_0d0c_0b0a)).toBe(true)
    expect(writer.available).toBe(0)
    const written = [1, 2, 1, 3, 8].flatMap((length, i) => [...memory.read(at(1 + i), length)])
    expect(written).toEqual([1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 15, 8, 0])
    for (const [i, length] of [1, 2, 1, 3, 8].entries()) {
      expect(memory.isDirty(at(1 + i), length)).toBe(true)
      expect(memory.isDirty(at(1 + i) + length, 1)).toBe(false)
    }
    expect(memory.isDirty(at(0), 1)).toBe(false)
  })

  test.each(['writeUint8', 'writeUint16', 'writeUint32', 'writeUint64'] as const)(
    '%s without room fails',
    (method) => {
      const { chain, memory } = chainOf([], [7])
      const writer = chain.writer()
      writer.skip(method === 'writeUint64' ? 0 : 7)
      expect(writer[method](0xff)).toBe(false)
      expect(writer.failed).toBe(true)
      expect(memory.read(at(0), 8).every((byte) => byte === 0)).toBe(true)
    },
  )

  test('copies and fills as much as there is room for, and notes it', () => {
    const { chain, memory } = chainOf([], [3, 100, 2])
    expect(chain.writer().write(counting(200), 1)).toBe(105)
    expect(memory.read(at(1), 100)).toEqual(counting(100, 5))
    expect(memory.isDirty(at(1), 100) && memory.isDirty(at(2), 2)).toBe(true)
    expect(memory.isDirty(at(2) + 2, 1)).toBe(false)
    const writer = chain.writer()
    expect(writer.fill(0xee, 4)).toBe(4)
    expect([...memory.read(at(0), 3), ...memory.read(at(1), 2)]).toEqual([0xee, 0xee, 0xee, 0xee, 6])
    expect(writer.writeFull(counting(102))).toBe(false)
    expect([writer.failed, writer.available]).toEqual([true, 101])
    expect(chain.writer().writeFull(counting(105))).toBe(true)
    expect(chain.writer().fill(0, 1000)).toBe(105)
  })

  test('splits, as for a status behind the data', () => {
    const { chain, memory } = chainOf([], [4, 5])
    const writer = chain.writer()
    const status = new Writer()
    expect(writer.splitAt(8, status)).toBe(true)
    expect(writer.write(counting(20))).toBe(8)
    expect(status.writeUint8(0x55)).toBe(true)
    expect([...memory.read(at(1), 6)]).toEqual([5, 6, 7, 8, 0x55, 0])
  })

  test('notes what came by other means', () => {
    const { chain, memory } = chainOf([4], [4, 4])
    chain.markWritten(2, 4)
    expect(memory.isDirty(at(1) + 2, 2) && memory.isDirty(at(2), 2)).toBe(true)
    expect(memory.isDirty(at(1) + 1, 1) || memory.isDirty(at(2) + 2, 1)).toBe(false)
    chain.markWritten(7, 100)
    expect(memory.isDirty(at(2) + 3, 1)).toBe(true)
  })
})

test('what a writer writes in any pieces a reader reads in any others', () => {
  const lengths = fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1, maxLength: 7 })
  const steps = fc.array(fc.integer({ min: 1, max: 80 }), { minLength: 1, maxLength: 9 })
  fc.assert(
    fc.property(lengths, steps, (sizes, pieces) => {
      const total = sizes.reduce((a, b) => a + b)
      const data = counting(total)
      const out = chainOf([], sizes)
      const writer = out.chain.writer()
      for (let i = 0, done = 0; done < total; i += 1) {
        done += writer.write(data, done, pieces[i % pieces.length])
      }
      const back = chainOf(sizes)
      for (const [i, length] of sizes.entries()) back.memory.write(at(i), out.memory.read(at(i), length))
      const reader = back.chain.reader()
      const read: number[] = []
      for (let i = 0; read.length < total; i += 1) {
        const piece = pieces[i % pieces.length] as number
        if (piece % 2 === 0 && reader.available >= 4) {
          const value = reader.readUint32()
          read.push(...[0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff))
        } else {
          const target = new Uint8Array(piece)
          read.push(...target.subarray(0, reader.read(target)))
        }
      }
      expect(Uint8Array.from(read)).toEqual(data)
      expect(reader.failed || writer.failed).toBe(false)
    }),
  )
})
