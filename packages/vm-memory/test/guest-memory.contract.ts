/**
 * What guest memory does, whatever backs it: each backend's test runs this suite.
 */
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { GuestMemory, MemoryRange } from '../src/index.ts'
import { MemoryError, RangeCursor } from '../src/index.ts'

/** Memory under test, and how to give it back. */
export interface Backend {
  readonly memory: GuestMemory
  close(): void
}

/** Makes memory of the ranges; sizes are multiples of `pageSize`. */
export type MakeBackend = (ranges: readonly MemoryRange[], options: { trackDirty: boolean }) => Backend

/** The failure of a call, which must be a {@link MemoryError}. */
export function memoryError(call: () => unknown): MemoryError {
  try {
    call()
  } catch (error) {
    if (error instanceof MemoryError) return error
    throw error
  }
  throw new Error('the call did not throw')
}

/** What toEqual says, in a time that suits megabytes. */
function expectBytes(actual: Uint8Array, expected: Uint8Array): void {
  if (Buffer.compare(actual, expected) !== 0) expect(actual).toEqual(expected)
}

function pattern(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 7 + 3) & 0xff)
}

/** Runs the suite. Two adjacent regions, a hole of the same size, and one more region. */
export function guestMemoryContract(name: string, make: MakeBackend, pageSize = 4096): void {
  describe(`guest memory: ${name}`, () => {
    const BASE = 16 * pageSize
    const SEAM = BASE + pageSize
    const HOLE = SEAM + pageSize
    const ISLAND = HOLE + pageSize
    const END = ISLAND + pageSize
    const ranges: MemoryRange[] = [
      { start: BASE, size: pageSize },
      { start: SEAM, size: pageSize },
      { start: ISLAND, size: pageSize },
    ]
    let backend: Backend
    let memory: GuestMemory

    beforeEach(() => {
      backend = make(ranges, { trackDirty: true })
      memory = backend.memory
    })
    afterEach(() => backend.close())

    function dirtyOffsets(): number[][] {
      return memory.regions.map((region) => [...(region.dirty?.ranges() ?? [])].map((range) => range.offset))
    }

    test('is zeroed, in ascending regions', () => {
      expect(memory.regions.map(({ start, size, last }) => [start, size, last])).toEqual(
        ranges.map(({ start, size }) => [start, size, start + size - 1]),
      )
      expect(memory.lastAddress).toBe(END - 1)
      for (const { start, size } of ranges) {
        const bytes = new Uint8Array(size).fill(0xff)
        memory.readSlice(start, bytes)
        expect(bytes.every((byte) => byte === 0)).toBe(true)
      }
    })

    test('finds the region of an address, and none around a hole and the ends', () => {
      const [first, second, island] = memory.regions
      for (const [address, region] of [
        [BASE - 1, undefined],
        [BASE, first],
        [SEAM - 1, first],
        [SEAM, second],
        [HOLE - 1, second],
        [HOLE, undefined],
        [ISLAND - 1, undefined],
        [ISLAND, island],
        [END - 1, island],
        [END, undefined],
        [-1, undefined],
        [Number.NaN, undefined],
        [Number.POSITIVE_INFINITY, undefined],
        [2 ** 53, undefined],
      ] as const) {
        expect(memory.findRegion(address), String(address)).toBe(region)
        expect(memory.checkAddress(address)).toBe(region !== undefined)
        expect(memory.regionOf(address, 1)).toBe(region)
        expect(memory.regionOf(address, 0)).toBe(region)
        expect(memory.toRegionAddress(address)).toEqual(region && { region, offset: address - region.start })
      }
    })

    test('gives a region only for a range that lies in it whole', () => {
      const [first] = memory.regions
      expect(memory.regionOf(BASE, pageSize)).toBe(first)
      expect(memory.regionOf(BASE, pageSize + 1)).toBeUndefined()
      expect(memory.regionOf(SEAM - 1, 2)).toBeUndefined()
      expect(memory.regionOf(BASE, -1)).toBeUndefined()
      expect(memory.regionOf(BASE, Number.NaN)).toBeUndefined()
      expect(memory.regionOf(BASE, Number.POSITIVE_INFINITY)).toBeUndefined()
    })

    test('accepts a range across adjacent regions and refuses one with a hole', () => {
      expect(memory.checkRange(BASE, 2 * pageSize)).toBe(true)
      expect(memory.checkRange(BASE, 2 * pageSize + 1)).toBe(false)
      expect(memory.checkRange(BASE, 4 * pageSize)).toBe(false)
      expect(memory.checkRange(BASE - 1, 2)).toBe(false)
      expect(memory.checkRange(ISLAND, pageSize)).toBe(true)
      expect(memory.checkRange(END - 1, 2)).toBe(false)
      expect(memory.checkRange(BASE, Number.MAX_SAFE_INTEGER)).toBe(false)
      expect(memory.checkRange(BASE, -1)).toBe(false)
      expect(memory.checkRange(BASE, Number.NaN)).toBe(false)
      expect(memory.checkRange(BASE, 0)).toBe(true)
      expect(memory.checkRange(HOLE, 0)).toBe(true)
    })

    test('looks at the end point alone of an offset', () => {
      expect(memory.checkedOffset(BASE, ISLAND - BASE)).toBe(ISLAND)
      expect(memory.checkedOffset(BASE, HOLE - BASE)).toBeUndefined()
      expect(memory.checkedOffset(ISLAND, BASE - ISLAND)).toBe(BASE)
      expect(memory.checkedOffset(BASE, Number.MAX_SAFE_INTEGER)).toBeUndefined()
    })

    // Inside a region, unaligned, across the seam.
    const scalarAddresses = [BASE, BASE + 8, BASE + 3, SEAM - 1, SEAM - 3, SEAM - 7, END - 8]

    test('reads back every scalar, little-endian, wherever it lies', () => {
      for (const address of scalarAddresses) {
        memory.writeUint8(address, 0xfe)
        expect(memory.readUint8(address)).toBe(0xfe)
        memory.writeUint16(address, 0xfedc)
        expect(memory.readUint16(address)).toBe(0xfedc)
        memory.writeUint32(address, 0xfedc_ba98)
        expect(memory.readUint32(address)).toBe(0xfedc_ba98)
        expect([0, 1, 2, 3].map((i) => memory.readUint8(address + i))).toEqual([0x98, 0xba, 0xdc, 0xfe])
        memory.writeUint64(address, 0xfedc_ba98_7654_3210n)
        expect(memory.readUint64(address)).toBe(0xfedc_ba98_7654_3210n)
        expect(memory.readUint32(address + 4)).toBe(0xfedc_ba98)
        memory.writeUint64AsNumber(address, Number.MAX_SAFE_INTEGER)
        expect(memory.readUint64AsNumber(address)).toBe(Number.MAX_SAFE_INTEGER)
        expect(memory.readUint64(address)).toBe(BigInt(Number.MAX_SAFE_INTEGER))
      }
    })

    test('refuses a 64-bit value that no number holds', () => {
      memory.writeUint64(BASE, 2n ** 53n)
      expect(memoryError(() => memory.readUint64AsNumber(BASE)).code).toBe('ERR_MEMORY_VALUE_TOO_LARGE')
      memory.writeUint64(BASE, 2n ** 64n - 1n)
      expect(memoryError(() => memory.readUint64AsNumber(BASE)).code).toBe('ERR_MEMORY_VALUE_TOO_LARGE')
      for (const value of [-1, 0.5, Number.NaN, 2 ** 53]) {
        const error = memoryError(() => memory.writeUint64AsNumber(BASE, value))
        expect(error.code).toBe('ERR_MEMORY_VALUE_TOO_LARGE')
      }
    })

    test('throws for a scalar outside memory, and says where memory ends', () => {
      const accesses: [number, (address: number) => unknown][] = [
        [1, (address) => memory.readUint8(address)],
        [2, (address) => memory.readUint16(address)],
        [4, (address) => memory.readUint32(address)],
        [8, (address) => memory.readUint64(address)],
        [8, (address) => memory.readUint64AsNumber(address)],
        [1, (address) => memory.writeUint8(address, 1)],
        [2, (address) => memory.writeUint16(address, 1)],
        [4, (address) => memory.writeUint32(address, 1)],
        [8, (address) => memory.writeUint64(address, 1n)],
        [8, (address) => memory.writeUint64AsNumber(address, 1)],
      ]
      for (const [size, access] of accesses) {
        expect(memoryError(() => access(HOLE))).toMatchObject({
          code: 'ERR_MEMORY_INVALID_ADDRESS',
          address: HOLE,
          message: expect.stringContaining(HOLE.toString(16)),
        })
        for (const address of [-8, Number.NaN, 2 ** 60]) {
          expect(memoryError(() => access(address)).code).toBe('ERR_MEMORY_INVALID_ADDRESS')
        }
        if (size === 1) continue
        expect(memoryError(() => access(END - 1))).toMatchObject({
          code: 'ERR_MEMORY_PARTIAL',
          address: END,
          expected: size,
          completed: 1,
        })
      }
    })

    test('moves bytes of any length and alignment, across regions too', () => {
      for (const length of [0, 1, 31, 32, 33, 100, pageSize, 2 * pageSize - 5]) {
        const data = pattern(length)
        for (const address of [BASE, BASE + 5, SEAM - (length >>> 1)]) {
          memory.fill(BASE, 2 * pageSize, 0xee)
          expect(memory.write(address, data)).toBe(length)
          const back = new Uint8Array(length)
          expect(memory.read(address, back)).toBe(length)
          expectBytes(back, data)
          if (address > BASE) expect(memory.readUint8(address - 1)).toBe(0xee)
          if (address + length < HOLE) expect(memory.readUint8(address + length)).toBe(0xee)
        }
      }
    })

    test('counts what a hole leaves of a transfer', () => {
      const data = pattern(64)
      const back = new Uint8Array(64)
      for (const [address, count] of [
        [HOLE - 1, 1],
        [HOLE - 40, 40],
        [END - 5, 5],
        [HOLE, 0],
        [BASE - 1, 0],
        [Number.NaN, 0],
        [-1, 0],
      ] as const) {
        expect(memory.write(address, data)).toBe(count)
        back.fill(0xee)
        expect(memory.read(address, back)).toBe(count)
        expectBytes(back.subarray(0, count), data.subarray(0, count))
        expect(back.subarray(count).every((byte) => byte === 0xee)).toBe(true)
      }
      expect(memoryError(() => memory.writeSlice(HOLE - 1, data))).toMatchObject({
        code: 'ERR_MEMORY_PARTIAL',
        expected: 64,
        completed: 1,
      })
      expect(memoryError(() => memory.readSlice(HOLE - 1, back)).code).toBe('ERR_MEMORY_PARTIAL')
      expect(memoryError(() => memory.readSlice(HOLE, back)).code).toBe('ERR_MEMORY_INVALID_ADDRESS')
      expect(memoryError(() => memory.writeSlice(HOLE, data)).code).toBe('ERR_MEMORY_INVALID_ADDRESS')
    })

    test('transfers nothing anywhere', () => {
      for (const address of [BASE, END, HOLE, -1]) {
        const nothing = new Uint8Array(0)
        expect(memory.read(address, nothing)).toBe(0)
        expect(memory.write(address, nothing)).toBe(0)
        memory.readSlice(address, nothing)
        memory.writeSlice(address, nothing)
        memory.fill(address, 0)
        expect([...memory.slices(address, 0)]).toEqual([])
      }
    })

    test('fills all of a range or nothing', () => {
      memory.fill(BASE, 2 * pageSize, 0xab)
      expect(memory.readUint8(BASE)).toBe(0xab)
      expect(memory.readUint8(HOLE - 1)).toBe(0xab)
      memory.fill(SEAM - 2, 4)
      expect(memory.readUint64(SEAM - 4)).toBe(0xabab_0000_0000_ababn)
      expect(memoryError(() => memory.fill(HOLE - 2, 3)).code).toBe('ERR_MEMORY_PARTIAL')
      expect(memory.readUint16(HOLE - 2)).toBe(0xabab)
      expect(memoryError(() => memory.fill(BASE, -1)).code).toBe('ERR_MEMORY_INVALID_ARGUMENT')
    })

    test('copies overlapping ranges in both directions', () => {
      const length = pageSize + 100
      const data = pattern(length)
      for (const distance of [1, 40, pageSize - 100]) {
        memory.writeSlice(BASE, data)
        memory.copy(BASE + distance, BASE, length)
        const back = new Uint8Array(length)
        memory.readSlice(BASE + distance, back)
        expectBytes(back, data)
        memory.copy(BASE, BASE + distance, length)
        memory.readSlice(BASE, back)
        expectBytes(back, data)
      }
      expect(memoryError(() => memory.copy(HOLE - 1, BASE, 2)).code).toBe('ERR_MEMORY_PARTIAL')
      expect(memoryError(() => memory.copy(BASE, HOLE - 1, 2)).code).toBe('ERR_MEMORY_PARTIAL')
    })

    test('gives the bytes themselves, one piece for each region', () => {
      memory.writeUint8(SEAM, 0x11)
      const pieces = [...memory.slices(SEAM - 2, 4)]
      expect(pieces.map((piece) => piece.length)).toEqual([2, 2])
      expect(pieces[1]?.[0]).toBe(0x11)
      pieces[0]?.fill(0x22)
      expect(memory.readUint16(SEAM - 2)).toBe(0x2222)
      expect(memory.slice(SEAM, 4)?.[0]).toBe(0x11)
      expect(memory.slice(SEAM - 2, 4)).toBeUndefined()

      const walk = memory.slices(HOLE - 3, 8)
      expect(walk.next().value).toHaveLength(3)
      expect(memoryError(() => walk.next())).toMatchObject({ code: 'ERR_MEMORY_PARTIAL', address: HOLE })
      expect(walk.next().done).toBe(true)
    })

    test('walks a range with a cursor, up to a hole', () => {
      const cursor = new RangeCursor()
      expect(cursor.next()).toBeUndefined()
      cursor.reset(memory, SEAM - 2, pageSize + 10)
      expect(cursor.next()).toBe(memory.regions[0])
      expect([cursor.offset, cursor.length, cursor.remaining]).toEqual([pageSize - 2, 2, pageSize + 8])
      expect(cursor.next()).toBe(memory.regions[1])
      expect([cursor.offset, cursor.length, cursor.remaining]).toEqual([0, pageSize, 8])
      expect(cursor.next()).toBeUndefined()
      expect([cursor.address, cursor.remaining]).toEqual([HOLE, 8])
      expect(cursor.next()).toBeUndefined()
      cursor.reset(memory, BASE, 0)
      expect(cursor.next()).toBeUndefined()
      expect(cursor.remaining).toBe(0)
    })

    test('loads and stores atomically where aligned, and only there', () => {
      memory.atomicStore16(BASE + 2, 0xfedc)
      expect(memory.atomicLoad16(BASE + 2)).toBe(0xfedc)
      memory.atomicStore32(BASE + 4, 0xfedc_ba98)
      expect(memory.atomicLoad32(BASE + 4)).toBe(0xfedc_ba98)
      memory.atomicStore64(SEAM - 8, 0xfedc_ba98_7654_3210n)
      expect(memory.atomicLoad64(SEAM - 8)).toBe(0xfedc_ba98_7654_3210n)
      expect(memory.readUint64(BASE)).toBe(0xfedc_ba98_fedc_0000n)

      const accesses: [number, (address: number) => unknown][] = [
        [2, (address) => memory.atomicLoad16(address)],
        [2, (address) => memory.atomicStore16(address, 1)],
        [2, (address) => memory.atomicCompareExchange16(address, 0, 1)],
        [4, (address) => memory.atomicLoad32(address)],
        [4, (address) => memory.atomicStore32(address, 1)],
        [4, (address) => memory.atomicCompareExchange32(address, 0, 1)],
        [8, (address) => memory.atomicLoad64(address)],
        [8, (address) => memory.atomicStore64(address, 1n)],
        [8, (address) => memory.atomicCompareExchange64(address, 0n, 1n)],
      ]
      for (const [size, access] of accesses) {
        expect(memoryError(() => access(BASE + size / 2)).code).toBe('ERR_MEMORY_MISALIGNED')
        expect(memoryError(() => access(SEAM - 1)).code).toBe('ERR_MEMORY_MISALIGNED')
        expect(memoryError(() => access(HOLE)).code).toBe('ERR_MEMORY_INVALID_ADDRESS')
        expect(memoryError(() => access(END - 1)).code).toBe('ERR_MEMORY_PARTIAL')
      }
    })

    test('exchanges only what it expects, and notes only what it writes', () => {
      expect(memory.atomicCompareExchange16(SEAM, 1, 0xfedc)).toBe(0)
      expect(memory.atomicCompareExchange32(SEAM, 1, 0xfedc_ba98)).toBe(0)
      expect(memory.atomicCompareExchange64(SEAM, 1n, 2n ** 64n - 1n)).toBe(0n)
      expect(memory.readUint64(SEAM)).toBe(0n)
      expect(dirtyOffsets()).toEqual([[], [], []])

      expect(memory.atomicCompareExchange16(SEAM, 0, 0xfedc)).toBe(0)
      expect(memory.atomicCompareExchange16(SEAM, 0xfedc, 0)).toBe(0xfedc)
      expect(memory.atomicCompareExchange32(SEAM + 4, 0, 0xfedc_ba98)).toBe(0)
      expect(memory.atomicCompareExchange64(SEAM, 0xfedc_ba98_0000_0000n, 2n ** 64n - 1n)).toBe(
        0xfedc_ba98_0000_0000n,
      )
      expect(memory.readUint64(SEAM)).toBe(2n ** 64n - 1n)
      expect(dirtyOffsets()).toEqual([[], [0], []])
    })

    test('notes the pages of every kind of write, and of no read', () => {
      const writes: ((address: number) => unknown)[] = [
        (address) => memory.writeUint8(address, 1),
        (address) => memory.writeUint16(address, 1),
        (address) => memory.writeUint32(address, 1),
        (address) => memory.writeUint64(address, 1n),
        (address) => memory.writeUint64AsNumber(address, 1),
        (address) => memory.atomicStore16(address, 1),
        (address) => memory.atomicStore32(address, 1),
        (address) => memory.atomicStore64(address, 1n),
        (address) => memory.atomicCompareExchange16(address, memory.readUint16(address), 1),
        (address) => memory.write(address, pattern(8)),
        (address) => memory.writeSlice(address, pattern(40)),
        (address) => memory.fill(address, 8),
        (address) => memory.copy(address, BASE, 8),
        (address) => memory.markDirty(address, 8),
      ]
      for (const write of writes) {
        write(ISLAND + 16)
        expect(dirtyOffsets(), String(write)).toEqual([[], [], [0]])
        for (const region of memory.regions) region.dirty?.clear()
      }
      const spanning: ((address: number) => unknown)[] = [
        (address) => memory.writeUint16(address, 1),
        (address) => memory.writeUint32(address, 1),
        (address) => memory.writeUint64(address, 1n),
        (address) => memory.writeUint64AsNumber(address, 1),
        (address) => memory.write(address, pattern(8)),
        (address) => memory.fill(address, 8),
        (address) => memory.markDirty(address, 8),
      ]
      const lastPage = pageSize - 4096
      for (const write of spanning) {
        write(SEAM - 1)
        expect(dirtyOffsets(), String(write)).toEqual([[lastPage], [0], []])
        for (const region of memory.regions) region.dirty?.clear()
      }

      memory.write(HOLE - 1, pattern(8))
      expect(dirtyOffsets()).toEqual([[], [lastPage], []])
      memory.regions[1]?.dirty?.clear()

      memory.readUint32(BASE)
      memory.atomicLoad32(BASE)
      memory.read(BASE, new Uint8Array(2 * pageSize))
      expect(dirtyOffsets()).toEqual([[], [], []])
    })

    test('reads from and writes to a file, straight and across regions', () => {
      const path = join(tmpdir(), `vm-memory-${process.pid}-${Math.random().toString(36).slice(2)}`)
      const data = pattern(1000)
      writeFileSync(path, data)
      const fd = openSync(path, 'r+')
      try {
        expect(memory.readFrom(SEAM - 300, fd, 600, 100)).toBe(600)
        const back = new Uint8Array(600)
        memory.readSlice(SEAM - 300, back)
        expectBytes(back, data.subarray(100, 700))
        expect(dirtyOffsets()).toEqual([[pageSize - 4096], [0], []])

        expect(memory.readFrom(BASE, fd, 500, 900)).toBe(100)
        expect(memory.readFrom(BASE, fd, 10, 1000)).toBe(0)
        expect(memory.readFrom(HOLE - 10, fd, 50, 0)).toBe(10)
        expect(memory.readFrom(HOLE, fd, 50, 0)).toBe(0)
        expect(memory.readFrom(BASE, fd, 0, 0)).toBe(0)
        // Without a position the descriptor's own moves on.
        expect(memory.readFrom(SEAM - 10, fd, 20)).toBe(20)
        expect(memory.readFrom(SEAM - 10, fd, 20)).toBe(20)
        const next = new Uint8Array(20)
        memory.readSlice(SEAM - 10, next)
        expect(next).toEqual(data.subarray(20, 40))

        memory.fill(SEAM - 4, 8, 0x55)
        expect(memory.writeTo(SEAM - 4, fd, 8, 996)).toBe(8)
        expect(memory.writeTo(HOLE - 1, fd, 8, 2000)).toBe(1)
        expect(memory.writeTo(HOLE, fd, 8, 3000)).toBe(0)
        const written = readFileSync(path)
        expect(written.length).toBe(2001)
        expect(written.subarray(996, 1004).every((byte) => byte === 0x55)).toBe(true)
      } finally {
        closeSync(fd)
      }
      expect(() => memory.readFrom(BASE, fd, 1)).toThrow(expect.objectContaining({ code: 'EBADF' }))
    })

    test('keeps the old map when a region goes and comes', () => {
      const smaller = memory.removeRegion(SEAM, pageSize)
      expect(smaller.regions.map((region) => region.start)).toEqual([BASE, ISLAND])
      expect(memory.regions).toHaveLength(3)
      expect(smaller.checkRange(BASE, 2 * pageSize)).toBe(false)
      memory.writeUint32(SEAM, 7)

      const [, removed] = memory.regions
      if (removed === undefined) throw new Error('three regions')
      const again = smaller.insertRegion(removed)
      expect(again.regions).toEqual(memory.regions)
      expect(again.readUint32(SEAM)).toBe(7)
      expect(memoryError(() => memory.insertRegion(removed)).code).toBe('ERR_MEMORY_OVERLAP')
    })
  })
}
