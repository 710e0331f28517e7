/** What a file is: `struct statx` (statx(2)), and `struct statfs` for the file system that it is on (fstatfs(2)). */
import koffi from 'koffi'
import { statxFd } from './by-descriptor.ts'
import { libc } from './libc.ts'

const STATX_SIZE = 256
const STATFS_SIZE = 120

function uint64(view: DataView, offset: number): number {
  return view.getUint32(offset + 4, true) * 2 ** 32 + view.getUint32(offset, true)
}

function int64(view: DataView, offset: number): number {
  return view.getInt32(offset + 4, true) * 2 ** 32 + view.getUint32(offset, true)
}

/** One file's status, to be read again and again: what it says is that of the last {@link FileStatus.read}. */
export class FileStatus {
  readonly #view = new DataView(new ArrayBuffer(STATX_SIZE))

  /** Reads the status of a descriptor, O_PATH ones included. @returns 0 or a negative errno */
  read(fd: number): number {
    return statxFd(fd, this.#view)
  }

  /** Type and permissions, as in stat(2). */
  get mode(): number {
    return this.#view.getUint16(28, true)
  }

  /** Names of the file. */
  get links(): number {
    return this.#view.getUint32(16, true)
  }

  /** Owner. */
  get uid(): number {
    return this.#view.getUint32(20, true)
  }

  /** Owning group. */
  get gid(): number {
    return this.#view.getUint32(24, true)
  }

  /** In bytes. */
  get size(): number {
    return uint64(this.#view, 40)
  }

  /** In units of 512 bytes. */
  get blocks(): number {
    return uint64(this.#view, 48)
  }

  /** What is best read at a time, in bytes. */
  get blockSize(): number {
    return this.#view.getUint32(4, true)
  }

  /** Number of the file on its device: both halves, as it may be above 2^53. */
  get inodeLow(): number {
    return this.#view.getUint32(32, true)
  }

  /** The upper 32 bits of the number. */
  get inodeHigh(): number {
    return this.#view.getUint32(36, true)
  }

  /** The device that it is on: major number. */
  get deviceMajor(): number {
    return this.#view.getUint32(136, true)
  }

  /** The device that it is on: minor number. */
  get deviceMinor(): number {
    return this.#view.getUint32(140, true)
  }

  /** Last access, in seconds since 1970, and nanoseconds to be added. */
  get accessed(): number {
    return int64(this.#view, 64)
  }

  /** Nanoseconds of {@link accessed}, below 10^9. */
  get accessedNs(): number {
    return this.#view.getUint32(72, true)
  }

  /** Birth, in seconds since 1970: what tells a file from one that got its inode number later. 0 where the file system does not keep it. */
  get born(): number {
    return int64(this.#view, 80)
  }

  /** Nanoseconds of {@link born}, below 10^9. */
  get bornNs(): number {
    return this.#view.getUint32(88, true)
  }

  /** Last change of contents or attributes, in seconds since 1970. */
  get changed(): number {
    return int64(this.#view, 96)
  }

  /** Nanoseconds of {@link changed}, below 10^9. */
  get changedNs(): number {
    return this.#view.getUint32(104, true)
  }

  /** Last change of the contents, in seconds since 1970. */
  get modified(): number {
    return int64(this.#view, 112)
  }

  /** Nanoseconds of {@link modified}, below 10^9. */
  get modifiedNs(): number {
    return this.#view.getUint32(120, true)
  }
}

/** How much room a file system has: what it says is that of the last {@link FileSystemStatus.read}. */
export class FileSystemStatus {
  readonly #view = new DataView(new ArrayBuffer(STATFS_SIZE))

  /** Asks for the file system of a descriptor, O_PATH ones included. @returns 0 or a negative errno */
  read(fd: number): number {
    return libc().fstatfs(fd, this.#view) < 0 ? -koffi.errno() : 0
  }

  /** Unit of the next three, in bytes. */
  get blockSize(): number {
    return uint64(this.#view, 72)
  }

  /** All blocks. */
  get blocks(): number {
    return uint64(this.#view, 16)
  }

  /** Blocks that are free. */
  get freeBlocks(): number {
    return uint64(this.#view, 24)
  }

  /** Of the free ones, those that are there for everyone. */
  get availableBlocks(): number {
    return uint64(this.#view, 32)
  }

  /** Files that there can be. */
  get files(): number {
    return uint64(this.#view, 40)
  }

  /** Files that can still be made. */
  get freeFiles(): number {
    return uint64(this.#view, 48)
  }
}
