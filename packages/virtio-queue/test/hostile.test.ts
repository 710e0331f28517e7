/**
 * A driver that does anything, and memory that changes at any time: nothing throws, hangs, grows without a bound, or
 * leaves the guest's memory. fast-check prints the seed of a failure.
 */
import fc from 'fast-check'
import { afterEach, describe, expect, test, vi } from 'vitest'
import type { GuestMemory, GuestRegion, PopResult, Virtqueue } from '../src/index.ts'
import {
  DescriptorChain,
  faultOf,
  POP_BUFFER_ADDRESS,
  POP_EMPTY,
  POP_OK,
  UNMAPPED,
  VirtqueueError,
  VirtqueueRegisters,
  Writer,
} from '../src/index.ts'
import { createMockDriver, MockMemory } from '../src/testing/index.ts'
import { KINDS } from './helpers.ts'

const RANGES = [
  { start: 0, size: 0x800 },
  { start: 0x800, size: 0x200 },
  { start: 0x1000, size: 0x400 },
]
const SIZE = 8

/** Addresses of and around memory, and the awkward ones. */
const address = fc.oneof(
  { weight: 8, arbitrary: fc.bigInt({ min: 0n, max: 0x1500n }) },
  { weight: 1, arbitrary: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(2n ** 53n, 2n ** 53n + 1n, 2n ** 64n - 1n, 2n ** 64n - 16n, 0xffff_fff0n),
  },
)
const length = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: 0, max: 0x80 }) },
  { weight: 2, arbitrary: fc.integer({ min: 1, max: 10 }).map((n) => 16 * n) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 0xffff_ffff }) },
)
const half = fc.oneof(fc.integer({ min: 0, max: SIZE + 1 }), fc.integer({ min: 0, max: 0xffff }))
const flags = fc
  .tuple(fc.integer({ min: 0, max: 7 }), fc.constantFrom(0, 0x80, 0x80, 0x80, 0x80, 0x8000, 0x8080))
  .map(([low, owner]) => low | owner)

/** What driver and device do; numbers are cut to what there is. */
const operation = fc.oneof(
  fc.record({ op: fc.constant('descriptor'), index: fc.nat(40), address, length, flags, half }),
  fc.record({ op: fc.constant('word'), at: fc.nat(0xfff), value: half }),
  fc.record({
    op: fc.constant('avail'),
    ahead: fc.oneof(fc.nat(3), fc.nat(0xffff)),
    heads: fc.array(half, { maxLength: 4 }),
  }),
  fc.record({ op: fc.constant('flags'), index: fc.nat(SIZE - 1), flags }),
  fc.record({
    op: fc.constantFrom(
      'pop',
      'pop',
      'pop',
      'use',
      'push',
      'publish',
      'unpop',
      'notify',
      'enable',
      'disable',
    ),
    chain: fc.nat(5),
    length: fc.nat(200),
  }),
)
type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never

class World {
  readonly memory = new MockMemory(RANGES)
  readonly chains = Array.from({ length: 6 }, () => new DescriptorChain())
  readonly queue: Virtqueue
  readonly driver
  readonly #index: number

  constructor(packed: boolean, eventIndex: boolean, indirect: boolean) {
    this.driver = createMockDriver({
      memory: this.memory,
      size: SIZE,
      base: 0,
      features: { packed, eventIndex, indirect },
    })
    this.queue = this.driver.activate()
    this.#index = this.driver.driverArea + 2
  }

  run(operation: Operation): void {
    const { memory, queue, driver } = this
    const { view } = memory.regions[0] as GuestRegion
    if (operation.op === 'descriptor' && 'address' in operation) {
      // The last ones are tables, in all three regions.
      const { index, half: next, ...rest } = operation
      const place = index < 24 ? 16 * (index % SIZE) : ([0x600, 0x7f0, 0x1000, 0x13f0][index % 4] as number)
      const room = memory.findRegion(place)
      if (room !== undefined) driver.writeDescriptorAt(place, { ...rest, next })
    } else if (operation.op === 'word' && 'at' in operation) {
      view.setUint16(operation.at % 0x7fe, operation.value, true)
    } else if (operation.op === 'avail' && 'heads' in operation) {
      const index = view.getUint16(this.#index, true)
      for (const [i, head] of operation.heads.entries()) {
        view.setUint16(this.#index + 2 + 2 * ((index + i) % SIZE), head, true)
      }
      view.setUint16(this.#index, (index + operation.ahead) & 0xffff, true)
    } else if (operation.op === 'flags' && 'flags' in operation) {
      view.setUint16(16 * operation.index + 14, operation.flags, true)
    } else if ('chain' in operation) {
      this.#device(operation.op, this.chains[operation.chain] as DescriptorChain, operation.length)
    }
    expect(queue.inFlight).toBeLessThanOrEqual(SIZE)
  }

  #device(op: string, chain: DescriptorChain, length: number): void {
    const { queue } = this
    if (op === 'pop' && !chain.inFlight) this.check(queue.pop(chain), chain)
    else if (op === 'use') queue.addUsed(chain, length)
    else if (op === 'push') queue.pushUsed(chain, length)
    else if (op === 'publish') queue.publishUsed()
    else if (op === 'unpop') queue.unpop(chain)
    else if (op === 'notify') queue.needsNotification()
    else if (op === 'enable') queue.enableNotification()
    else if (op === 'disable') queue.disableNotification()
  }

  /** What a device may rely on after a pop, and what it may then do. */
  check(result: PopResult, chain: DescriptorChain): void {
    if (result === POP_EMPTY) return
    if (result !== POP_OK && result !== POP_BUFFER_ADDRESS) {
      expect(faultOf(result)?.needsReset).toBe(true)
      expect(chain.segmentCount).toBe(0)
      return
    }
    const { readableCount, segmentCount } = chain
    expect(readableCount).toBeLessThanOrEqual(segmentCount)
    // At most one buffer for each descriptor of the queue, cut at each region and at the end of memory.
    expect(segmentCount).toBeLessThanOrEqual(SIZE * (RANGES.length + 1))
    const sums = [0, 0]
    let holes = 0
    for (let i = 0; i < segmentCount; i += 1) {
      const [region, offset, size] = [chain.regions[i], chain.offsets[i], chain.lengths[i]] as [
        GuestRegion,
        number,
        number,
      ]
      expect(size).toBeGreaterThan(0)
      if (region === UNMAPPED) {
        holes += 1
      } else {
        expect(this.memory.regions).toContain(region)
        expect(offset >= 0 && offset + size <= region.size).toBe(true)
      }
      sums[i < readableCount ? 0 : 1] = (sums[i < readableCount ? 0 : 1] as number) + size
    }
    expect(sums).toEqual([chain.readableBytes, chain.writableBytes])
    expect(chain.readableBytes + chain.writableBytes).toBeLessThanOrEqual(2 ** 32)
    expect(holes > 0).toBe(result === POP_BUFFER_ADDRESS)
    const reader = chain.reader()
    reader.readUint64()
    reader.read(new Uint8Array(200))
    reader.skip(Math.min(50, reader.available))
    reader.readUint16()
    const writer = chain.writer()
    const tail = new Writer()
    writer.writeUint32(0xffff_ffff)
    writer.fill(0x5a, 300)
    writer.splitAt(Math.min(3, writer.available), tail)
    writer.writeUint8(1)
    tail.writeUint8(2)
    expect(this.memory.guardsIntact()).toBe(true)
  }

  /** Whatever has happened, draining ends, and everything in flight can be returned. */
  finish(): void {
    for (const chain of this.chains) this.queue.addUsed(chain)
    const chain = this.chains[0] as DescriptorChain
    let pops = 0
    for (let result = this.queue.pop(chain); result !== POP_EMPTY; result = this.queue.pop(chain)) {
      this.check(result, chain)
      this.queue.addUsed(chain)
      pops += 1
      if (pops > 4 * SIZE) break
    }
    // Heads that are no descriptors are taken off one by one; in a packed ring a used descriptor is not available.
    expect(pops).toBeLessThanOrEqual(2 * SIZE)
    expect(this.memory.guardsIntact()).toBe(true)
  }
}

const features = fc.tuple(fc.boolean(), fc.boolean())

describe.each(KINDS)('a $kind queue', ({ packed }) => {
  afterEach(() => {
    vi.restoreAllMocks()
  })

  test('survives any sequence of operations on any memory', () => {
    const seen = new Set<PopResult>()
    const check = World.prototype.check
    vi.spyOn(World.prototype, 'check').mockImplementation(function (this: World, result, chain) {
      seen.add(result)
      check.call(this, result, chain)
    })
    fc.assert(
      fc.property(features, fc.array(operation, { maxLength: 60 }), ([eventIndex, indirect], operations) => {
        const world = new World(packed, eventIndex, indirect)
        for (const operation of operations) world.run(operation)
        world.finish()
      }),
      { numRuns: 3000 },
    )
    // The generator is worth something: it reaches good chains and most faults.
    expect([...seen]).toEqual(expect.arrayContaining([POP_EMPTY, POP_OK, POP_BUFFER_ADDRESS]))
    expect(seen.size).toBeGreaterThan(6)
  })

  test('survives memory that changes under every read', () => {
    const change = fc.array(fc.tuple(fc.nat(0x7fe), half), { minLength: 1, maxLength: 40 })
    fc.assert(
      fc.property(
        features,
        fc.array(operation, { maxLength: 30 }),
        change,
        ([eventIndex, indirect], operations, changes) => {
          const world = new World(packed, eventIndex, indirect)
          let turn = 0
          const { getUint32, getInt32, setUint16 } = DataView.prototype
          const { view } = world.memory.regions[0] as GuestRegion
          const meddle = (): void => {
            const [at, value] = changes[turn % changes.length] as [number, number]
            turn += 1
            setUint16.call(view, at % 0x7fe, value, true)
          }
          vi.spyOn(DataView.prototype, 'getUint32').mockImplementation(function (this: DataView, ...args) {
            meddle()
            return getUint32.apply(this, args)
          })
          vi.spyOn(DataView.prototype, 'getInt32').mockImplementation(function (this: DataView, ...args) {
            meddle()
            return getInt32.apply(this, args)
          })
          try {
            for (const operation of operations) world.run(operation)
            for (const chain of world.chains) world.queue.addUsed(chain)
            for (let i = 0; i < 4 * SIZE; i += 1) {
              const chain = world.chains[0] as DescriptorChain
              world.check(world.queue.pop(chain), chain)
              world.queue.addUsed(chain)
            }
          } finally {
            vi.restoreAllMocks()
          }
          expect(world.memory.guardsIntact()).toBe(true)
        },
      ),
      { numRuns: 500 },
    )
  })

  test('reads each field of a descriptor once', () => {
    for (const isIndirect of [false, true]) {
      const memory = new MockMemory()
      const driver = createMockDriver({ memory, size: SIZE, features: { packed, indirect: true } })
      driver.send(
        Array.from({ length: SIZE }, (_, i) => ({ address: 0x8000, length: 8, writable: i > 3 })),
        { indirect: isIndirect },
      )
      const queue = driver.activate()
      const reads = new Map<number, number>()
      for (const method of ['getUint32', 'getInt32', 'getUint16'] as const) {
        const original = DataView.prototype[method]
        vi.spyOn(DataView.prototype, method).mockImplementation(function (
          this: DataView,
          offset,
          littleEndian,
        ) {
          for (let i = 0; i < (method === 'getUint16' ? 2 : 4); i += 1) {
            const at = this.byteOffset + offset + i
            reads.set(at, (reads.get(at) ?? 0) + 1)
          }
          return original.call(this, offset, littleEndian)
        })
      }
      expect(queue.pop(new DescriptorChain())).toBe(POP_OK)
      vi.restoreAllMocks()
      expect(reads.size).toBe(16 * (isIndirect ? SIZE + 1 : SIZE))
      expect([...reads.values()].every((count) => count === 1)).toBe(true)
    }
  })

  test('is made, or refused with an error, from any registers', () => {
    const word = fc.oneof(fc.integer({ min: 0, max: 0x1600 }), fc.integer({ min: 0, max: 0xffff_ffff }))
    fc.assert(
      fc.property(
        fc.integer(),
        fc.array(word, { minLength: 3, maxLength: 3 }),
        fc.array(fc.constantFrom(0, 0, 0, 1, 0xffff_ffff), { minLength: 3, maxLength: 3 }),
        (size, low, high) => {
          const memory: GuestMemory & MockMemory = new MockMemory(RANGES)
          const registers = new VirtqueueRegisters(64)
          registers.setSize(size & 0x7f)
          registers.ready = true
          for (const [i, area] of [
            registers.descriptorArea,
            registers.driverArea,
            registers.deviceArea,
          ].entries()) {
            area.setLow(low[i] as number)
            area.setHigh(high[i] as number)
          }
          const queue = registers.activate(memory, { packed, eventIndex: true, indirect: true })
          if (queue instanceof VirtqueueError) return
          const chain = new DescriptorChain()
          queue.pop(chain)
          queue.addUsed(chain)
          queue.enableNotification()
          queue.needsNotification()
          expect(memory.guardsIntact()).toBe(true)
        },
      ),
      { numRuns: 2000 },
    )
  })
})
