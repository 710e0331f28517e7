import { GuestMemory } from '@vmm/vm-memory'
import { describe, expect, test } from 'vitest'
import { DescriptorChain, POP_OK } from '../src/index.ts'
import { createMockDriver } from '../src/testing/index.ts'
import { KINDS } from './helpers.ts'

const PAGE = 4096

describe.each(KINDS)('a $kind queue over @vmm/vm-memory', ({ packed }) => {
  test('serves requests over two regions and marks the pages it writes', () => {
    const ranges = [
      { start: 0, size: 16 * PAGE },
      { start: 16 * PAGE, size: 16 * PAGE },
    ]
    const memory = GuestMemory.fromRanges(ranges, { trackDirty: true })
    const driver = createMockDriver({ memory, size: 16, base: PAGE, features: { packed, eventIndex: true } })
    const queue = driver.activate()
    const chain = new DescriptorChain()
    memory.writeUint32(8 * PAGE, 0xfeed)
    for (const region of memory.regions) region.dirty?.take()
    driver.send([
      { address: 8 * PAGE, length: 4 },
      { address: 15 * PAGE + 8, length: PAGE, writable: true },
    ])
    expect(queue.pop(chain)).toBe(POP_OK)
    expect(chain.segmentCount).toBe(3)
    expect(chain.reader().readUint32()).toBe(0xfeed)
    expect(chain.writer().fill(0x11, PAGE)).toBe(PAGE)
    expect(queue.addUsed(chain, PAGE)).toBe(true)
    expect(driver.reap()).toMatchObject({ length: PAGE })
    expect(memory.readUint8(16 * PAGE + 7)).toBe(0x11)
    const [low, high] = memory.regions.map((region) => [...(region.dirty?.ranges() ?? [])])
    const used = (packed ? driver.descriptorArea : driver.deviceArea) & -PAGE
    expect(low).toEqual([
      { offset: used, length: PAGE },
      { offset: 15 * PAGE, length: PAGE },
    ])
    expect(high).toEqual([{ offset: 0, length: PAGE }])
  })
})
