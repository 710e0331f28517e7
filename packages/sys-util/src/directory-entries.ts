/** Entries of a directory, as getdents64(2) gives them: names as bytes, positions as 64 bits of the file system's own. */
import koffi from 'koffi'
import { libc } from './libc.ts'

// struct linux_dirent64: inode and position, 64 bits each; length of the entry, 16; type, 8; then the name and a NUL.
const POSITION_OFFSET = 8
const LENGTH_OFFSET = 16
const TYPE_OFFSET = 18
const NAME_OFFSET = 19
const SEEK_SET = 0

/** One for any number of directories: it is used again for each read. Its fields are those of the entry at hand. */
export class DirectoryEntries {
  /** Holds the names. */
  readonly buffer: Uint8Array
  /** Where the entry's name is in {@link buffer}. */
  nameStart = 0
  /** Its length in bytes, without the NUL. */
  nameLength = 0
  /** DT_…: bits 12 to 15 of what stat(2) gives as the mode. 0 where the file system does not tell. */
  type = 0
  /** The inode number's lower 32 bits. */
  inodeLow = 0
  /** The inode number's upper 32 bits. */
  inodeHigh = 0
  /** Where the directory goes on after this entry: the lower 32 bits. */
  nextLow = 0
  /** And the upper 32 bits. */
  nextHigh = 0
  readonly #view: DataView
  #at = 0
  #end = 0

  /** @param size of the buffer in bytes, 512 or more */
  constructor(size: number) {
    this.buffer = new Uint8Array(size)
    this.#view = new DataView(this.buffer.buffer)
  }

  /**
   * Reads entries from where the descriptor stands, which is then after the last of them.
   * @param limit bytes to read, at least 280; default all that fits
   * @returns bytes that were read, 0 at the end; or a negative errno
   */
  read(fd: number, limit: number = this.buffer.length): number {
    const bytes: number = libc().getdents64(fd, this.buffer, Math.min(limit, this.buffer.length))
    this.#at = 0
    this.#end = Math.max(bytes, 0)
    return bytes < 0 ? -koffi.errno() : bytes
  }

  /** Goes to the next entry of what was read. @returns false where there is none */
  next(): boolean {
    const view = this.#view
    const at = this.#at
    if (at >= this.#end) return false
    this.#at = at + view.getUint16(at + LENGTH_OFFSET, true)
    this.inodeLow = view.getUint32(at, true)
    this.inodeHigh = view.getUint32(at + 4, true)
    this.nextLow = view.getUint32(at + POSITION_OFFSET, true)
    this.nextHigh = view.getUint32(at + POSITION_OFFSET + 4, true)
    this.type = view.getUint8(at + TYPE_OFFSET)
    this.nameStart = at + NAME_OFFSET
    this.nameLength = this.buffer.indexOf(0, this.nameStart) - this.nameStart
    return true
  }
}

/** Puts a directory's descriptor where an entry's `next…` said. @returns 0 or a negative errno */
export function seekDirectory(fd: number, low: number, high: number): number {
  const position = (BigInt(high) << 32n) | BigInt(low)
  const result: number | bigint = libc().lseek(fd, BigInt.asIntN(64, position), SEEK_SET)
  return result < 0 ? -koffi.errno() : 0
}
