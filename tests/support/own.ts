/** Owners for the length of a test. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach } from 'vitest'

const owners: { close(): void }[] = []

afterEach(() => {
  for (let owner = owners.pop(); owner !== undefined; owner = owners.pop()) owner.close()
})

/** Closes it after the test, last first. */
export function own<T extends { close(): void }>(owner: T): T {
  owners.push(owner)
  return owner
}

/** A directory that is gone after the test. */
export function temporaryDirectory(): string {
  const path = mkdtempSync(join(tmpdir(), 'vmm-test-'))
  own({ close: () => rmSync(path, { recursive: true, force: true }) })
  return path
}
