/**
 * The file behind a disk: opened, checked, locked. What moves data between it and a guest is elsewhere
 * (`file-disk.ts`): any engine can sit on this.
 */
import { constants, fstatSync, type Stats, statSync } from 'node:fs'
import {
  _IOR,
  type DirectIoAlignment,
  ioctl,
  lockFile,
  OwnedFd,
  openPath,
  punchHole,
  setNonBlocking,
} from '@vmm/sys-util'
import { alignmentOf } from './direct.ts'
import { BlockError, reasonOf } from './error.ts'

const SECTOR_SIZE = 512
const O_CLOEXEC = 0o2000000
/** <linux/fs.h>: the size of a block device in bytes, 64 bits. */
const BLKGETSIZE64 = _IOR(0x12, 114, 8)

/** How to open a disk. */
export interface DiskFileOptions {
  /** Whether nothing is to be written; default false. */
  readonly readOnly?: boolean | undefined
  /**
   * Whether to lock it (fcntl(2), F_OFD_SETLK): a writer alone, readers together. False for those who see to
   * that themselves, and for file systems without locks. Default true.
   */
  readonly lock?: boolean | undefined
  /**
   * Whether to go past the host's page cache (O_DIRECT): for disks that are larger than the memory there is for them. The guest has
   * a cache of its own. Default false.
   */
  readonly direct?: boolean | undefined
}

/**
 * A file or block device that is fit to be a disk, open and, unless told otherwise, locked until it is closed. The
 * lock belongs to this object: a second one of the same file is refused in this process as in others.
 */
export class DiskFile implements Disposable {
  /** As it was given. */
  readonly path: string
  /** In bytes, a multiple of 512 and not 0, when it was opened. */
  readonly size: number
  /** Whether it is open for reading alone. */
  readonly readOnly: boolean
  /** Whether the file system takes back what is not needed any more. */
  readonly canDiscard: boolean
  /** What has to be aligned; undefined where reads and writes go by the page cache, and nothing has to. */
  readonly alignment: DirectIoAlignment | undefined
  readonly #owned: OwnedFd

  /**
   * @param path of a regular file or a block device; symbolic links are followed
   * @throws BlockError, see `BlockErrorCode`
   */
  constructor(path: string, options: DiskFileOptions = {}) {
    const { readOnly = false, lock = true, direct = false } = options
    this.path = path
    this.readOnly = readOnly
    // Before it is opened as well: opening some devices does something.
    checkType(path, look(path))
    this.#owned = open(path, readOnly, direct)
    try {
      const { fd } = this.#owned
      const stats = fstatSync(fd)
      checkType(path, stats)
      setNonBlocking(fd, false)
      if (lock) lockDisk(path, fd, !readOnly)
      // Asked when it is locked: whoever had it before may have changed it.
      this.size = stats.isBlockDevice() ? deviceSize(fd) : fstatSync(fd).size
      checkSize(path, this.size)
      this.alignment = direct ? alignmentOf(path, fd, this.size) : undefined
      this.canDiscard = !readOnly && stats.isFile() && hasHoles(fd, this.size)
    } catch (cause) {
      this.#owned.close()
      throw cause instanceof BlockError ? cause : failedToOpen(path, cause)
    }
  }

  /** The descriptor; -1 when closed. */
  get fd(): number {
    return this.#owned.fd
  }

  /** Whether {@link close} has been called. */
  get closed(): boolean {
    return this.#owned.closed
  }

  /** Closes the file, and with it gives up the lock. Idempotent. */
  close(): void {
    this.#owned.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }
}

function failedToOpen(path: string, cause: unknown): BlockError {
  return new BlockError('ERR_BLOCK_OPEN', path, `cannot be opened: ${reasonOf(cause)}`, { cause })
}

function look(path: string): Stats {
  try {
    return statSync(path)
  } catch (cause) {
    const reason = reasonOf(cause)
    if (reason !== 'ENOENT' && reason !== 'ENOTDIR') throw failedToOpen(path, cause)
    throw new BlockError('ERR_BLOCK_MISSING', path, 'does not exist', { cause })
  }
}

function checkType(path: string, stats: Stats): void {
  if (stats.isFile() || stats.isBlockDevice()) return
  if (stats.isDirectory()) throw new BlockError('ERR_BLOCK_DIRECTORY', path, 'is a directory')
  throw new BlockError('ERR_BLOCK_TYPE', path, 'is neither a regular file nor a block device')
}

function open(path: string, readOnly: boolean, direct: boolean): OwnedFd {
  // Should it have become a pipe meanwhile: opening it does not wait for a writer.
  const flags = O_CLOEXEC | constants.O_NONBLOCK | (direct ? constants.O_DIRECT : 0)
  try {
    return new OwnedFd(openPath(path, flags | (readOnly ? constants.O_RDONLY : constants.O_RDWR)))
  } catch (cause) {
    if (direct && reasonOf(cause) === 'EINVAL') throw withoutDirect(path, cause)
    if (isRefusal(cause) && canRead(path, flags)) {
      const what = `cannot be written on this host (${reasonOf(cause)}): attach it as read-only`
      throw new BlockError('ERR_BLOCK_READ_ONLY', path, what, { cause })
    }
    throw failedToOpen(path, cause)
  }
}

function withoutDirect(path: string, cause: unknown): BlockError {
  const what = 'cannot be read past the page cache: its file system has no O_DIRECT'
  return new BlockError('ERR_BLOCK_DIRECT', path, what, { cause })
}

/** The answers to those who would write: by permissions, by an immutable file, by a file system. */
function isRefusal(error: unknown): boolean {
  return ['EACCES', 'EPERM', 'EROFS'].includes(reasonOf(error))
}

function canRead(path: string, flags: number): boolean {
  try {
    new OwnedFd(openPath(path, flags | constants.O_RDONLY)).close()
    return true
  } catch {
    return false
  }
}

function lockDisk(path: string, fd: number, exclusive: boolean): void {
  let isLocked: boolean
  try {
    isLocked = lockFile(fd, exclusive)
  } catch (cause) {
    throw new BlockError('ERR_BLOCK_OPEN', path, `cannot be locked: ${reasonOf(cause)}`, { cause })
  }
  if (!isLocked) throw new BlockError('ERR_BLOCK_LOCKED', path, 'is in use: another VM has locked it')
}

function deviceSize(fd: number): number {
  const size = new DataView(new ArrayBuffer(8))
  ioctl(fd, BLKGETSIZE64, 'BLKGETSIZE64', size)
  return Number(size.getBigUint64(0, true))
}

function checkSize(path: string, size: number): void {
  if (size === 0) throw new BlockError('ERR_BLOCK_EMPTY', path, 'is empty', { size })
  if (size % SECTOR_SIZE === 0) return
  throw new BlockError('ERR_BLOCK_SIZE', path, `has ${size} bytes, which is no multiple of 512`, { size })
}

/** Asked past the end, where there is nothing to lose. */
function hasHoles(fd: number, size: number): boolean {
  return punchHole(fd, size, SECTOR_SIZE)
}
