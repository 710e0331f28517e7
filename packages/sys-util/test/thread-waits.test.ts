import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { countThreadWaits } from '../src/index.ts'

test('waiting counts', () => {
  const before = countThreadWaits()
  // A child may have ended before one waits for it.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5)
  const after = countThreadWaits()
  expect(after).toBeGreaterThan(before)
  const status = readFileSync('/proc/thread-self/status', 'utf8')
  const counted = Number(/^voluntary_ctxt_switches:\s+(\d+)$/m.exec(status)?.[1])
  expect(counted).toBeGreaterThanOrEqual(after)
  expect(counted).toBeLessThanOrEqual(countThreadWaits())
})
