/**
 * A process that has no descriptor left, at each place where one is needed: one sentence says so, and nothing is left of the try.
 */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Bundle, bundle } from '../support/bundle.ts'
import { describeWithKvm } from '../support/kvm.ts'
import { temporaryDirectory } from '../support/own.ts'

const ROOT = join(import.meta.dirname, '../..')
/** Soon used up, and enough for Node.js. */
const DESCRIPTORS = 128
/** With fewer than that no VM can be made. */
const NEEDED = 10
const NAMES = [
  'BlockError',
  'EventManagerError',
  'KvmError',
  'LoaderError',
  'SharedDirectoryError',
  'SnapshotError',
  'SystemError',
]

let bundled: Bundle

describeWithKvm('without a descriptor left', () => {
  beforeAll(async () => {
    const entry = join(ROOT, 'tests/support/few-descriptors.ts')
    bundled = await bundle(ROOT, { 'few-descriptors': entry })
  })
  afterAll(() => bundled.remove())

  test('a VM is not made, restored or saved, says so, and leaves nothing; one that runs is paused and ended', async () => {
    const command = `ulimit -n ${DESCRIPTORS} && exec "$@"`
    const program = [process.execPath, join(bundled.folder, 'few-descriptors.js'), temporaryDirectory()]
    const { stdout } = await promisify(execFile)('sh', ['-c', command, 'sh', ...program])
    const { created, restored, opened, files, reason } = JSON.parse(stdout)
    expect(reason).toBe('without a descriptor')
    expect(created.length).toBeGreaterThan(NEEDED)
    expect(restored.length).toBeGreaterThan(NEEDED)
    expect(opened.length).toBeGreaterThan(2)
    // A manifest, a state, and memory.
    expect(files).toBe(3)
    for (const outcomes of [created, restored, opened]) {
      for (const { error, message, ...left } of outcomes.slice(0, -1)) {
        expect(NAMES, `${error}: ${message}`).toContain(error)
        expect(message).toMatch(/^[^\n]*EMFILE[^\n]*$/)
        expect(left, message).toMatchObject({ descriptors: 0, mappings: 0 })
      }
      expect(outcomes.at(-1)).toEqual({ descriptors: 0, mappings: 0 })
    }
  })
})
