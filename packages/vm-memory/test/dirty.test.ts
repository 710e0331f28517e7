import fc from 'fast-check'
import { expect, test } from 'vitest'
import { DirtyBitmap } from '../src/index.ts'
import { memoryError } from './guest-memory.contract.ts'

const PAGE = 128

test('rounds the number of pages up', () => {
  expect(new DirtyBitmap(1025, PAGE).pageCount).toBe(9)
  expect(new DirtyBitmap(1024, PAGE).pageCount).toBe(8)
  expect(new DirtyBitmap(1, PAGE).pageCount).toBe(1)
  expect(new DirtyBitmap(2 ** 32).pageCount).toBe(2 ** 20)
})

test('refuses a size or page size that makes no sense', () => {
  for (const size of [0, -1, 1.5, 2 ** 32 + 1, Number.NaN]) {
    expect(memoryError(() => new DirtyBitmap(size)).code).toBe('ERR_MEMORY_INVALID_ARGUMENT')
  }
  for (const pageSize of [0, -128, 100, 0.5, 2 ** 32, Number.NaN]) {
    expect(memoryError(() => new DirtyBitmap(1024, pageSize)).code).toBe('ERR_MEMORY_INVALID_ARGUMENT')
  }
})

test('marks exactly the pages that a range touches', () => {
  const bitmap = new DirtyBitmap(1024, PAGE)
  bitmap.mark(PAGE, PAGE + 1)
  expect(bitmap.take()[0]).toBe(0b110)
  bitmap.mark(PAGE - 1, 1)
  expect(bitmap.take()[0]).toBe(0b1)
  bitmap.mark(PAGE - 1, 2)
  expect(bitmap.take()[0]).toBe(0b11)
  bitmap.mark(0, 1024)
  expect(bitmap.take()[0]).toBe(0b1111_1111)
})

test('takes and clears at once', () => {
  const bitmap = new DirtyBitmap(1024, PAGE)
  bitmap.mark(0, 1)
  const taken = bitmap.take()
  expect(bitmap.dirtyPages).toBe(0)
  bitmap.mark(PAGE, 1)
  expect(taken[0]).toBe(0b1)
  expect(bitmap.take()[0]).toBe(0b10)
})

test('ignores what lies outside', () => {
  const bitmap = new DirtyBitmap(1000, PAGE)
  bitmap.mark(1000, 1)
  bitmap.mark(2 ** 40, 2 ** 40)
  bitmap.mark(-PAGE, PAGE)
  bitmap.mark(0, 0)
  bitmap.mark(0, -1)
  bitmap.mark(Number.NaN, 1)
  expect(bitmap.dirtyPages).toBe(0)
  expect(bitmap.isDirty(1000)).toBe(false)
  expect(bitmap.isDirty(-1)).toBe(false)

  bitmap.mark(-1, 2)
  bitmap.mark(999, 2 ** 40)
  expect([...bitmap.ranges()]).toEqual([
    { offset: 0, length: PAGE },
    { offset: 7 * PAGE, length: 1000 - 7 * PAGE },
  ])
  bitmap.clear(-(2 ** 40), 2 ** 41)
  expect(bitmap.dirtyPages).toBe(0)
})

test('marks, finds and clears at the end of 4 GiB', () => {
  const bitmap = new DirtyBitmap(2 ** 32)
  bitmap.mark(2 ** 32 - 1, 1)
  bitmap.mark(2 ** 31 - 1, 2)
  expect(bitmap.isDirty(2 ** 32 - 4096)).toBe(true)
  expect([...bitmap.ranges()]).toEqual([
    { offset: 2 ** 31 - 4096, length: 8192 },
    { offset: 2 ** 32 - 4096, length: 4096 },
  ])
  bitmap.clear(2 ** 31, 1)
  expect(bitmap.dirtyPages).toBe(2)
  bitmap.mark(0, 2 ** 32)
  expect(bitmap.dirtyPages).toBe(2 ** 20)
})

test('merges a log in the layout of KVM_GET_DIRTY_LOG: whole 64-bit little-endian words', () => {
  const bitmap = new DirtyBitmap(70 * PAGE, PAGE)
  expect(bitmap.take()).toHaveLength(16)
  const log = new BigUint64Array([1n << 63n, 0b10_0001n | (1n << 6n)])
  bitmap.mark(0, 1)
  bitmap.merge(new Uint8Array(log.buffer))
  const pages = [...bitmap.ranges()].map((range) => [range.offset / PAGE, range.length / PAGE])
  // Bit 70 is past the last page.
  expect(pages).toEqual([
    [0, 1],
    [63, 2],
    [69, 1],
  ])
  expect(bitmap.dirtyPages).toBe(4)
  const short = new DirtyBitmap(70 * PAGE, PAGE)
  short.merge(Uint8Array.of(0b100))
  expect([...short.ranges()]).toEqual([{ offset: 2 * PAGE, length: PAGE }])
})

test('agrees with a set of pages', () => {
  const size = 100 * PAGE - 5
  const offset = fc.integer({ min: -PAGE, max: size + PAGE })
  const operation = fc.record({
    kind: fc.constantFrom('mark', 'clear', 'merge'),
    offset,
    length: fc.oneof(fc.integer({ min: 0, max: 300 }), fc.integer({ min: 0, max: size })),
  })
  fc.assert(
    fc.property(fc.array(operation), (operations) => {
      const bitmap = new DirtyBitmap(size, PAGE)
      const model = new Set<number>()
      for (const { kind, offset, length } of operations) {
        const other = new DirtyBitmap(size, PAGE)
        if (kind === 'mark') bitmap.mark(offset, length)
        else if (kind === 'clear') bitmap.clear(offset, length)
        else {
          other.mark(offset, length)
          bitmap.merge(other.take())
        }
        for (let at = Math.max(offset, 0); at < Math.min(offset + length, size); at += 1) {
          if (kind === 'clear') model.delete(Math.floor(at / PAGE))
          else model.add(Math.floor(at / PAGE))
        }
      }
      expect(bitmap.dirtyPages).toBe(model.size)
      const pages = [...bitmap.ranges()].flatMap(({ offset, length }) => {
        return Array.from({ length: Math.ceil(length / PAGE) }, (_, i) => offset / PAGE + i)
      })
      expect(pages).toEqual([...model].sort((a, b) => a - b))
      const end = [...bitmap.ranges()].at(-1)
      if (end !== undefined) expect(end.offset + end.length).toBeLessThanOrEqual(size)
    }),
  )
})
