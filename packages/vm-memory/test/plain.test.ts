import { GuestMemory, GuestRegion, type MemoryRange } from '@vmm/vm-memory'
import { describe, expect, test } from 'vitest'
import { DirtyBitmap } from '../src/index.ts'
import { guestMemoryContract, memoryError } from './guest-memory.contract.ts'

guestMemoryContract('plain buffers', (ranges, options) => {
  return { memory: GuestMemory.fromRanges(ranges, options), close: () => {} }
})

guestMemoryContract('buffers shared between threads, at an offset', (ranges, { trackDirty }) => {
  const regions = ranges.map(({ start, size }) => {
    const bytes = new Uint8Array(new SharedArrayBuffer(size + 64), 8, size)
    return new GuestRegion({ start, bytes, dirty: trackDirty ? new DirtyBitmap(size) : undefined })
  })
  return { memory: GuestMemory.fromRegions(regions), close: () => {} }
})

function region(start: number, size: number): GuestRegion {
  return new GuestRegion({ start, bytes: new Uint8Array(size) })
}

describe('a map of regions', () => {
  // Three regions of 1 KiB: one alone, two adjacent.
  const memory = GuestMemory.fromRanges([
    { start: 0, size: 0x400 },
    { start: 0x800, size: 0x400 },
    { start: 0xc00, size: 0x400 },
  ])

  test('checks ranges', () => {
    expect(memory.checkRange(0, 0x400)).toBe(true)
    expect(memory.checkRange(0, 0xa00)).toBe(false)
    expect(memory.checkRange(0x800, 0x800)).toBe(true)
    expect(memory.checkRange(0x800, 0x801)).toBe(false)
    expect(memory.checkRange(0, 2 ** 64)).toBe(false)
  })

  test('checks offsets', () => {
    expect(memory.checkedOffset(0, 0x400)).toBeUndefined()
    expect(memory.checkedOffset(0, 0x3ff)).toBe(0x3ff)
    expect(memory.checkedOffset(0, 0xa00)).toBe(0xa00)
    expect(memory.checkedOffset(0x800, 0xc00)).toBeUndefined()
  })

  test('cuts a range into slices', () => {
    expect([...memory.slices(0xa00, 0x400)].map((slice) => slice.length)).toEqual([0x200, 0x200])
  })

  test('writes the one byte that is left', () => {
    const small = GuestMemory.fromRanges([{ start: 0x1000, size: 0x400 }])
    expect(small.write(0x13ff, new Uint8Array(5))).toBe(1)
  })

  test('needs a region, and none that overlap', () => {
    expect(memoryError(() => GuestMemory.fromRegions([])).code).toBe('ERR_MEMORY_NO_REGION')
    expect(memoryError(() => GuestMemory.fromRanges([])).code).toBe('ERR_MEMORY_NO_REGION')
    const overlapping = [region(0x1000, 0x1000), region(0x1ff0, 0x1000)]
    expect(memoryError(() => GuestMemory.fromRegions(overlapping))).toMatchObject({
      code: 'ERR_MEMORY_OVERLAP',
      address: 0x1ff0,
    })
    const twice = [region(0x1000, 0x1000), region(0x1000, 0x10)]
    expect(memoryError(() => GuestMemory.fromRegions(twice)).code).toBe('ERR_MEMORY_OVERLAP')
  })

  test('refuses an overlap of one byte', () => {
    const regions = [region(0, 0x11), region(0x10, 0x10)]
    expect(memoryError(() => GuestMemory.fromRegions(regions)).code).toBe('ERR_MEMORY_OVERLAP')
    expect(GuestMemory.fromRegions([region(0, 0x10), region(0x10, 0x10)]).regions).toHaveLength(2)
  })

  test('copies overlapping ranges that are longer than its bounce buffer', () => {
    const length = 300_001
    const large = GuestMemory.fromRanges([{ start: 0, size: 2 * length }])
    const data = Uint8Array.from({ length }, (_, i) => (i * 31) >>> 3)
    const back = new Uint8Array(length)
    for (const [target, source] of [
      [100, 0],
      [0, 100],
      [70_000, 0],
      [0, 70_000],
    ] as const) {
      large.writeSlice(source, data)
      large.copy(target, source, length)
      large.readSlice(target, back)
      expect(Buffer.compare(back, data)).toBe(0)
    }
  })

  test('copies nothing from a source that runs out of memory', () => {
    const large = GuestMemory.fromRanges([{ start: 0, size: 300_000 }])
    large.fill(100_000, 200_000, 7)
    expect(memoryError(() => large.copy(0, 100_000, 200_001)).code).toBe('ERR_MEMORY_PARTIAL')
    expect(large.readUint8(0)).toBe(0)
  })

  test('takes regions in any order and keeps them ascending', () => {
    const regions = [region(0x3000, 0x1000), region(0, 0x1000), region(0x1000, 0x1000)]
    const map = GuestMemory.fromRegions(regions)
    expect(map.regions.map(({ start }) => start)).toEqual([0, 0x1000, 0x3000])
    expect(map.insertRegion(region(0x2000, 0x1000)).checkRange(0, 0x4000)).toBe(true)
  })

  test('removes a region only by its exact start and size, and never the last', () => {
    expect(memoryError(() => memory.removeRegion(0x800, 0x3f0)).code).toBe('ERR_MEMORY_NO_REGION')
    expect(memoryError(() => memory.removeRegion(0x810, 0x400)).code).toBe('ERR_MEMORY_NO_REGION')
    const last = memory.removeRegion(0x800, 0x400).removeRegion(0xc00, 0x400)
    expect(last.lastAddress).toBe(0x3ff)
    expect(memoryError(() => last.removeRegion(0, 0x400)).code).toBe('ERR_MEMORY_NO_REGION')
  })

  test('has no host address', () => {
    expect(memoryError(() => memory.hostAddress(0)).code).toBe('ERR_MEMORY_NO_HOST_ADDRESS')
    expect(memoryError(() => memory.hostAddress(0x400)).code).toBe('ERR_MEMORY_INVALID_ADDRESS')
  })

  test('finds each of many regions', () => {
    const many = GuestMemory.fromRanges(
      Array.from({ length: 257 }, (_, i) => ({ start: i * 0x40, size: 0x20 })),
    )
    for (const [i, found] of many.regions.entries()) {
      expect(many.findRegion(i * 0x40)).toBe(found)
      expect(many.findRegion(i * 0x40 + 0x1f)).toBe(found)
      expect(many.findRegion(i * 0x40 + 0x20)).toBeUndefined()
    }
  })
})

test('a map says whether it is made of some ranges, and of no others', () => {
  const map = GuestMemory.fromRegions([region(0x2000, 0x1000), region(0, 0x1000)])
  const ranges = [
    { start: 0, size: 0x1000 },
    { start: 0x2000, size: 0x1000 },
  ]
  expect(map.isMadeOf(ranges)).toBe(true)
  expect(map.isMadeOf(ranges.slice(1))).toBe(false)
  expect(map.isMadeOf([...ranges, { start: 0x4000, size: 0x1000 }])).toBe(false)
  expect(map.isMadeOf([...ranges].reverse())).toBe(false)
  expect(map.isMadeOf([ranges[0] as MemoryRange, { start: 0x2000, size: 0x2000 }])).toBe(false)
})

describe('a region', () => {
  test('moves to another address with its bytes', () => {
    const old = region(0x1000, 0x1000)
    old.view.setUint32(4, 42, true)
    const moved = old.with({ start: 0x8000 })
    expect(GuestMemory.fromRegions([moved]).readUint32(0x8004)).toBe(42)
  })

  test('reaches to the last address and no further', () => {
    const last = Number.MAX_SAFE_INTEGER
    expect(region(last - 0xf, 0x10).last).toBe(last)
    expect(memoryError(() => region(last - 0xf, 0x11)).code).toBe('ERR_MEMORY_INVALID_ADDRESS')
    const memory = GuestMemory.fromRegions([region(last - 0xf, 0x10)])
    memory.writeUint64(last - 7, 5n)
    expect(memory.readUint64(last - 7)).toBe(5n)
    expect(memory.checkRange(last - 7, 9)).toBe(false)
    expect(memory.write(last - 3, new Uint8Array(8))).toBe(4)
  })

  test('is refused without bytes, unaligned, or with a bitmap of another size', () => {
    expect(memoryError(() => region(0, 0)).code).toBe('ERR_MEMORY_INVALID_ARGUMENT')
    expect(memoryError(() => region(8, 0x10)).code).toBe('ERR_MEMORY_MISALIGNED')
    expect(memoryError(() => region(-16, 0x10)).code).toBe('ERR_MEMORY_INVALID_ADDRESS')
    const bytes = new Uint8Array(new ArrayBuffer(32), 4, 16)
    expect(memoryError(() => new GuestRegion({ start: 0, bytes })).code).toBe('ERR_MEMORY_MISALIGNED')
    const dirty = new DirtyBitmap(32)
    const call = () => new GuestRegion({ start: 0, bytes: new Uint8Array(16), dirty })
    expect(memoryError(call).code).toBe('ERR_MEMORY_INVALID_ARGUMENT')
    for (const size of [0, -1, 1.5, Number.NaN, 2 ** 53]) {
      const ranges = [{ start: 0, size }]
      expect(memoryError(() => GuestMemory.fromRanges(ranges)).code).toBe('ERR_MEMORY_INVALID_ARGUMENT')
    }
  })
})
