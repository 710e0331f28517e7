import { describe, expect, test } from 'vitest'
import { DescriptorChain, faultOf, POP_BUFFER_ADDRESS, POP_EMPTY, POP_OK, UNMAPPED } from '../src/index.ts'
import { VIRTQ_DESC_F_INDIRECT, VIRTQ_DESC_F_NEXT, VIRTQ_DESC_F_WRITE } from '../src/spec.ts'
import type { RawDescriptor } from '../src/testing/index.ts'
import { at, codeOf, KINDS, segments, setUp, setUpPacked, setUpSplit } from './helpers.ts'

const NEXT = VIRTQ_DESC_F_NEXT
const WRITE = VIRTQ_DESC_F_WRITE
const INDIRECT = VIRTQ_DESC_F_INDIRECT
const raw = (flags: number, more: Partial<RawDescriptor> = {}): RawDescriptor => ({
  address: at(0),
  length: 16,
  flags,
  ...more,
})

interface Case {
  readonly what: string
  readonly code: string
  readonly descriptors: readonly RawDescriptor[]
  readonly table?: readonly RawDescriptor[]
  readonly indirect?: boolean
}

const TABLE = at(1)
const table = (length: number, flags = INDIRECT): RawDescriptor => raw(flags, { address: TABLE, length })

const both: readonly Case[] = [
  {
    what: 'a readable descriptor after a writable one',
    code: 'ERR_VIRTQ_DIRECTION',
    descriptors: [raw(NEXT | WRITE), raw(NEXT), raw(WRITE)],
  },
  {
    what: 'more than 2^32 bytes',
    code: 'ERR_VIRTQ_TOTAL_LENGTH',
    descriptors: [raw(NEXT, { length: 0xffff_ffff }), raw(NEXT, { length: 1 }), raw(0, { length: 1 })],
  },
  {
    what: 'an indirect descriptor without the feature',
    code: 'ERR_VIRTQ_INDIRECT_UNNEGOTIATED',
    descriptors: [table(16)],
    indirect: false,
  },
  {
    what: 'NEXT beside INDIRECT',
    code: 'ERR_VIRTQ_INDIRECT_LINKED',
    descriptors: [table(16, INDIRECT | NEXT), raw(0)],
  },
  { what: 'an empty table', code: 'ERR_VIRTQ_INDIRECT_LENGTH', descriptors: [table(0)] },
  { what: 'a table of a descriptor and a half', code: 'ERR_VIRTQ_INDIRECT_LENGTH', descriptors: [table(24)] },
  {
    what: 'a table outside memory',
    code: 'ERR_VIRTQ_INDIRECT_ADDRESS',
    descriptors: [raw(INDIRECT, { address: 0x8000_0000 })],
  },
  {
    what: 'a table that runs out of memory',
    code: 'ERR_VIRTQ_INDIRECT_ADDRESS',
    descriptors: [raw(INDIRECT, { address: 0xfff0, length: 32 })],
  },
  {
    what: 'a table at 2^64 - 16',
    code: 'ERR_VIRTQ_INDIRECT_ADDRESS',
    descriptors: [raw(INDIRECT, { address: 2n ** 64n - 16n })],
  },
  {
    what: 'a table with more descriptors than the queue',
    code: 'ERR_VIRTQ_CHAIN_LENGTH',
    descriptors: [table(16 * 9)],
    table: Array.from({ length: 9 }, (_, i) => raw(i < 8 ? NEXT : 0, { next: i + 1 })),
  },
  {
    what: 'a readable descriptor after a writable one in a table',
    code: 'ERR_VIRTQ_DIRECTION',
    descriptors: [table(32)],
    table: [raw(WRITE | NEXT, { next: 1 }), raw(0)],
  },
]

const splitOnly: readonly Case[] = [
  {
    what: 'a descriptor that links to itself',
    code: 'ERR_VIRTQ_CHAIN_LENGTH',
    descriptors: [raw(NEXT, { next: 0 })],
  },
  {
    what: 'a loop of two',
    code: 'ERR_VIRTQ_CHAIN_LENGTH',
    descriptors: [raw(NEXT, { next: 1, length: 0 }), raw(NEXT, { next: 0 })],
  },
  { what: 'next past the table', code: 'ERR_VIRTQ_NEXT_INDEX', descriptors: [raw(NEXT, { next: 8 })] },
  {
    what: 'next past an indirect table',
    code: 'ERR_VIRTQ_NEXT_INDEX',
    descriptors: [table(32)],
    table: [raw(NEXT, { next: 2 }), raw(0)],
  },
  {
    what: 'a loop in an indirect table',
    code: 'ERR_VIRTQ_CHAIN_LENGTH',
    descriptors: [table(16)],
    table: [raw(NEXT, { next: 0 })],
  },
  {
    what: 'a table in a table',
    code: 'ERR_VIRTQ_INDIRECT_NESTED',
    descriptors: [table(16)],
    table: [table(16)],
  },
  {
    what: 'a table of 65536 descriptors',
    code: 'ERR_VIRTQ_INDIRECT_LENGTH',
    descriptors: [table(65536 * 16)],
  },
]

const packedOnly: readonly Case[] = [
  {
    what: 'a table behind a buffer',
    code: 'ERR_VIRTQ_INDIRECT_LINKED',
    descriptors: [raw(NEXT), table(16)],
  },
]

describe.each(KINDS)('a $kind queue', ({ packed }) => {
  test.each([...both, ...(packed ? packedOnly : splitOnly)])(
    'gives $what as $code, takes it off the ring and goes on',
    ({ code, descriptors, table: entries = [], indirect = true }) => {
      const { driver, queue, chain } = setUp({ packed, indirect })
      entries.forEach((entry, i) => {
        driver.writeDescriptorAt(TABLE + 16 * i, entry)
      })
      const token = driver.addRaw(descriptors)
      driver.publish()
      const result = queue.pop(chain)
      expect(codeOf(result)).toBe(code)
      expect(faultOf(result)?.needsReset).toBe(true)
      expect(queue.fault).toBe(POP_EMPTY)
      expect(chain.segmentCount + chain.readableBytes + chain.writableBytes).toBe(0)
      expect(queue.addUsed(chain)).toBe(true)
      expect(driver.reap()).toEqual({ token, length: 0 })
      expect(driver.free).toBe(8)

      driver.send([{ address: at(4), length: 4 }])
      expect(queue.pop(chain)).toBe(POP_OK)
      expect(segments(chain)).toEqual([{ address: at(4), length: 4, writable: false }])
    },
  )

  test('accepts exactly 2^32 bytes and as many descriptors as the queue has', () => {
    const start = 2 ** 32
    const bytes = new Uint8Array(0)
    const memory = {
      // Pretends to have 4 GiB: nothing of it is touched.
      findRegion: (address: number) =>
        address >= start && address < 2 * start
          ? { start, size: start, bytes, view: new DataView(bytes.buffer) }
          : bench.memory.findRegion(address),
    }
    const bench = setUp({ packed })
    const { driver } = bench
    const queue = Object.assign(driver, { memory }).activate()
    const chain = new DescriptorChain()
    driver.addRaw([
      ...Array.from({ length: 7 }, (_, i) =>
        raw(NEXT, { address: start + i, length: i === 0 ? 2 ** 32 - 7 : 1 }),
      ),
      raw(WRITE, { address: start, length: 1 }),
    ])
    driver.publish()
    expect(queue.pop(chain)).toBe(POP_OK)
    expect(chain.readableBytes + chain.writableBytes).toBe(2 ** 32)
    expect(chain.segmentCount).toBe(8)
  })

  const outside = [
    ['outside memory', 0x8000_0000, 16, []],
    ['that runs out of memory', 0xfff8, 16, [{ address: 0xfff8, length: 8, writable: false }]],
    ['at 2^53', 2n ** 53n, 16, []],
    // Rounded to a number, this one is 2^64, cut to 64 bits 0: neither may be believed.
    ['at 2^64 - 1', 2n ** 64n - 1n, 16, []],
    ['in memory but for its high word', 2n ** 53n + BigInt(at(0)), 16, []],
  ] as const
  test.each(outside)('gives a buffer %s with its place left open', (_, address, length, mapped) => {
    const { memory, driver, queue, chain } = setUp({ packed })
    const token = driver.addRaw([raw(NEXT), raw(NEXT, { address, length }), raw(WRITE, { address: at(2) })])
    driver.publish()
    const result = queue.pop(chain)
    expect(result).toBe(POP_BUFFER_ADDRESS)
    expect(faultOf(result)).toMatchObject({ code: 'ERR_VIRTQ_BUFFER_ADDRESS', needsReset: false })
    expect(chain.readableBytes).toBe(32)
    expect(chain.writableBytes).toBe(16)
    expect(segments(chain).filter((_, i) => chain.regions[i] !== UNMAPPED)).toEqual([
      { address: at(0), length: 16, writable: false },
      ...mapped,
      { address: at(2), length: 16, writable: true },
    ])
    expect(chain.regions.filter((region, i) => i < chain.segmentCount && region === UNMAPPED)).toHaveLength(1)
    // The device can still say in its own way what is wrong.
    expect(chain.writer().writeUint8(0x7f)).toBe(true)
    expect(memory.read(at(2), 1)[0]).toBe(0x7f)
    queue.addUsed(chain, 1)
    expect(driver.reap()).toEqual({ token, length: 1 })
    expect(memory.guardsIntact()).toBe(true)
  })

  test('has words for every fault and none for the rest', () => {
    expect(faultOf(POP_EMPTY)).toBeUndefined()
    expect(faultOf(POP_OK)).toBeUndefined()
    for (const result of [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14] as const) {
      expect(faultOf(result)).toMatchObject({
        code: expect.stringMatching(/^ERR_VIRTQ_/),
        needsReset: result !== 2,
      })
    }
  })
})

describe('a split queue', () => {
  test('passes over a head that is no descriptor, which cannot be returned', () => {
    const { driver, queue, chain } = setUpSplit()
    driver.offer(8)
    driver.offer(0xffff)
    driver.send([{ address: at(0), length: 4 }])
    for (const head of [8, 0xffff]) {
      expect(codeOf(queue.pop(chain))).toBe('ERR_VIRTQ_HEAD_INDEX')
      expect(chain.head).toBe(head)
      expect(queue.addUsed(chain)).toBe(false)
      expect(driver.usedIndex).toBe(0)
    }
    expect(queue.pop(chain)).toBe(POP_OK)
  })

  test.each([
    ['more buffers than the queue holds', 9],
    ['an index that went back', 65535],
  ])('stops at %s', (_, index) => {
    const { driver, queue, chain } = setUpSplit()
    const other = setUpSplit()
    other.driver.send([{ address: at(0), length: 4 }])
    other.queue.pop(chain)
    driver.setAvailIndex(index)
    expect(codeOf(queue.pop(chain))).toBe('ERR_VIRTQ_AVAIL_INDEX')
    expect(chain.segmentCount).toBe(0)
    expect(codeOf(queue.fault)).toBe('ERR_VIRTQ_AVAIL_INDEX')
    expect(queue.pop(chain)).toBe(POP_EMPTY)
    driver.setAvailIndex(1)
    expect(queue.pop(chain)).toBe(POP_EMPTY)
    expect(queue.enableNotification()).toBe(false)
  })

  // Golden vector of rust-vmm's virtio-queue.
  test('stops when the index goes back behind chains that were taken', () => {
    const { driver, queue } = setUpSplit()
    for (const n of [2, 3, 2]) driver.add(Array.from({ length: n }, () => ({ address: at(0), length: 4 })))
    driver.publish()
    for (let i = 0; i < 3; i += 1) expect(queue.pop(new DescriptorChain())).toBe(POP_OK)
    driver.setAvailIndex(1)
    expect(codeOf(queue.pop(new DescriptorChain()))).toBe('ERR_VIRTQ_AVAIL_INDEX')
  })

  test.each([0, 65530, 65535])('takes a full queue from index %i, and one more not', (index) => {
    for (const extra of [0, 1]) {
      const { driver, queue } = setUpSplit({}, 8, index)
      for (let i = 0; i < 8; i += 1) driver.add([{ address: at(0), length: 4 }])
      driver.setAvailIndex(index + 8 + extra)
      for (let i = 0; i < 8 * (1 - extra); i += 1) expect(queue.pop(new DescriptorChain())).toBe(POP_OK)
      expect(codeOf(queue.pop(new DescriptorChain()))).toBe(extra ? 'ERR_VIRTQ_AVAIL_INDEX' : undefined)
    }
  })

  test('never has more in flight than its size', () => {
    const { driver, queue } = setUpSplit({}, 4)
    let popped = 0
    for (let i = 0; i < 12; i += 1) {
      driver.offer(0)
      driver.publish()
      if (queue.pop(new DescriptorChain()) === POP_OK) popped += 1
    }
    expect(popped).toBe(4)
    expect(codeOf(queue.fault)).toBe('ERR_VIRTQ_AVAIL_INDEX')
  })
})

describe('a packed queue', () => {
  test('stops at a list that runs on into descriptors that are not available', () => {
    const { driver, queue, chain } = setUpPacked()
    driver.addRaw([raw(NEXT), raw(NEXT)])
    driver.publish()
    expect(codeOf(queue.pop(chain))).toBe('ERR_VIRTQ_UNAVAILABLE')
    expect(codeOf(queue.fault)).toBe('ERR_VIRTQ_UNAVAILABLE')
    expect(queue.addUsed(chain)).toBe(false)
    driver.send([{ address: at(0), length: 4 }])
    expect(queue.pop(chain)).toBe(POP_EMPTY)
  })

  test('stops at a list without an end', () => {
    const { driver, queue, chain } = setUpPacked()
    driver.addRaw(Array.from({ length: 8 }, () => raw(NEXT)))
    driver.publish()
    expect(codeOf(queue.pop(chain))).toBe('ERR_VIRTQ_UNAVAILABLE')
  })

  test('stops at the end of a malformed list that is none', () => {
    const { driver, queue, chain } = setUpPacked()
    driver.addRaw([raw(NEXT | WRITE), raw(NEXT), raw(NEXT)])
    driver.publish()
    expect(codeOf(queue.pop(chain))).toBe('ERR_VIRTQ_UNAVAILABLE')
  })

  test('never has more in flight than its size', () => {
    const { driver, queue } = setUpPacked({}, 4)
    for (let i = 0; i < 4; i += 1) driver.add([{ address: at(0), length: 4 }])
    driver.publish()
    for (let i = 0; i < 4; i += 1) expect(queue.pop(new DescriptorChain())).toBe(POP_OK)
    // As the next turn of the ring has it.
    driver.setFlags(0, 1 << 15)
    expect(codeOf(queue.pop(new DescriptorChain()))).toBe('ERR_VIRTQ_AVAIL_INDEX')
    expect(queue.inFlight).toBe(4)
  })

  test('stops at a list that runs on into descriptors that are in flight', () => {
    const { driver, queue } = setUpPacked({}, 4)
    driver.send([
      { address: at(0), length: 4 },
      { address: at(0), length: 4 },
    ])
    expect(queue.pop(new DescriptorChain())).toBe(POP_OK)
    driver.addRaw([raw(NEXT), raw(NEXT)])
    driver.publish()
    for (const index of [0, 1]) driver.writeDescriptor(index, raw((1 << 15) | (index === 0 ? NEXT : 0)))
    expect(codeOf(queue.pop(new DescriptorChain()))).toBe('ERR_VIRTQ_UNAVAILABLE')
  })

  test('stops at the end of a malformed list that runs on into descriptors in flight', () => {
    const { driver, queue } = setUpPacked({}, 4)
    driver.send([{ address: at(0), length: 4 }])
    expect(queue.pop(new DescriptorChain())).toBe(POP_OK)
    driver.addRaw([raw(NEXT | WRITE), raw(NEXT), raw(NEXT)])
    driver.publish()
    driver.writeDescriptor(0, raw(1 << 15))
    expect(codeOf(queue.pop(new DescriptorChain()))).toBe('ERR_VIRTQ_UNAVAILABLE')
  })

  test('finds the end of a malformed list behind the end of the ring', () => {
    const { driver, queue, chain } = setUpPacked({}, 4)
    driver.send([{ address: at(0), length: 4 }])
    queue.pop(chain)
    queue.addUsed(chain)
    driver.reap()
    const token = driver.addRaw([raw(NEXT | WRITE), raw(NEXT), raw(NEXT), raw(0)])
    driver.publish()
    expect(codeOf(queue.pop(chain))).toBe('ERR_VIRTQ_DIRECTION')
    queue.addUsed(chain)
    expect(driver.reap()).toEqual({ token, length: 0 })
    driver.send([{ address: at(0), length: 4 }])
    expect(queue.pop(chain)).toBe(POP_OK)
  })

  test('returns what is in flight after the ring is at fault', () => {
    const { driver, queue, chain } = setUpPacked()
    driver.send([{ address: at(0), length: 4, writable: true }])
    queue.pop(chain)
    driver.addRaw([raw(NEXT)])
    driver.publish()
    expect(codeOf(queue.pop(new DescriptorChain()))).toBe('ERR_VIRTQ_UNAVAILABLE')
    expect(queue.addUsed(chain, 4)).toBe(true)
    expect(driver.reap()).toMatchObject({ length: 4 })
  })
})
