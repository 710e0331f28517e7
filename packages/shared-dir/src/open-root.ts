/** Opens the directory that is shared, and finds out whether it can be, in a way that keeps a guest inside. */
import { statSync } from 'node:fs'
import { closeFd, errnoName, openBeneath, openDescriptorNames, openPath, reopenFd } from '@vmm/sys-util'
import { SharedDirectoryError } from './error.ts'
import * as linux from './linux.ts'

const HERE: Uint8Array = Buffer.from('.\0')

/** The symbolic errno of an error of the system. */
function reasonOf(error: unknown): string {
  return String((error as { code?: unknown }).code ?? error)
}

/**
 * @returns an O_PATH descriptor of a directory that can be read, the caller's
 * @throws SharedDirectoryError, see `SharedDirectoryErrorCode`
 */
export function openRoot(path: string): number {
  let fd: number
  try {
    openDescriptorNames()
  } catch (cause) {
    const what = `cannot be shared without /proc: ${reasonOf(cause)}`
    throw new SharedDirectoryError('ERR_SHARED_DIR_HOST', path, what, { cause })
  }
  try {
    // Before it is opened as well, for a message that is to the point.
    if (!statSync(path).isDirectory())
      throw new SharedDirectoryError('ERR_SHARED_DIR_TYPE', path, 'is no directory')
    fd = openPath(path, linux.O_PATH | linux.O_DIRECTORY | linux.O_CLOEXEC)
  } catch (cause) {
    if (cause instanceof SharedDirectoryError) throw cause
    const reason = reasonOf(cause)
    if (reason === 'ENOENT' || reason === 'ENOTDIR') {
      throw new SharedDirectoryError('ERR_SHARED_DIR_MISSING', path, 'does not exist', { cause })
    }
    throw new SharedDirectoryError('ERR_SHARED_DIR_OPEN', path, `cannot be opened: ${reason}`, { cause })
  }
  const refused = probe(path, fd)
  if (refused === undefined) return fd
  closeFd(fd)
  throw refused
}

/** Whether it can be read, by the calls that keep a guest inside. */
function probe(path: string, fd: number): SharedDirectoryError | undefined {
  const here = openBeneath(fd, HERE, linux.O_PATH)
  if (here < 0) {
    const what = `cannot be shared on this host: openat2 fails with ${errnoName(-here)}`
    return new SharedDirectoryError('ERR_SHARED_DIR_HOST', path, what)
  }
  closeFd(here)
  const readable = reopenFd(fd, linux.O_RDONLY | linux.O_DIRECTORY)
  if (readable < 0) {
    const what = `cannot be read: ${errnoName(-readable)}`
    return new SharedDirectoryError('ERR_SHARED_DIR_OPEN', path, what)
  }
  closeFd(readable)
  return undefined
}
