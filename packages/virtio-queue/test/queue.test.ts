import { describe, expect, test } from 'vitest'
import type { GuestMemory, GuestRegion } from '../src/index.ts'
import { ChainPool, DescriptorChain, POP_EMPTY, POP_OK, VirtqueueError } from '../src/index.ts'
import { MockMemory, MockSplitDriver } from '../src/testing/index.ts'
import { at, KINDS, segments, setUp, setUpPacked, setUpSplit } from './helpers.ts'

const readable = (page: number, length = 16) => ({ address: at(page), length, writable: false })
const writable = (page: number, length = 16) => ({ address: at(page), length, writable: true })

describe.each(KINDS)('a $kind queue', ({ packed }) => {
  test('gives nothing before the driver publishes', () => {
    const { driver, queue, chain } = setUp({ packed })
    expect(queue.pop(chain)).toBe(POP_EMPTY)
    driver.add([readable(0)])
    expect(queue.pop(chain)).toBe(POP_EMPTY)
    driver.publish()
    expect(queue.pop(chain)).toBe(POP_OK)
  })

  test('gives chains in order, with readable segments before writable ones', () => {
    const { driver, queue, chain } = setUp({ packed })
    const lists = [[readable(0), writable(1)], [writable(2)], [readable(3), readable(4), writable(5, 512)]]
    const tokens = lists.map((list) => driver.add(list))
    driver.publish()
    for (const [i, list] of lists.entries()) {
      expect(queue.pop(chain)).toBe(POP_OK)
      expect(segments(chain)).toEqual(list)
      expect(chain.head).toBe(tokens[i])
      const bytes = (of: boolean) => list.filter((b) => b.writable === of).reduce((n, b) => n + b.length, 0)
      expect(chain.readableBytes).toBe(bytes(false))
      expect(chain.writableBytes).toBe(bytes(true))
      queue.addUsed(chain)
    }
    expect(queue.pop(chain)).toBe(POP_EMPTY)
  })

  test('returns chains in any order', () => {
    const { driver, queue } = setUp({ packed })
    const tokens = [1, 3, 2].map((n) => driver.add(Array.from({ length: n }, (_, i) => writable(i))))
    driver.publish()
    const chains = tokens.map(() => new DescriptorChain())
    for (const chain of chains) expect(queue.pop(chain)).toBe(POP_OK)
    expect(queue.inFlight).toBe(3)
    for (const i of [2, 0, 1]) expect(queue.addUsed(chains[i] as DescriptorChain, 10 + i)).toBe(true)
    expect(queue.inFlight).toBe(0)
    expect(driver.reapAll()).toEqual([2, 0, 1].map((i) => ({ token: tokens[i], length: 10 + i })))
    expect(driver.free).toBe(8)
  })

  test('shows a pushed batch only when it is published', () => {
    const { driver, queue } = setUp({ packed })
    for (let i = 0; i < 3; i += 1) driver.add([writable(i)])
    driver.publish()
    const chains = Array.from({ length: 3 }, () => new DescriptorChain())
    for (const chain of chains) queue.pop(chain)
    for (const chain of chains) queue.pushUsed(chain, 1)
    expect(driver.reap()).toBeUndefined()
    expect(queue.needsNotification()).toBe(false)
    queue.publishUsed()
    expect(driver.reapAll()).toHaveLength(3)
    expect(queue.needsNotification()).toBe(true)
  })

  test('goes round the ring for ever', () => {
    const { driver, queue, chain } = setUp({ packed, indirect: true })
    for (let turn = 0; turn < 200; turn += 1) {
      const list = Array.from({ length: 1 + (turn % 5) }, (_, i) => writable(i))
      const token = driver.add(list, { indirect: turn % 3 === 0 })
      driver.publish()
      expect(queue.pop(chain)).toBe(POP_OK)
      expect(segments(chain)).toEqual(list)
      queue.addUsed(chain, turn)
      expect(driver.reap()).toEqual({ token, length: turn })
    }
    expect(driver.free).toBe(queue.size)
  })

  test('serves chains that are added while it drains', () => {
    const { driver, queue, chain } = setUp({ packed })
    driver.send([readable(0)])
    let served = 0
    while (queue.pop(chain) !== POP_EMPTY) {
      served += 1
      queue.addUsed(chain)
      driver.reap()
      if (served < 20) driver.send([readable(0)])
    }
    expect(served).toBe(20)
  })

  test('reads through an indirect table, wherever it begins', () => {
    const { memory, driver, queue, chain } = setUp({ packed, indirect: true })
    const list = Array.from({ length: 8 }, (_, i) => (i < 3 ? readable(i) : writable(i)))
    driver.send(list, { indirect: true })
    expect(driver.free).toBe(7)
    expect(queue.pop(chain)).toBe(POP_OK)
    expect(segments(chain)).toEqual(list)
    queue.addUsed(chain)

    const odd = at(0) + 3
    const bytes = memory.read(driver.allocate(0), 16)
    memory.write(odd, bytes)
    driver.writeDescriptorAt(odd, { address: at(4), length: 5, flags: 2 })
    driver.addRaw([{ address: odd, length: 16, flags: 4 }])
    driver.publish()
    expect(queue.pop(chain)).toBe(POP_OK)
    expect(segments(chain)).toEqual([writable(4, 5)])
  })

  test('ignores WRITE in the descriptor of a table', () => {
    const { driver, queue, chain } = setUp({ packed, indirect: true })
    driver.writeDescriptorAt(at(0), { address: at(1), length: 8, flags: 0 })
    driver.addRaw([{ address: at(0), length: 16, flags: 4 | 2 }])
    driver.publish()
    expect(queue.pop(chain)).toBe(POP_OK)
    expect(segments(chain)).toEqual([readable(1, 8)])
  })

  test('drops empty buffers', () => {
    const { driver, queue, chain } = setUp({ packed })
    driver.send([readable(0, 0), readable(1), writable(2, 0), writable(3)])
    expect(queue.pop(chain)).toBe(POP_OK)
    expect(segments(chain)).toEqual([readable(1), writable(3)])
  })

  test('cuts a buffer that runs from one region into the next', () => {
    const ranges = [
      { start: 0, size: 0x9000 },
      { start: 0x9000, size: 0x10 },
      { start: 0x9010, size: 0x1000 },
    ]
    const { driver, queue, chain } = setUp({ packed }, 8, ranges)
    driver.send([readable(0), { address: 0x8ff0, length: 0x40, writable: true }, writable(0)])
    expect(queue.pop(chain)).toBe(POP_OK)
    expect(segments(chain)).toEqual([
      readable(0),
      { address: 0x8ff0, length: 0x10, writable: true },
      { address: 0x9000, length: 0x10, writable: true },
      { address: 0x9010, length: 0x20, writable: true },
      writable(0),
    ])
    expect(chain.writableBytes).toBe(0x50)
  })

  test('reaches memory above 4 GiB', () => {
    const high = 2 ** 40
    const { driver, queue, chain } = setUp({ packed }, 8, [
      { start: 0, size: 0x9000 },
      { start: high, size: 0x1000 },
    ])
    driver.send([
      readable(0),
      { address: high + 8, length: 8 },
      { address: high, length: 0x1000, writable: true },
    ])
    expect(queue.pop(chain)).toBe(POP_OK)
    expect(segments(chain)).toEqual([
      readable(0),
      { address: high + 8, length: 8, writable: false },
      { address: high, length: 0x1000, writable: true },
    ])
  })

  test('holds a chain as long as the queue', () => {
    const { driver, queue, chain } = setUp({ packed }, 64)
    const list = Array.from({ length: 64 }, (_, i) => writable(i % 8, i + 1))
    driver.send(list)
    expect(queue.pop(chain)).toBe(POP_OK)
    expect(segments(chain)).toEqual(list)
    const { lengths } = chain
    queue.addUsed(chain)
    driver.reap()
    driver.send(list)
    queue.pop(chain)
    expect(chain.lengths).toBe(lengths)
  })

  test('takes the last chain again after unpop', () => {
    const { driver, queue, chain } = setUp({ packed })
    const other = new DescriptorChain()
    for (let i = 0; i < 20; i += 1) {
      driver.send([readable(0), writable(1)])
      driver.send([writable(2)])
      expect(queue.pop(chain)).toBe(POP_OK)
      expect(queue.pop(other)).toBe(POP_OK)
      expect(queue.unpop(chain)).toBe(false)
      expect(queue.unpop(other)).toBe(true)
      expect(queue.unpop(other)).toBe(false)
      expect(queue.unpop(chain)).toBe(true)
      expect(queue.inFlight).toBe(0)
      expect(queue.pop(chain)).toBe(POP_OK)
      expect(segments(chain)).toEqual([readable(0), writable(1)])
      queue.addUsed(chain)
      queue.pop(chain)
      queue.addUsed(chain)
      expect(driver.reapAll()).toHaveLength(2)
    }
  })

  test('returns a chain once', () => {
    const { driver, queue, chain } = setUp({ packed })
    driver.send([writable(0)])
    queue.pop(chain)
    expect(chain.inFlight).toBe(true)
    expect(queue.addUsed(chain)).toBe(true)
    expect(chain.inFlight).toBe(false)
    expect(queue.addUsed(chain)).toBe(false)
    expect(queue.addUsed(new DescriptorChain())).toBe(false)
    expect(driver.reapAll()).toHaveLength(1)
  })

  test('refuses a chain that is in flight, and one of another queue', () => {
    const { driver, queue, chain } = setUp({ packed })
    const other = setUp({ packed })
    driver.send([writable(0)])
    driver.send([writable(1)])
    queue.pop(chain)
    expect(() => queue.pop(chain)).toThrow(VirtqueueError)
    expect(other.queue.addUsed(chain)).toBe(false)
    expect(queue.inFlight).toBe(1)
  })

  test('after a reset finds nothing, returns nothing and leaves memory alone', () => {
    const { memory, driver, queue, chain } = setUp({ packed, eventIndex: true })
    driver.send([writable(0)])
    driver.send([writable(1)])
    queue.pop(chain)
    queue.reset()
    const before = memory.read(0, 0x8000)
    expect(queue.pop(new DescriptorChain())).toBe(POP_EMPTY)
    expect(queue.addUsed(chain, 1)).toBe(false)
    expect(queue.unpop(chain)).toBe(false)
    queue.publishUsed()
    queue.disableNotification()
    expect(queue.enableNotification()).toBe(false)
    expect(queue.needsNotification()).toBe(false)
    expect(memory.read(0, 0x8000)).toEqual(before)
  })

  test('works again after a reset, from the beginning', () => {
    const first = setUp({ packed })
    first.driver.send([writable(0)])
    first.queue.pop(first.chain)
    first.queue.reset()
    const { driver, queue } = setUp({ packed })
    driver.send([writable(3)])
    expect(queue.pop(first.chain)).toBe(POP_OK)
    expect(segments(first.chain)).toEqual([writable(3)])
    expect(first.queue.addUsed(first.chain)).toBe(false)
    expect(queue.addUsed(first.chain)).toBe(true)
  })

  test('notes what it writes', () => {
    const { memory, driver, queue, chain } = setUp({ packed, eventIndex: true })
    driver.send([writable(0, 8), writable(1, 8)])
    queue.pop(chain)
    expect(memory.isDirty(at(0), 1)).toBe(false)
    queue.addUsed(chain, 12)
    expect(memory.isDirty(at(0), 8)).toBe(true)
    expect(memory.isDirty(at(1), 4)).toBe(true)
    expect(memory.isDirty(at(1) + 4, 1)).toBe(false)
    // The flags, length and id of the descriptor; the element and the index.
    const written = packed ? [[driver.descriptorArea + 8, 8]] : [[driver.deviceArea + 2, 10]]
    for (const [address, length] of written)
      expect(memory.isDirty(address as number, length as number)).toBe(true)
    driver.send([writable(2, 8)])
    const fresh = new DescriptorChain()
    queue.pop(fresh)
    queue.addUsed(fresh, 8)
    expect(memory.isDirty(at(2), 8)).toBe(true)
    memory.clearDirty()
    queue.enableNotification()
    const event = packed ? driver.deviceArea : driver.deviceArea + 4 + 8 * queue.size
    expect(memory.isDirty(event, 2)).toBe(true)
  })
})

test('notes what it writes in a buffer that begins where writes are tracked and ends where they are not', () => {
  const memory = new MockMemory([
    { start: 0, size: 0x9000 },
    { start: 0x9000, size: 0x1000 },
  ])
  const untracked = { ...(memory.regions[1] as GuestRegion), dirty: undefined }
  const mixed: GuestMemory = {
    findRegion: (address) => (address >= untracked.start ? untracked : memory.findRegion(address)),
  }
  const driver = new MockSplitDriver({ memory: mixed, size: 8 })
  const queue = driver.activate()
  const chain = new DescriptorChain()
  driver.send([{ address: 0x8ff8, length: 16, writable: true }])
  expect(queue.pop(chain)).toBe(POP_OK)
  queue.addUsed(chain, 16)
  expect(memory.isDirty(0x8ff8, 8)).toBe(true)
  expect(memory.isDirty(0x9000, 1)).toBe(false)
})

describe('a split queue', () => {
  test('writes used elements and the index in little-endian, after the index 65535 at 0', () => {
    const { memory, driver, queue, chain } = setUpSplit({}, 8, 65535)
    driver.add([readable(0)])
    driver.add([readable(0)])
    const head = driver.add([writable(0)])
    driver.publish()
    for (let i = 0; i < 3; i += 1) {
      expect(queue.pop(chain)).toBe(POP_OK)
      queue.addUsed(chain, 0x01020304)
    }
    expect(driver.usedIndex).toBe(2)
    const element = memory.read(driver.deviceArea + 4 + 8 * (1 % 8), 8)
    expect([...element]).toEqual([head, 0, 0, 0, 4, 3, 2, 1])
    expect(driver.reapAll()).toHaveLength(3)
  })

  test('follows buffers to a table at the end of a chain', () => {
    const { driver, queue, chain } = setUpSplit({ indirect: true })
    driver.writeDescriptorAt(at(0), { address: at(2), length: 8, flags: 2 | 1, next: 1 })
    driver.writeDescriptorAt(at(0) + 16, { address: at(3), length: 8, flags: 2 })
    driver.addRaw([
      { address: at(1), length: 8, flags: 1 },
      { address: at(0), length: 32, flags: 4 },
    ])
    driver.publish()
    expect(queue.pop(chain)).toBe(POP_OK)
    expect(segments(chain)).toEqual([readable(1, 8), writable(2, 8), writable(3, 8)])
  })
})

describe('a packed queue', () => {
  test('may have any size', () => {
    const { driver, queue, chain } = setUpPacked({}, 5)
    for (let i = 0; i < 50; i += 1) {
      driver.send(Array.from({ length: 1 + (i % 5) }, (_, page) => writable(page)))
      expect(queue.pop(chain)).toBe(POP_OK)
      expect(chain.segmentCount).toBe(1 + (i % 5))
      queue.addUsed(chain, 1)
      expect(driver.reapAll()).toHaveLength(1)
    }
  })

  test('tells by WRITE whether it has written', () => {
    const { driver, queue, chain } = setUpPacked()
    for (const length of [0, 7]) {
      driver.send([writable(0)])
      queue.pop(chain)
      queue.addUsed(chain, length)
    }
    expect([0, 1].map((i) => driver.flagsOf(i) & 2)).toEqual([0, 2])
  })

  test('ignores all flags but WRITE in a table', () => {
    const { driver, queue, chain } = setUpPacked({ indirect: true })
    driver.writeDescriptorAt(at(0), { address: at(2), length: 8, flags: 4 })
    driver.writeDescriptorAt(at(0) + 16, { address: at(3), length: 8, flags: 2 | 1 })
    driver.addRaw([{ address: at(0), length: 32, flags: 4 }])
    driver.publish()
    expect(queue.pop(chain)).toBe(POP_OK)
    expect(segments(chain)).toEqual([readable(2, 8), writable(3, 8)])
  })
})

test('a pool lends each chain to one at a time and makes no more than are out', () => {
  const pool = new ChainPool()
  const made = new Set<DescriptorChain>()
  for (let turn = 0; turn < 10; turn += 1) {
    const out = [pool.take(), pool.take(), pool.take()]
    expect(new Set(out).size).toBe(3)
    for (const chain of out) {
      made.add(chain)
      pool.give(chain)
    }
  }
  expect(made.size).toBe(3)
})
