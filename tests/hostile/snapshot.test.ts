/**
 * Snapshots whose sums are right and whose contents are hostile, on real KVM: tests/support/hostile-snapshots.ts. Short here;
 * `npm run test:hostile` goes on with one seed after the other, and VMM_HOSTILE_SEED=N begins at the one that failed.
 */
import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { buildBareGuest } from '../../guest/bare/build.mjs'
import { type Bundle, bundle } from '../support/bundle.ts'
import { describeWithKvm } from '../support/kvm.ts'

const ROOT = join(import.meta.dirname, '../..')
const MINUTES = Number(process.env['VMM_HOSTILE_MINUTES'] ?? 0)
const FIRST_SEED = Number(process.env['VMM_HOSTILE_SEED'] ?? Date.now() % 1_000_000)
const ROUNDS = 1000
const TIMEOUT_MS = 240_000

let bundled: Bundle
let kernel: string

async function attack(seed: number): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'vmm-hostile-snapshot-'))
  try {
    const program = join(bundled.folder, 'hostile-snapshots.js')
    const args = [program, kernel, folder, String(seed), String(ROUNDS)]
    const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: TIMEOUT_MS }).catch(
      (error) => {
        throw new Error(`seed ${seed}, at ${readFileSync(join(folder, 'current'), 'utf8')}`, { cause: error })
      },
    )
    const { refused, ran, unexpected, before, after } = JSON.parse(stdout)
    expect(unexpected, `seed ${seed}`).toEqual([])
    // Both happen, or it attacks nothing.
    expect(refused, `seed ${seed}`).toBeGreaterThan(ROUNDS / 10)
    expect(ran, `seed ${seed}`).toBeGreaterThan(ROUNDS / 10)
    expect(after, `seed ${seed}`).toEqual(before)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

describeWithKvm('a snapshot that was made to do harm', () => {
  beforeAll(async () => {
    kernel = await buildBareGuest(join(ROOT, 'guest/hostile/attack.c'))
    bundled = await bundle(ROOT, { 'hostile-snapshots': join(ROOT, 'tests/support/hostile-snapshots.ts') })
  })
  afterAll(() => bundled.remove())

  test(`is refused, or a VM like any other (seed ${FIRST_SEED})`, { timeout: 2 * TIMEOUT_MS }, async () => {
    await attack(FIRST_SEED)
  })

  if (MINUTES > 0) {
    test(`does no harm for ${MINUTES} minutes (first seed ${FIRST_SEED})`, {
      timeout: (MINUTES + 10) * 60_000,
    }, async () => {
      const end = Date.now() + MINUTES * 60_000
      for (let seed = FIRST_SEED + 1; Date.now() < end; seed += 1) await attack(seed)
    })
  }
})
