/**
 * Holes in files: fallocate(2) and lseek(2) for what discards, zeroes and sparse images need.
 */
import { fstatSync, writeSync } from 'node:fs'
import { SystemError } from './errors.ts'
import { lastErrno, lastError, libc } from './libc.ts'
import { Mapping } from './mmap.ts'

/** Flag of fallocate(2): the file stays as long as it is. */
export const FALLOC_FL_KEEP_SIZE = 0x01
/** The range becomes a hole; with {@link FALLOC_FL_KEEP_SIZE}. */
export const FALLOC_FL_PUNCH_HOLE = 0x02
/** The range reads as zeros and keeps its room. */
export const FALLOC_FL_ZERO_RANGE = 0x10
const SEEK_DATA = 3
const SEEK_HOLE = 4
const ENXIO = 6
const EINVAL = 22
const EOPNOTSUPP = 95
const ZEROES_SIZE = 0x1_0000

let zeroes: Uint8Array | undefined

/** @returns false where the file system has no such thing, or the device not for a part of its blocks */
function fallocate(fd: number, mode: number, offset: number, length: number): boolean {
  if (libc().fallocate(fd, mode, offset, length) === 0) return true
  const errno = lastErrno()
  if (errno === EOPNOTSUPP || errno === EINVAL) return false
  throw lastError('fallocate', `fd ${fd}, ${length} bytes at ${offset}`)
}

function write(fd: number, offset: number, length: number): void {
  // Of a mapping, which lies as O_DIRECT likes it.
  zeroes ??= new Uint8Array(new Mapping({ size: ZEROES_SIZE }).view())
  for (let done = 0; done < length; ) {
    done += writeSync(fd, zeroes, 0, Math.min(ZEROES_SIZE, length - done), offset + done)
  }
}

function checkRange(offset: number, length: number): void {
  if (offset >= 0 && length >= 0 && offset + length <= Number.MAX_SAFE_INTEGER) return
  throw new SystemError('fallocate', EINVAL, `${length} bytes at ${offset}`)
}

/**
 * Makes a part of a file read as zeros, by the file system where it can and by writing where it cannot. What goes
 * past the end makes the file longer.
 * @param fd open for writing
 * @param offset in bytes
 * @param length in bytes; 0 does nothing
 * @throws SystemError, or the error of node:fs where writing fails
 */
export function zeroRange(fd: number, offset: number, length: number): void {
  checkRange(offset, length)
  if (length > 0 && !fallocate(fd, FALLOC_FL_ZERO_RANGE, offset, length)) write(fd, offset, length)
}

/**
 * Gives a part of a file back to the file system: it reads as zeros, and the file stays as long as it is. Where
 * the file system cannot, the zeros are written.
 * @param fd open for writing
 * @param offset in bytes
 * @param length in bytes; 0 does nothing
 * @returns whether the space was given back
 * @throws SystemError, or the error of node:fs where writing fails
 */
export function punchHole(fd: number, offset: number, length: number): boolean {
  checkRange(offset, length)
  if (length === 0) return true
  if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length)) return true
  const stats = fstatSync(fd)
  // A block device stays as long as it is, whatever is written, and stat(2) does not know how long that is.
  if (stats.isBlockDevice()) zeroRange(fd, offset, length)
  else write(fd, offset, Math.min(length, stats.size - offset))
  return false
}

function seek(fd: number, offset: number, whence: number, name: string): number | undefined {
  const result: number = libc().lseek(fd, offset, whence)
  if (result >= 0) return result
  if (lastErrno() === ENXIO) return undefined
  throw lastError('lseek', `${name} of fd ${fd} from ${offset}`)
}

/**
 * Where data begins, at or after `offset`. Moves the descriptor's file position.
 * @returns undefined where there is none up to the end
 * @throws SystemError
 */
export function seekData(fd: number, offset: number): number | undefined {
  return seek(fd, offset, SEEK_DATA, 'SEEK_DATA')
}

/**
 * Where a hole begins, at or after `offset`; the end of the file counts as one. Moves the descriptor's file position.
 * @returns undefined for an offset at or past the end
 * @throws SystemError
 */
export function seekHole(fd: number, offset: number): number | undefined {
  return seek(fd, offset, SEEK_HOLE, 'SEEK_HOLE')
}
