import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { countThreadWaits } from '../src/index.ts'

test('waiting counts', () => {
  const before = countThreadWaits()
  execFileSync('/bin/sh', ['-c', ':'])
  const after = countThreadWaits()
  expect(after).toBeGreaterThan(before)
  const status = readFileSync('/proc/thread-self/status', 'utf8')
  const counted = Number(/^voluntary_ctxt_switches:\s+(\d+)$/m.exec(status)?.[1])
  expect(counted).toBeGreaterThanOrEqual(after)
  expect(counted).toBeLessThanOrEqual(countThreadWaits())
})
