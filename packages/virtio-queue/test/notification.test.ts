import { afterEach, describe, expect, test, vi } from 'vitest'
import { DescriptorChain, needEvent, needPackedEvent, POP_EMPTY, POP_OK } from '../src/index.ts'
import { RING_EVENT_FLAGS_DESC, RING_EVENT_FLAGS_DISABLE, RING_EVENT_FLAGS_ENABLE } from '../src/spec.ts'
import type { Bench } from './helpers.ts'
import { at, KINDS, setUp, setUpPacked, setUpSplit } from './helpers.ts'

const buffer = { address: at(0), length: 16, writable: true }

/** Uses `count` buffers and publishes them at once. */
function use({ driver, queue, chain }: Pick<Bench, 'driver' | 'queue' | 'chain'>, count: number): void {
  for (let i = 0; i < count; i += 1) {
    if (driver.free === 0) driver.reapAll()
    driver.add([buffer])
    driver.publish()
    expect(queue.pop(chain)).toBe(POP_OK)
    queue.pushUsed(chain)
  }
  queue.publishUsed()
}

describe('the arithmetic of a split queue', () => {
  // What the spec says (2.7.7.2): an entry was placed at the index that the other side named.
  const placed = (event: number, old: number, added: number): boolean => {
    for (let i = 0; i < added; i += 1) if (((old + i) & 0xffff) === event) return true
    return false
  }

  test('agrees with the definition for every event and every start, up to 40 steps', () => {
    // Both sides only depend on differences: the starts are those where something could wrap.
    for (const old of [0, 1, 2, 0x7ffe, 0x7fff, 0x8000, 0xffd0, 0xfffe, 0xffff]) {
      for (let added = 0; added <= 40; added += 1) {
        const index = (old + added) & 0xffff
        let notified = 0
        for (let event = 0; event <= 0xffff; event += 1) if (needEvent(event, index, added)) notified += 1
        // As many events as steps, and exactly those of the steps.
        expect(notified).toBe(added)
        for (let i = 0; i < added; i += 1) {
          const event = (old + i) & 0xffff
          expect(needEvent(event, index, added) && placed(event, old, added)).toBe(true)
        }
      }
    }
  })

  test('agrees with the definition for every number of steps', () => {
    for (const event of [0, 5, 0xffff]) {
      for (const old of [0, 4, 5, 6, 0xfffe, 0xffff]) {
        const first = (event - old) & 0xffff
        for (let added = 0; added <= 0x1_0002; added += 1) {
          if (needEvent(event, (old + added) & 0xffff, added) !== first < added) {
            expect.fail(`event ${event}, from ${old}, ${added} steps`)
          }
        }
      }
    }
  })
})

describe('the arithmetic of a packed queue', () => {
  test('agrees with the definition for every position, event and number of steps of small rings', () => {
    for (const size of [1, 2, 3, 5, 8]) {
      for (let old = 0; old < 2 * size; old += 1) {
        for (let added = 0; added <= size; added += 1) {
          const now = old + added
          const passed = new Set(Array.from({ length: added }, (_, i) => (old + i) % (2 * size)))
          const wrap = Math.floor(now / size) % 2 === 0 ? 1 : 0
          for (let event = 0; event < 2 * size; event += 1) {
            const word = (event % size) | (event < size ? 0x8000 : 0)
            expect(needPackedEvent(word, now % size, wrap, added, size)).toBe(passed.has(event))
          }
        }
      }
    }
  })

  test('notifies when more has passed than the ring holds', () => {
    expect(needPackedEvent(0x8003, 1, 0, 9, 8)).toBe(true)
  })
})

describe.each(KINDS)('a $kind queue', ({ packed }) => {
  test('notifies of what was used since the last decision', () => {
    const bench = setUp({ packed })
    expect(bench.queue.needsNotification()).toBe(false)
    use(bench, 1)
    expect(bench.queue.needsNotification()).toBe(true)
    expect(bench.queue.needsNotification()).toBe(false)
    use(bench, 3)
    expect(bench.queue.needsNotification()).toBe(true)
  })

  test('keeps quiet when the driver asks for it', () => {
    const bench = setUp({ packed })
    bench.driver.disableInterrupts()
    use(bench, 2)
    expect(bench.queue.needsNotification()).toBe(false)
    expect(bench.driver.enableInterrupts()).toBe(true)
    expect(bench.queue.needsNotification()).toBe(false)
    use(bench, 1)
    expect(bench.queue.needsNotification()).toBe(true)
  })

  test('with EVENT_IDX notifies once the buffer is used that the driver named', () => {
    const bench = setUp({ packed, eventIndex: true }, 4)
    for (let turn = 0; turn < 50; turn += 1) {
      bench.driver.reapAll()
      bench.driver.enableInterrupts(3)
      const decisions = [1, 2, 3, 4].map(() => {
        use(bench, 1)
        return bench.queue.needsNotification()
      })
      expect(decisions).toEqual([false, false, true, false])
    }
  })

  test('with EVENT_IDX notifies of a batch that has the buffer in it', () => {
    const bench = setUp({ packed, eventIndex: true }, 8)
    for (let turn = 0; turn < 50; turn += 1) {
      bench.driver.reapAll()
      bench.driver.enableInterrupts(2)
      use(bench, 1)
      expect(bench.queue.needsNotification()).toBe(false)
      use(bench, 5)
      expect(bench.queue.needsNotification()).toBe(true)
      bench.driver.disableInterrupts()
      use(bench, 2)
      expect(bench.queue.needsNotification()).toBe(false)
    }
  })

  test('decides on what is published, not on what is pushed', () => {
    const { driver, queue } = setUp({ packed, eventIndex: true })
    const chains = [new DescriptorChain(), new DescriptorChain()]
    for (const chain of chains) {
      driver.send([buffer])
      queue.pop(chain)
    }
    driver.enableInterrupts(1)
    queue.addUsed(chains[0] as DescriptorChain)
    queue.pushUsed(chains[1] as DescriptorChain)
    expect(queue.needsNotification()).toBe(true)
    driver.enableInterrupts(2)
    expect(queue.needsNotification()).toBe(false)
    queue.publishUsed()
    expect(queue.needsNotification()).toBe(true)
  })

  test.each([false, true])(
    'is not kicked when the device has changed its mind, EVENT_IDX %s',
    (eventIndex) => {
      const { driver, queue, chain } = setUp({ packed, eventIndex })
      for (let turn = 0; turn < 50; turn += 1) {
        expect(queue.enableNotification()).toBe(false)
        queue.disableNotification()
        expect(driver.send([buffer])).toBe(false)
        expect(queue.enableNotification()).toBe(true)
        queue.pop(chain)
        queue.addUsed(chain)
        driver.reapAll()
      }
    },
  )

  test.each([false, true])('is kicked after enabling and not after disabling, EVENT_IDX %s', (eventIndex) => {
    const { driver, queue, chain } = setUp({ packed, eventIndex })
    for (let turn = 0; turn < 50; turn += 1) {
      expect(queue.enableNotification()).toBe(false)
      expect(driver.send([buffer])).toBe(true)
      queue.disableNotification()
      expect(driver.send([buffer])).toBe(false)
      expect(queue.enableNotification()).toBe(true)
      for (let i = 0; i < 2; i += 1) {
        queue.pop(chain)
        queue.addUsed(chain)
      }
      driver.reapAll()
    }
  })
})

describe('a split queue', () => {
  test.each([false, true])('writes flags and avail_event as the spec allows, EVENT_IDX %s', (eventIndex) => {
    const { driver, queue, chain } = setUpSplit({ eventIndex })
    queue.disableNotification()
    expect(driver.usedFlags).toBe(eventIndex ? 0 : 1)
    driver.send([buffer])
    queue.pop(chain)
    queue.enableNotification()
    expect(driver.usedFlags).toBe(0)
    expect(driver.availEvent).toBe(eventIndex ? 1 : 0)
  })

  // Golden vectors of rust-vmm's virtio-queue.
  test('used_event 4: notifies at the 5th buffer and 65536 later, one by one', () => {
    const bench = setUpSplit({ eventIndex: true }, 16)
    bench.driver.setUsedEvent(4)
    const notified: number[] = []
    for (let counter = 1; counter <= 65547; counter += 1) {
      use(bench, 1)
      if (bench.queue.needsNotification()) notified.push(counter)
    }
    expect(notified).toEqual([5, 65541])
  })

  test.each([
    [15, 0, 15, [false, true, false]],
    [65532, 65500, 32, [false, true, false]],
  ])('used_event %i: not at it, but after it, and once', (event, start, first, expected) => {
    const bench = setUpSplit({ eventIndex: true }, 64, start)
    bench.driver.setUsedEvent(event)
    use(bench, first)
    const decisions = [bench.queue.needsNotification()]
    use(bench, 1)
    decisions.push(bench.queue.needsNotification(), bench.queue.needsNotification())
    expect(decisions).toEqual(expected)
  })

  test('ignores used_event without EVENT_IDX, and NO_INTERRUPT with it', () => {
    const without = setUpSplit()
    without.driver.setUsedEvent(0xffff)
    use(without, 1)
    expect(without.queue.needsNotification()).toBe(true)
    const { memory, ...bench } = setUpSplit({ eventIndex: true })
    memory.write(bench.driver.driverArea, Uint8Array.of(1, 0))
    bench.driver.setUsedEvent(0)
    use({ ...bench }, 1)
    expect(bench.queue.needsNotification()).toBe(true)
  })
})

describe('a packed queue', () => {
  test.each([false, true])('writes its event suppression structure, EVENT_IDX %s', (eventIndex) => {
    const { driver, queue, chain } = setUpPacked({ eventIndex }, 3)
    queue.disableNotification()
    expect(driver.deviceEvent.flags).toBe(RING_EVENT_FLAGS_DISABLE)
    for (const [index, wrap] of [
      [0, 1],
      [1, 1],
      [2, 1],
      [0, 0],
      [1, 0],
    ]) {
      expect(queue.enableNotification()).toBe(false)
      const { flags, event } = driver.deviceEvent
      expect(flags).toBe(eventIndex ? RING_EVENT_FLAGS_DESC : RING_EVENT_FLAGS_ENABLE)
      if (eventIndex) expect(event).toEqual({ index, wrap })
      driver.send([buffer])
      queue.pop(chain)
      queue.addUsed(chain)
      driver.reap()
    }
  })

  test.each([
    [3, true, true],
    [RING_EVENT_FLAGS_DESC, false, true],
    [0xfffc | RING_EVENT_FLAGS_DISABLE, true, false],
  ])('takes driver flags %i, EVENT_IDX %s, for notify: %s', (flags, eventIndex, expected) => {
    const bench = setUpPacked({ eventIndex })
    bench.driver.setDriverEventFlags(flags)
    use(bench, 1)
    expect(bench.queue.needsNotification()).toBe(expected)
  })
})

/**
 * Runs `program` once for every sequence of answers that `choose` can give.
 * @returns how many runs that were
 */
function explore(program: (choose: () => boolean) => void): number {
  let prefix: boolean[] = []
  for (let runs = 1; ; runs += 1) {
    const trail: boolean[] = []
    program(() => {
      const answer = prefix[trail.length] ?? false
      trail.push(answer)
      return answer
    })
    while (trail.at(-1) === true) trail.pop()
    if (trail.length === 0) return runs
    prefix = [...trail.slice(0, -1), true]
  }
}

/**
 * Lets the other side take its steps before each atomic access of this one, as `choose` says.
 * @returns takes the next step while this side sleeps; false when there is none
 */
function interleave(steps: (() => void)[], choose: () => boolean): () => boolean {
  let isOther = false
  const step = (): boolean => {
    isOther = true
    const next = steps.shift()
    next?.()
    isOther = false
    return next !== undefined
  }
  const between = (): void => {
    while (!isOther && steps.length > 0 && choose()) step()
  }
  const { load, store } = Atomics
  const spy = { load: vi.spyOn(Atomics, 'load'), store: vi.spyOn(Atomics, 'store') }
  spy.load.mockImplementation(((array: Uint16Array, index: number) => {
    between()
    return load(array, index)
  }) as unknown as typeof Atomics.load)
  spy.store.mockImplementation(((array: Uint16Array, index: number, value: number) => {
    between()
    return store(array, index, value)
  }) as unknown as typeof Atomics.store)
  return step
}

describe('no notification is lost', () => {
  afterEach(() => {
    vi.restoreAllMocks()
  })

  const cases = KINDS.flatMap((kind) => [false, true].map((eventIndex) => ({ ...kind, eventIndex })))

  test.each(cases)('to the device: $kind, EVENT_IDX $eventIndex', ({ packed, eventIndex }) => {
    const chains = 3
    const runs = explore((choose) => {
      const { driver, queue, chain } = setUp({ packed, eventIndex }, 4)
      let kicked = false
      let served = 0
      queue.enableNotification()
      const steps = Array.from({ length: chains }, () => [
        () => {
          driver.add([buffer])
          driver.publish()
        },
        () => {
          if (driver.needsKick()) kicked = true
        },
      ]).flat()
      const step = interleave(steps, choose)
      for (;;) {
        // Asleep: only the driver can go on.
        while (!kicked && step());
        if (!kicked) break
        kicked = false
        do {
          queue.disableNotification()
          while (queue.pop(chain) !== POP_EMPTY) {
            served += 1
            queue.addUsed(chain)
          }
        } while (queue.enableNotification())
      }
      vi.restoreAllMocks()
      if (served !== chains) expect.fail(`${chains - served} buffers nobody was told of`)
    })
    expect(runs).toBeGreaterThan(500)
  })

  test.each(cases)('to the driver: $kind, EVENT_IDX $eventIndex', ({ packed, eventIndex }) => {
    const chains = 3
    const runs = explore((choose) => {
      const { driver, queue } = setUp({ packed, eventIndex }, 4)
      let interrupted = false
      let reaped = 0
      for (let i = 0; i < chains; i += 1) driver.add([buffer])
      driver.publish()
      driver.enableInterrupts()
      const steps = Array.from({ length: chains }, () => [
        () => {
          const chain = new DescriptorChain()
          queue.pop(chain)
          queue.addUsed(chain)
        },
        () => {
          if (queue.needsNotification()) interrupted = true
        },
      ]).flat()
      const step = interleave(steps, choose)
      for (;;) {
        while (!interrupted && step());
        if (!interrupted) break
        interrupted = false
        do {
          driver.disableInterrupts()
          reaped += driver.reapAll().length
        } while (driver.enableInterrupts())
      }
      vi.restoreAllMocks()
      if (reaped !== chains) expect.fail(`${chains - reaped} buffers nobody was told of`)
    })
    expect(runs).toBeGreaterThan(500)
  })
})
