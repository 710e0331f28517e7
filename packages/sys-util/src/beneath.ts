/**
 * Files by one name in a directory that is open, and by nothing else: for those who give access to a directory and must not be led
 * out of it. These are for hot paths: they return what the kernel says, a negative errno included, and throw nothing.
 *
 * A name is bytes with a NUL behind them. `..`, absolute names, symbolic links on the way and the links of /proc lead nowhere
 * (openat2(2), RESOLVE_BENEATH and its kin: EXDEV, ELOOP); the calls that do not resolve a path take the caller's word that
 * the name has no slash.
 */
import koffi from 'koffi'
import { libc } from './libc.ts'

/** A name, or the text of a symbolic link: bytes that end in a NUL. */
export type NameBytes = Uint8Array

const SYS_openat2 = 437
const RESOLVE_NO_XDEV = 0x01
const RESOLVE_NO_MAGICLINKS = 0x02
const RESOLVE_NO_SYMLINKS = 0x04
const RESOLVE_BENEATH = 0x08
const RESOLVE = RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH
const O_CLOEXEC = 0o2000000
const O_CREAT = 0o100
const AT_REMOVEDIR = 0x200

// struct open_how: flags, mode, resolve, 64 bits each.
const OPEN_HOW_SIZE = 24
const how = new DataView(new ArrayBuffer(OPEN_HOW_SIZE))

function result(value: number): number {
  return value < 0 ? -koffi.errno() : value
}

/**
 * Opens a name in a directory, close-on-exec.
 * @param flags of open(2); O_NOFOLLOW with O_PATH opens a symbolic link itself
 * @param options `mode`: permissions of a file that O_CREAT makes; `crossMounts`: whether the name may be a place where
 * something is mounted, else EXDEV
 * @returns a descriptor, the caller's; or a negative errno
 */
export function openBeneath(
  directory: number,
  name: NameBytes,
  flags: number,
  options: { readonly mode?: number; readonly crossMounts?: boolean } = {},
): number {
  const { mode = 0, crossMounts = false } = options
  how.setUint32(0, flags | O_CLOEXEC, true)
  how.setUint32(8, (flags & O_CREAT) === 0 ? 0 : mode, true)
  how.setUint32(16, crossMounts ? RESOLVE : RESOLVE | RESOLVE_NO_XDEV, true)
  return result(libc().openat2(SYS_openat2, directory, name, how, OPEN_HOW_SIZE))
}

/** mkdirat(2). @returns 0 or a negative errno */
export function makeDirectoryAt(directory: number, name: NameBytes, mode: number): number {
  return result(libc().mkdirat(directory, name, mode))
}

/** mknodat(2), for regular files and named pipes. @param mode with the type. @returns 0 or a negative errno */
export function makeNodeAt(directory: number, name: NameBytes, mode: number): number {
  return result(libc().mknodat(directory, name, mode, 0))
}

/** symlinkat(2). @param text of the link. @returns 0 or a negative errno */
export function makeSymlinkAt(text: NameBytes, directory: number, name: NameBytes): number {
  return result(libc().symlinkat(text, directory, name))
}

/** unlinkat(2). @param isDirectory whether an empty directory goes, or anything else. @returns 0 or a negative errno */
export function unlinkAt(directory: number, name: NameBytes, isDirectory: boolean): number {
  return result(libc().unlinkat(directory, name, isDirectory ? AT_REMOVEDIR : 0))
}

/** renameat2(2). @param flags RENAME_… @returns 0 or a negative errno */
export function renameAt(
  from: { readonly directory: number; readonly name: NameBytes },
  to: { readonly directory: number; readonly name: NameBytes },
  flags: number,
): number {
  return result(libc().renameat2(from.directory, from.name, to.directory, to.name, flags))
}
