/**
 * The host's side of a shared file system, as the device sees it: for those who move data straight between guest memory and
 * files. Most people want `UserTree`, which is one of these around an object with `lookup`, `readdir` and `read`.
 *
 * A file system gives out objects of its own: nodes for files, whatever their names, and handles for what is open. The device
 * numbers them, counts what the guest knows, and sees to it that a guest can only name what it was given.
 */
import type { FsRequest } from './request.ts'

/**
 * What became of a request: 0, or how many bytes where the method says so; or a negative errno (`-FS_ERRNO.ENOENT`). A promise
 * of that where it takes time. What is thrown instead is EIO for the guest, and reported to the VMM.
 */
export type FsOutcome = number | Promise<number>

/** Where a node is to be found again, as far as its file system can tell. */
export interface NodeLocation<N extends object = object> {
  /** The directory that it was found in last. */
  readonly directory: N
  /** Its name there: bytes, a character each. */
  readonly name: string
  /**
   * What tells it from another file that has the name later: up to 128 characters. It goes into snapshots, and is compared with what
   * the file of that name has then.
   */
  readonly identity: string
}

/**
 * A file system. Methods get a request with what they need in it, and leave their results there; requests are used
 * again when they are answered. Names have been checked: 1 to 255 bytes, neither `.` nor `..`, without slash and NUL.
 *
 * The guest's kernel checks permissions, by the attributes that it is given. What is `readOnly` is never asked to change. Methods
 * that are left out are refused with the error that Linux takes best.
 *
 * After a reset of the device a promise may still be pending: ask `request.isCurrent` before guest memory is touched, which is
 * the driver's again.
 */
export interface FileSystem<N extends object = object, H extends object = object> {
  /** The directory that is mounted. */
  readonly root: N
  /** Whether all that changes anything is refused with EROFS, before it comes here. */
  readonly readOnly: boolean
  /**
   * For how long the guest may take names and attributes for right without asking, in seconds: 0 to ask each time,
   * `Infinity` for what nobody else changes.
   */
  readonly cacheSeconds: number

  /** The node `name` in the directory `node`: sets `found` and fills `attributes`. */
  lookup(request: FsRequest<N, H>): FsOutcome
  /** The guest does not know this node any more. It may have it open all the same. */
  forget?(node: N): void
  /**
   * Where to look for a node in a later run of the program: a VM that is saved while the guest has this file system mounted needs
   * to know, and one that is restored asks again what it finds there. Not for {@link root}.
   * @returns undefined where it cannot be found again; without this method, a mounted file system cannot be saved
   */
  locate?(node: N): NodeLocation<N> | undefined
  /** Fills `attributes` of `node`, by `handle` if there is one. */
  getattr(request: FsRequest<N, H>): FsOutcome
  /** Makes the `changes` to `node`, by `handle` if there is one, and fills `attributes`. */
  setattr?(request: FsRequest<N, H>): FsOutcome

  /** Writes the text of a symbolic link to `target`. @returns its length in bytes */
  readlink?(request: FsRequest<N, H>): FsOutcome
  /** Makes a symbolic link `name` to `link` in the directory `node`; answers as {@link lookup}. */
  symlink?(request: FsRequest<N, H>): FsOutcome
  /** Makes a regular file or a named pipe, as `mode` says; as {@link symlink}. */
  mknod?(request: FsRequest<N, H>): FsOutcome
  /** Makes a directory with the permissions `mode`; as {@link symlink}. */
  mkdir?(request: FsRequest<N, H>): FsOutcome
  /** Gives `node` the further name `otherName` in the directory `otherNode`; answers as {@link lookup}. */
  link?(request: FsRequest<N, H>): FsOutcome
  /** Removes `name` from the directory `node`: no directory. */
  unlink?(request: FsRequest<N, H>): FsOutcome
  /** Removes the empty directory `name` from the directory `node`. */
  rmdir?(request: FsRequest<N, H>): FsOutcome
  /** Makes `name` of the directory `node` to `otherName` of `otherNode`; `flags` are RENAME2's: `RENAME_NOREPLACE`, `RENAME_EXCHANGE`. */
  rename?(request: FsRequest<N, H>): FsOutcome

  /** Opens `node`, no directory, with the `flags` of open(2): sets `opened`, and perhaps `keepCache`. Without it there are no handles. */
  open?(request: FsRequest<N, H>): FsOutcome
  /** Makes a regular file `name`, or opens the one there is unless `flags` has O_EXCL: as {@link lookup} and {@link open} together. */
  create?(request: FsRequest<N, H>): FsOutcome
  /** Writes up to `length` bytes from `position` on to `target`. @returns how many; fewer at the end of the file alone */
  read(request: FsRequest<N, H>): FsOutcome
  /** Takes `length` bytes from `source`, to `position`, or to the end where `flags` has O_APPEND. @returns how many */
  write?(request: FsRequest<N, H>): FsOutcome
  /** Makes what was written durable: of data alone, if `dataOnly`. */
  fsync?(request: FsRequest<N, H>): FsOutcome
  /** The guest has closed a file or a directory. Requests with the handle may be under way. */
  release?(handle: H): void
  /** Allocates, zeroes or punches `length` bytes at `position`, as the `flags` of fallocate(2) say. */
  fallocate?(request: FsRequest<N, H>): FsOutcome
  /** Looks for data or a hole (`flags`: `SEEK_DATA`, `SEEK_HOLE`) from `position` on. @returns where, in bytes */
  lseek?(request: FsRequest<N, H>): FsOutcome
  /** Copies `length` bytes from `position` of `handle` to `otherPosition` of `otherHandle`. @returns how many */
  copyFileRange?(request: FsRequest<N, H>): FsOutcome

  /** Opens the directory `node`: sets `opened`. */
  opendir?(request: FsRequest<N, H>): FsOutcome
  /** Adds entries of the directory `node` to `list`, from where that begins. */
  readdir(request: FsRequest<N, H>): FsOutcome
  /** As {@link fsync}, of a directory. */
  fsyncdir?(request: FsRequest<N, H>): FsOutcome
  /** Fills `space`. */
  statfs?(request: FsRequest<N, H>): FsOutcome
}

/** How much room a file system has: to be filled in. */
export class FsSpace {
  /** Unit of the next three, in bytes. */
  blockSize = 4096
  /** All blocks. */
  blocks = 0
  /** Blocks that are free. */
  freeBlocks = 0
  /** Free blocks that are there for everyone. */
  availableBlocks = 0
  /** Files that there can be. */
  files = 0
  /** Files that can still be made. */
  freeFiles = 0

  /** Everything as it is at first. */
  clear(): void {
    this.blockSize = 4096
    this.blocks = 0
    this.freeBlocks = 0
    this.availableBlocks = 0
    this.files = 0
    this.freeFiles = 0
  }
}
