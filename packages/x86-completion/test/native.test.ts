/** Instructions at random, by completion and by the real CPU: both must come to the same end. */

import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Encoding } from '../src/instruction.ts'
import { encodings } from '../src/instructions/index.ts'
import { compareOutcomes } from './compare.ts'
import { makeCase } from './fuzz-cases.ts'
import { FUZZ_HINTS, NOT_FUZZED } from './fuzz-hints.ts'
import { cpuFlags, NativeCpu, whyNoNativeCpu } from './native-cpu.ts'
import { Random } from './random.ts'
import { SimulatedCpu } from './simulated-cpu.ts'

/** Cases for each encoding; VMM_FUZZ_RUNS sets it for longer runs. */
const RUNS = Number(process.env['VMM_FUZZ_RUNS'] ?? 100)

const RETRIES = 3

const missing = whyNoNativeCpu()
if (missing !== undefined && process.env['CI'] !== undefined) throw new Error(`native comparison: ${missing}`)
const flags = missing === undefined ? cpuFlags() : new Set<string>()

describe.skipIf(missing !== undefined)(
  `completion and the real CPU agree${missing === undefined ? '' : `: ${missing}`}`,
  () => {
    let native: NativeCpu
    let simulated: SimulatedCpu

    beforeAll(() => {
      native = new NativeCpu()
      simulated = new SimulatedCpu(native)
    })
    afterAll(() => native.close())

    test.each(
      encodings
        .filter(({ mnemonic }) => isComparable(mnemonic))
        .map((encoding) => ({ encoding, name: title(encoding) })),
    )('$name', async ({ encoding }) => {
      const hints = FUZZ_HINTS[encoding.mnemonic] ?? {}
      let known = 0
      const property = fc.asyncProperty(fc.integer(), fc.boolean(), async (seed, is32Bit) => {
        const { features, xcr0, mxcsrMask } = native
        const random = new Random(seed)
        const code = makeCase({ random, encoding, hints, is32Bit, features, xcr0, mxcsrMask })
        const { completion, outcome } = simulated.run(code)
        // Prefixes can make another instruction of it.
        if (completion.kind === 'unknown' || NOT_FUZZED.has(completion.mnemonic ?? '')) return
        known++
        let differences = compareOutcomes(outcome, await native.run(code), hints, features)
        // A context switch right before the instruction can leave components marked as in use that are not, as the
        // architecture allows: XSAVE and XGETBV show it. It does not happen twice in a row.
        for (let again = 0; differences.length > 0 && again < RETRIES; again++) {
          differences = compareOutcomes(outcome, await native.run(code), hints, features)
        }
        const bytes = Buffer.from(code.code).toString('hex')
        expect({ bytes, differences }).toEqual({ bytes, differences: [] })
      })
      await fc.assert(property, { numRuns: RUNS })
      expect(known).toBeGreaterThan(RUNS / 2)
    })
  },
)

function isComparable(mnemonic: string): boolean {
  const feature = FUZZ_HINTS[mnemonic]?.feature
  return !NOT_FUZZED.has(mnemonic) && (feature === undefined || flags.has(feature))
}

function title({ mnemonic, opcode, digit, vex }: Encoding): string {
  return `${mnemonic} (${vex === true ? 'VEX ' : ''}${opcode.toString(16)}${digit === undefined ? '' : ` /${digit}`})`
}
