/**
 * Owners for the length of a test, and what the kernel says of this process.
 */
import { readdirSync, readFileSync } from 'node:fs'

export { own, temporaryDirectory } from '../../../tests/support/own.ts'

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
