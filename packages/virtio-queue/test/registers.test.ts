import { describe, expect, test } from 'vitest'
import type { Virtqueue, VirtqueueState } from '../src/index.ts'
import {
  DescriptorChain,
  POP_EMPTY,
  POP_OK,
  VirtqueueError,
  VirtqueueRegisters,
  virtqueueFeatures,
} from '../src/index.ts'
import { createMockDriver, MockMemory } from '../src/testing/index.ts'
import { at, KINDS, setUp, setUpSplit } from './helpers.ts'

const SPLIT = { packed: false, eventIndex: false, indirect: false }
const SIZE = 8

function sane(packed = false): { memory: MockMemory; registers: VirtqueueRegisters } {
  const memory = new MockMemory()
  const registers = new VirtqueueRegisters(16)
  createMockDriver({ memory, size: SIZE, features: { packed } }).configure(registers)
  return { memory, registers }
}

const codeOf = (made: Virtqueue | VirtqueueError): string =>
  made instanceof VirtqueueError ? made.code : 'a queue'

describe('registers', () => {
  test.each([1, 2, 256, 32768])('offer up to %i entries', (maxSize) => {
    expect(new VirtqueueRegisters(maxSize)).toMatchObject({ maxSize, size: maxSize, ready: false })
  })

  test.each([0, 15, 65535, 65536, -1, 1.5, Number.NaN])('do not offer up to %d entries', (maxSize) => {
    expect(() => new VirtqueueRegisters(maxSize)).toThrow(expect.objectContaining({ code: 'ERR_VIRTQ_SIZE' }))
  })

  test('keep the old size for a bad one', () => {
    const registers = new VirtqueueRegisters(16)
    expect(registers.setSize(8)).toBe(true)
    for (const size of [0, 17, 32, 0x1_0000, 0x1_0008, -8, 0.5]) expect(registers.setSize(size)).toBe(false)
    expect(registers.size).toBe(8)
  })

  test('take addresses in halves', () => {
    const { descriptorArea } = new VirtqueueRegisters(16)
    descriptorArea.setHigh(0x12)
    descriptorArea.setLow(0x8000_0010)
    expect(descriptorArea.value).toBe(0x12_8000_0010)
    descriptorArea.setLow(0x20)
    expect(descriptorArea.value).toBe(0x12_0000_0020)
    descriptorArea.setHigh(0x20_0000)
    expect(descriptorArea.value).toBe(Number.POSITIVE_INFINITY)
  })

  test('forget all but the maximum on reset', () => {
    const { memory, registers } = sane()
    registers.reset()
    expect(registers).toMatchObject({ maxSize: 16, size: 16, ready: false })
    for (const area of [registers.descriptorArea, registers.driverArea, registers.deviceArea])
      expect(area.value).toBe(0)
    expect(codeOf(registers.activate(memory, SPLIT))).toBe('ERR_VIRTQ_NOT_READY')
    registers.ready = true
    registers.setSize(SIZE)
    const queue = registers.activate(memory, SPLIT) as Virtqueue
    expect(queue.pop(new DescriptorChain())).toBe(POP_EMPTY)
  })
})

describe.each(KINDS)('activation of a $kind queue', ({ packed }) => {
  const features = { ...SPLIT, packed }

  test('takes a sane one', () => {
    const { memory, registers } = sane(packed)
    expect(codeOf(registers.activate(memory, features))).toBe('a queue')
  })

  test('refuses one that is not ready', () => {
    const { memory, registers } = sane(packed)
    registers.ready = false
    expect(codeOf(registers.activate(memory, features))).toBe('ERR_VIRTQ_NOT_READY')
  })

  const areas = [
    ['descriptorArea', 16, 16 * SIZE],
    ['driverArea', packed ? 4 : 2, packed ? 4 : 6 + 2 * SIZE],
    ['deviceArea', 4, packed ? 4 : 6 + 8 * SIZE],
  ] as const
  test.each(areas)(
    'wants its %s aligned to %i bytes and its %i bytes in memory',
    (area, alignment, bytes) => {
      const { memory, registers } = sane(packed)
      const last = Math.floor((0x1_0000 - bytes) / alignment) * alignment
      const verdict = (address: number): string => {
        registers[area].set(address)
        return codeOf(registers.activate(memory, features))
      }
      expect(verdict(last)).toBe('a queue')
      expect(verdict(last + alignment)).toBe('ERR_VIRTQ_RING_ADDRESS')
      expect(verdict(last - alignment / 2)).toBe('ERR_VIRTQ_ALIGNMENT')
      expect(verdict(0x1_0000)).toBe('ERR_VIRTQ_RING_ADDRESS')
      registers[area].set(last)
      for (const high of [1, 0x20_0000, 0xffff_ffff]) {
        registers[area].setHigh(high)
        expect(codeOf(registers.activate(memory, features))).toBe('ERR_VIRTQ_RING_ADDRESS')
      }
    },
  )

  test('refuses a part that lies in two regions', () => {
    const memory = new MockMemory([
      { start: 0, size: 0x9000 },
      { start: 0x9000, size: 0x1000 },
    ])
    const { registers } = sane(packed)
    registers.descriptorArea.set(0x8ff0)
    expect(registers.activate(memory, features)).toMatchObject({
      code: 'ERR_VIRTQ_RING_ADDRESS',
      value: 0x8ff0,
      message: expect.stringContaining('00008ff0'),
    })
  })

  test('wants a power of two only of a split queue', () => {
    const { memory, registers } = sane(packed)
    expect(registers.setSize(7)).toBe(true)
    expect(codeOf(registers.activate(memory, features))).toBe(packed ? 'a queue' : 'ERR_VIRTQ_SIZE')
  })
})

test('features come from the bits of the transport', () => {
  expect(virtqueueFeatures(0, 0)).toEqual(SPLIT)
  expect(virtqueueFeatures(1 << 28, 0)).toEqual({ ...SPLIT, indirect: true })
  expect(virtqueueFeatures(1 << 29, 0)).toEqual({ ...SPLIT, eventIndex: true })
  expect(virtqueueFeatures(0, 1 << 2)).toEqual({ ...SPLIT, packed: true })
})

describe.each(KINDS)('the state of a $kind queue', ({ packed }) => {
  const features = { packed, eventIndex: true, indirect: false }

  test('comes back from JSON and goes on', () => {
    const { memory, driver, queue, chain } = setUp(features, 4)
    const registers = new VirtqueueRegisters(4)
    driver.configure(registers)
    driver.enableInterrupts()
    for (let i = 0; i < 7; i += 1) {
      driver.send([{ address: at(i % 4), length: 4, writable: true }])
      queue.pop(chain)
      queue.addUsed(chain)
      if (i < 6) driver.reap()
    }
    const token = driver.add([{ address: at(0), length: 4 }])
    driver.publish()
    driver.enableInterrupts()
    const saved = JSON.parse(JSON.stringify(registers.state(queue))) as VirtqueueState
    queue.reset()
    const again = VirtqueueRegisters.fromState(saved)
    expect(again.state()).toEqual({ ...saved, position: null })
    const resumed = again.activate(memory, features, saved.position ?? undefined)
    if (resumed instanceof Error) throw resumed
    // The interrupt that was due when the state was taken is still due.
    expect(resumed.needsNotification()).toBe(true)
    expect(resumed.pop(chain)).toBe(POP_OK)
    resumed.addUsed(chain)
    expect(driver.reapAll().at(-1)).toEqual({ token, length: 0 })
  })

  test('is not to be had while chains are in flight or unpublished', () => {
    const { driver, queue, chain } = setUp(features)
    driver.send([{ address: at(0), length: 4 }])
    queue.pop(chain)
    expect(() => queue.position()).toThrow(expect.objectContaining({ code: 'ERR_VIRTQ_BUSY' }))
    queue.pushUsed(chain)
    expect(() => queue.position()).toThrow(expect.objectContaining({ code: 'ERR_VIRTQ_BUSY' }))
    queue.publishUsed()
    expect(queue.position().unnotified).toBe(1)
  })

  const good = { nextAvail: packed ? 0x8003 : 3, nextUsed: packed ? 0x8003 : 3, unnotified: 0 }
  const bad = [
    { nextAvail: 0x1_0000 },
    { nextAvail: -1 },
    { nextUsed: 1.5 },
    { unnotified: -1 },
    { unnotified: '1' },
    packed ? { nextAvail: 0x8004 } : { nextAvail: 12 },
    packed ? { nextAvail: 0x0003 } : { nextUsed: 4 },
    packed ? { nextAvail: 0x8008, nextUsed: 0x8008 } : { nextUsed: 0x8000 },
  ]
  test.each(bad)('cannot stand at %o', (change) => {
    const { memory, registers } = sane(packed)
    expect(codeOf(registers.activate(memory, features, good))).toBe('a queue')
    expect(codeOf(registers.activate(memory, features, { ...good, ...(change as object) }))).toBe(
      'ERR_VIRTQ_STATE',
    )
  })
})

describe('a saved state', () => {
  const { registers } = sane()
  const state = registers.state(setUpSplit().queue)
  const hostile: unknown[] = [
    null,
    undefined,
    5,
    [],
    {},
    { ...state, version: 2 },
    { ...state, maxSize: 15 },
    { ...state, maxSize: 65536 },
    { ...state, maxSize: '16' },
    { ...state, size: 0 },
    { ...state, size: 32 },
    { ...state, size: 1.5 },
    { ...state, ready: 1 },
    { ...state, descriptorArea: [0] },
    { ...state, driverArea: [0, -1] },
    { ...state, deviceArea: [2 ** 32, 0] },
    { ...state, deviceArea: 'ab' },
    { ...state, position: undefined },
    { ...state, position: {} },
    { ...state, position: 7 },
    { ...state, position: { nextAvail: 9, nextUsed: 0, unnotified: 0 } },
  ]

  test('is taken as it was given', () => {
    expect(VirtqueueRegisters.fromState(state).state(setUpSplit().queue)).toEqual(state)
  })

  test.each(hostile.map((value, i) => [i, value]))(
    'is refused as a whole where anything is wrong (%i)',
    (_, value) => {
      expect(() => VirtqueueRegisters.fromState(value as VirtqueueState)).toThrow(
        expect.objectContaining({ code: 'ERR_VIRTQ_STATE' }),
      )
    },
  )
})
