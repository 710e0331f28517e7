/**
 * Locks on whole files that belong to an open file description (fcntl(2), F_OFD_SETLK), not to a process: two opens of
 * one file exclude each other inside a process too, and closing some other descriptor of the file loses nothing.
 * Advisory: they bind those who ask.
 */
import { lastErrno, lastError, libc } from './libc.ts'

const F_OFD_SETLK = 37
const F_RDLCK = 0
const F_WRLCK = 1
const F_UNLCK = 2
const EAGAIN = 11
const EACCES = 13

// struct flock: type and whence, 16 bits each; at 8 the start, at 16 the length, 64 bits each; at 24 the process, 0 here.
// From the start of the file, and a length of 0, which is up to whatever the end is: all but the type stays 0.
const FLOCK_SIZE = 32
const lock = new DataView(new ArrayBuffer(FLOCK_SIZE))

function setLock(fd: number, type: number): number {
  lock.setInt16(0, type, true)
  return libc().fcntlPointer(fd, F_OFD_SETLK, lock)
}

/**
 * Locks a file, without waiting. Held until {@link unlockFile}, or until the last descriptor of this open is closed: with
 * the process at the latest. Locking again changes the kind.
 * @param fd open for writing where the lock is exclusive, for reading where it is shared
 * @param exclusive whether no other lock is to be beside it; else shared ones may
 * @returns false where somebody holds a lock that this one does not go with
 * @throws SystemError for anything else: ENOLCK or EINVAL where the file system has no locks
 */
export function lockFile(fd: number, exclusive: boolean): boolean {
  if (setLock(fd, exclusive ? F_WRLCK : F_RDLCK) === 0) return true
  const errno = lastErrno()
  if (errno === EAGAIN || errno === EACCES) return false
  throw lastError('fcntl', `F_OFD_SETLK of fd ${fd}`)
}

/**
 * Gives up the lock of an open file. Nothing happens where it has none.
 * @throws SystemError
 */
export function unlockFile(fd: number): void {
  if (setLock(fd, F_UNLCK) !== 0) throw lastError('fcntl', `F_OFD_SETLK of fd ${fd}`)
}
