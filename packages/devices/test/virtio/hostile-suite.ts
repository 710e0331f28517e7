/** What a hostile driver must not bring about, for every row: the tests. */
import { queryObjects } from 'node:v8'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { QueueFeatureOptions } from '../../src/virtio/index.ts'
import { VIRTIO_CONFIG_S_NEEDS_RESET as NEEDS_RESET } from '../../src/virtio/index.ts'
import { Attack, type Target } from './hostile-attack.ts'
import { Scribbler } from './hostile-scribbler.ts'
import { type Step, servedStep, step } from './hostile-steps.ts'

/** The long run (`npm run test:hostile`) does more of everything. */
const IS_LONG = process.env['VMM_HOSTILE_MINUTES'] !== undefined
const RUNS = IS_LONG ? 150 : 30
const STEPS_MAX = 150
/** Steps between two looks at what has grown. */
const GROWTH_STEPS = IS_LONG ? 35_000 : 4000
/**
 * What may come and go between two looks: the test's own objects, and 33 bytes for each step of the short run. What leaks grows
 * at every look; code that is compiled, and what V8 learns of it, at some.
 */
const GROWTH = { objects: IS_LONG ? 512 : 64, bytes: 2 ** 17 }
const LOOKS = 10
const RACE_STEPS = IS_LONG ? 5000 : 1500
const CHUNK = 500

/** As many steps as wanted, for a seed always the same. */
function* steps(kind: fc.Arbitrary<Step>, count: number, seed: number): Generator<Step> {
  for (let done = 0; done < count; done += CHUNK) {
    yield* fc.sample(kind, { numRuns: Math.min(CHUNK, count - done), seed: seed + done })
  }
}

/** Makes one attack after the other; a driver whose device gave up begins anew. */
async function attackOn(attack: Attack, all: Iterable<Step>): Promise<void> {
  for (const one of all) {
    await attack.apply(one)
    if ((attack.guest.status & NEEDS_RESET) !== 0) attack.guest.begin()
    attack.forget()
  }
}

/** What is in use when nothing is under way and garbage is collected, which counting does. */
async function inUse(attack: Attack): Promise<Record<keyof typeof GROWTH, number>> {
  await attack.settle()
  attack.forget()
  const objects = queryObjects(Object, { format: 'count' })
  const { heapUsed, external } = process.memoryUsage()
  return { objects, bytes: heapUsed + external }
}

/**
 * The tests of all rows.
 * @param rings what they are attacked over; default both kinds
 */
export function describeAttacks(
  targets: readonly Target[],
  rings: readonly ('split' | 'packed')[] = ['split', 'packed'],
): void {
  const seed = Number(process.env['VMM_HOSTILE_SEED'] ?? Date.now() & 0x7fff_ffff)
  const rows = targets.flatMap((target) =>
    rings.map((ring) => ({ target, packed: ring === 'packed', name: `${target.name}, ${ring} rings` })),
  )

  describe.each(rows)('a hostile driver of $name', ({ target, packed }) => {
    const features: QueueFeatureOptions = { packed }

    it('makes nothing throw, hang or leave guest memory, and a good driver finds it in order', async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(step, { maxLength: STEPS_MAX, size: 'max' }), async (all) => {
          const attack = new Attack(target, features)
          try {
            attack.guest.begin()
            for (const one of all) await attack.apply(one)
            await attack.end()
          } finally {
            attack.close()
          }
        }),
        { numRuns: RUNS, seed },
      )
    })

    it(`makes nothing grow (seed ${seed})`, async () => {
      const attack = new Attack(target, features)
      try {
        const looks: Record<keyof typeof GROWTH, number>[] = []
        let isQuiet = false
        while (!isQuiet && looks.length < LOOKS) {
          await attackOn(attack, steps(servedStep, GROWTH_STEPS, seed + looks.length * GROWTH_STEPS))
          const before = looks.at(-1)
          const after = await inUse(attack)
          looks.push(after)
          isQuiet =
            before !== undefined &&
            after.objects - before.objects < GROWTH.objects &&
            after.bytes - before.bytes < GROWTH.bytes
        }
        expect(isQuiet, `at each look ${JSON.stringify(looks)}`).toBe(true)
        await attack.end()
      } finally {
        attack.close()
      }
    })

    // Memory that is the kernel's to write is no other thread's.
    if (target.memory !== undefined) return
    it(`does no more with a thread that writes to memory meanwhile (seed ${seed})`, async () => {
      const attack = new Attack(target, features)
      const scribbler = await Scribbler.start(attack.guest.hostile, seed)
      try {
        attack.guest.begin()
        await attackOn(attack, steps(step, RACE_STEPS, seed))
        expect(await scribbler.stop()).toBeGreaterThan(0)
        await attack.end()
      } finally {
        await scribbler.stop()
        attack.close()
      }
    })
  })
}
