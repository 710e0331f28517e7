/** What a user provides for a `UserTree`. */
import type { FsSpace } from './file-system.ts'

/** What a file is. */
export interface UserStat {
  /** What kind of file. */
  readonly type: 'file' | 'directory' | 'symlink'
  /** In bytes; default 0. */
  readonly size?: number | undefined
  /** Permissions; default 0644, or 0444 in a tree that is read-only, with 0111 more for directories. */
  readonly mode?: number | undefined
  /**
   * Last change, in milliseconds since 1970 or as a `Date`; default 1970. The guest drops what it has cached of the contents when
   * this changes, or the size.
   */
  readonly modified?: number | Date | undefined
  /** Default 0: root. */
  readonly uid?: number | undefined
  /** Default 0: root's group. */
  readonly gid?: number | undefined
  /** Names of the file; default 1, for a directory 2. */
  readonly links?: number | undefined
  /** Inode number, below 2^52; default one that is made up. */
  readonly inode?: number | undefined
}

/** What is to be changed: what is there. */
export interface UserChanges {
  /** The file is cut, or filled up with zeros. */
  readonly size?: number
  /** Permissions. */
  readonly mode?: number
  /** In milliseconds since 1970. */
  readonly modified?: number
  /** The owner. */
  readonly uid?: number
  /** The owning group. */
  readonly gid?: number
}

/** A value now, or later. */
export type Eventually<T> = T | Promise<T>

/**
 * A tree of objects: `N` is whatever stands for a file or directory. A file shall be the same object each time; the guest takes
 * another one for another file.
 *
 * What is thrown, or rejected, with a `code` as Node's own errors have (`ENOENT`, `EEXIST`, `ENOTEMPTY`, `ENOSPC`), is the guest's error;
 * anything else is EIO for the guest, and reported to the VMM. Calls may overlap in time. Without any of the optional methods that
 * change something the tree is read-only; without some of them the guest gets EPERM.
 */
export interface UserTreeSource<N extends object = object> {
  /** The directory that is mounted. */
  readonly root: N
  /** The file of a name: 1 to 255 bytes of UTF-8, no slash, neither `.` nor `..`. @returns undefined where there is none */
  lookup(directory: N, name: string): Eventually<N | undefined>
  /** What a file is: asked as often as the guest looks, unless it caches (`cacheSeconds`). */
  stat(node: N): Eventually<UserStat>
  /** All names in a directory, without `.` and `..`. What can be no name is left out. */
  readdir(directory: N): Eventually<Iterable<string>>
  /** Fills `target`, up to 128 KiB, with what the file has from `position` on. @returns bytes; fewer at the end of the file alone */
  read(file: N, target: Uint8Array, position: number): Eventually<number>
  /** Where a symbolic link points. Its text is the guest's to follow. */
  readlink?(link: N): Eventually<string>
  /** The guest does not know this node any more. */
  forget?(node: N): void
  /** How much room there is; default none. */
  statfs?(): Eventually<Partial<FsSpace>>

  /** Takes all of `source`, up to 128 KiB, which is not its own after it has settled. */
  write?(file: N, source: Uint8Array, position: number): Eventually<unknown>
  /** Needed for `>` in a shell, too: it begins with a size of 0. */
  change?(node: N, changes: UserChanges): Eventually<unknown>
  /** Makes an empty file with the permissions `mode`; EEXIST where the name is taken. */
  create?(directory: N, name: string, mode: number): Eventually<N>
  /** Makes an empty directory with the permissions `mode`; EEXIST where the name is taken. */
  mkdir?(directory: N, name: string, mode: number): Eventually<N>
  /** Makes a symbolic link to `target`, any text; EEXIST where the name is taken. */
  symlink?(directory: N, name: string, target: string): Eventually<N>
  /** A file, a link, or a directory; ENOTEMPTY where that is not empty. */
  remove?(directory: N, name: string): Eventually<unknown>
  /** Replaces what has the new name, if anything has. */
  rename?(directory: N, name: string, newDirectory: N, newName: string): Eventually<unknown>
  /** Makes what was written durable. Without it, it is when `write` settles. */
  sync?(node: N): Eventually<unknown>
}
