/**
 * A descriptor that is kept so that runs can be ended in a process that has no other left: to look at threads takes one.
 */
import { OwnedFd, openPath } from '@vmm/sys-util'

const O_RDONLY_CLOEXEC = 0o2000000
/** Undefined while nobody holds it, and while it is lent. */
let spare: OwnedFd | undefined
let holders = 0

function openSpare(): OwnedFd {
  return new OwnedFd(openPath('/dev/null', O_RDONLY_CLOEXEC))
}

function closeSpare(): void {
  spare?.close()
  spare = undefined
}

/**
 * Keeps it until {@link releaseSpare}.
 * @throws SystemError where there is none left already
 */
export function holdSpare(): void {
  if (holders === 0) spare = openSpare()
  holders++
}

/** As often as {@link holdSpare}. */
export function releaseSpare(): void {
  if (--holders === 0) closeSpare()
}

/** Lets go of it for who needs it at once. @returns whether there was one */
export function lendSpare(): boolean {
  if (spare === undefined) return false
  closeSpare()
  return true
}

/** Takes it again, if it was lent and somebody else has not got it. */
export function restoreSpare(): void {
  if (holders === 0 || spare !== undefined) return
  try {
    spare = openSpare()
  } catch {
    // The next look may do without.
  }
}
