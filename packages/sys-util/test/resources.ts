/**
 * Owners for the length of a test, and what the kernel says of this process.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
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
  const path = mkdtempSync(join(tmpdir(), 'sys-util-'))
  own({ close: () => rmSync(path, { recursive: true }) })
  return path
}

/** How many descriptors of this process are open. */
export function countFds(): number {
  return readdirSync('/proc/self/fd').length
}

/** The flags of an open descriptor: O_NONBLOCK, O_CLOEXEC and so on. */
export function fdFlags(fd: number): number {
  const line = /^flags:\s+(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))
  return Number.parseInt(line?.[1] ?? '', 8)
}

/** O_CLOEXEC and O_NONBLOCK, as {@link fdFlags} has them. */
export const O_CLOEXEC = 0o2000000
export const O_NONBLOCK = 0o4000
