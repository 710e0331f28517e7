import type { GuestRegion, PopResult, Virtqueue, VirtqueueFeatures } from '../src/index.ts'
import { DescriptorChain, faultOf } from '../src/index.ts'
import type { MockBuffer, MockDriverOptions, MockRange, MockSplitDriver } from '../src/testing/index.ts'
import { MockMemory, MockPackedDriver, MockSplitDriver as SplitDriver } from '../src/testing/index.ts'

/** Every kind of queue, for `describe.each`. */
export const KINDS = [
  { kind: 'split', packed: false },
  { kind: 'packed', packed: true },
] as const

/** Places for buffers: page by page, above what a driver allocates for itself. */
export const BUFFERS = 0x8000
export const PAGE = 0x1000
export const at = (page: number): number => BUFFERS + PAGE * page

export interface Bench {
  readonly memory: MockMemory
  readonly driver: MockSplitDriver | MockPackedDriver
  readonly queue: Virtqueue
  readonly chain: DescriptorChain
}

export function setUp(
  features: Partial<VirtqueueFeatures> = {},
  size = 8,
  ranges?: readonly MockRange[],
): Bench {
  const memory = new MockMemory(ranges)
  const options: MockDriverOptions = { memory, size, features }
  const driver = features.packed ? new MockPackedDriver(options) : new SplitDriver(options)
  return { memory, driver, queue: driver.activate(), chain: new DescriptorChain() }
}

/** @param index where both sides stand */
export function setUpSplit(
  features: Partial<VirtqueueFeatures> = {},
  size = 8,
  index = 0,
): Bench & { readonly driver: MockSplitDriver } {
  const memory = new MockMemory()
  const driver = new SplitDriver({ memory, size, features })
  driver.startAt(index)
  const queue = driver.activate({ nextAvail: index, nextUsed: index, unnotified: 0 })
  return { memory, driver, queue, chain: new DescriptorChain() }
}

export function setUpPacked(
  features: Partial<VirtqueueFeatures> = {},
  size = 8,
): Bench & { readonly driver: MockPackedDriver } {
  const memory = new MockMemory()
  const driver = new MockPackedDriver({ memory, size, features: { ...features, packed: true } })
  return { memory, driver, queue: driver.activate(), chain: new DescriptorChain() }
}

/** The segments of a chain as a driver would list them; those that are not in memory begin at NaN. */
export function segments(chain: DescriptorChain): MockBuffer[] {
  return Array.from({ length: chain.segmentCount }, (_, i) => {
    const { start, size } = chain.regions[i] as GuestRegion
    const [offset = -1, length = 0] = [chain.offsets[i], chain.lengths[i]]
    const isMapped = offset >= 0 && offset + length <= size
    return { address: isMapped ? start + offset : Number.NaN, length, writable: i >= chain.readableCount }
  })
}

export const codeOf = (result: PopResult): string | undefined => faultOf(result)?.code
