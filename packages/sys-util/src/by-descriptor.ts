/**
 * What can be done with a file that is only known by an O_PATH descriptor, which pins a file and opens nothing: opened for
 * reading, changed, linked, by the descriptor's own name in /proc/self/fd. These return a negative errno and throw
 * nothing, but for {@link openDescriptorNames}.
 */
import koffi from 'koffi'
import type { NameBytes } from './beneath.ts'
import { openPath } from './fd.ts'
import { libc } from './libc.ts'

const O_CLOEXEC = 0o2000000
const O_PATH = 0o10000000
const O_DIRECTORY = 0o200000
const AT_EMPTY_PATH = 0x1000
const AT_SYMLINK_FOLLOW = 0x400

// struct timespec, twice: seconds and nanoseconds, 64 bits each.
const TIMES_SIZE = 32
const UTIME_NOW = 0x3fff_ffff
const UTIME_OMIT = 0x3fff_fffe

const EMPTY: NameBytes = new Uint8Array(1)
const CLOSED: NameBytes = Buffer.from('-\0')
/** Of a descriptor, in decimal. */
const name = new Uint8Array(12)
const times = new DataView(new ArrayBuffer(TIMES_SIZE))

let names: number | undefined

/**
 * Opens /proc/self/fd, for as long as the process lives. The others do it when they are first called; this is for those who want
 * to know before.
 * @throws SystemError where there is no /proc
 */
export function openDescriptorNames(): number {
  names ??= openPath('/proc/self/fd', O_PATH | O_DIRECTORY | O_CLOEXEC)
  return names
}

/** A descriptor that was closed, and so is -1, has a name that nothing has. */
function nameOf(fd: number): NameBytes {
  if (!(fd >= 0)) return CLOSED
  let length = 1
  for (let rest = fd; rest >= 10; rest = Math.floor(rest / 10)) length += 1
  name[length] = 0
  for (let at = length - 1, rest = fd; at >= 0; at -= 1, rest = Math.floor(rest / 10))
    name[at] = 0x30 + (rest % 10)
  return name
}

function result(value: number): number {
  return value < 0 ? -koffi.errno() : value
}

/**
 * Opens the file of a descriptor anew, close-on-exec. Opening a pipe or a device does something: know what it is.
 * @param flags of open(2), without O_CREAT
 * @returns a descriptor, the caller's; or a negative errno
 */
export function reopenFd(fd: number, flags: number): number {
  return result(libc().openat(openDescriptorNames(), nameOf(fd), flags | O_CLOEXEC, 0))
}

/** Changes permissions. Not of a symbolic link. @returns 0 or a negative errno */
export function chmodFd(fd: number, mode: number): number {
  return result(libc().fchmodat(openDescriptorNames(), nameOf(fd), mode, 0))
}

/** Gives the file a further name in a directory. @returns 0 or a negative errno */
export function linkFd(fd: number, directory: number, newName: NameBytes): number {
  return result(libc().linkat(openDescriptorNames(), nameOf(fd), directory, newName, AT_SYMLINK_FOLLOW))
}

/** A point in time for {@link setTimesFd}; `undefined` for none, `now` for the kernel's own. */
export type FileTime = { readonly seconds: number; readonly nanoseconds: number } | 'now' | undefined

function setTime(offset: number, time: FileTime): void {
  const seconds = typeof time === 'object' ? time.seconds : 0
  times.setUint32(offset, seconds >>> 0, true)
  times.setInt32(offset + 4, Math.floor(seconds / 2 ** 32), true)
  const nanoseconds = typeof time === 'object' ? time.nanoseconds : time === 'now' ? UTIME_NOW : UTIME_OMIT
  times.setUint32(offset + 8, nanoseconds, true)
}

/** Sets the times of last access and change, of a symbolic link too. @returns 0 or a negative errno */
export function setTimesFd(fd: number, accessed: FileTime, modified: FileTime): number {
  setTime(0, accessed)
  setTime(16, modified)
  return result(libc().utimensat(openDescriptorNames(), nameOf(fd), times, 0))
}

/**
 * The text of a symbolic link that was opened by O_PATH | O_NOFOLLOW.
 * @param target where it goes, cut to its length
 * @returns bytes or a negative errno
 */
export function readLinkFd(fd: number, target: Uint8Array): number {
  return result(libc().readlinkat(fd, EMPTY, target, target.length))
}

const STATX_BASIC_STATS_AND_BTIME = 0xfff

/**
 * statx(2) of a descriptor, O_PATH ones included.
 * @param buffer of 256 bytes or more: `struct statx`
 * @returns 0 or a negative errno
 */
export function statxFd(fd: number, buffer: DataView): number {
  return result(libc().statx(fd, '', AT_EMPTY_PATH, STATX_BASIC_STATS_AND_BTIME, buffer))
}
