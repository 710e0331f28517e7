/**
 * Reads and writes between files and memory at an address: straight into a mapping, at any offset of a file, at
 * once or scattered. These are for hot paths: they return what the kernel says and throw nothing.
 */
import koffi from 'koffi'
import { libc } from './libc.ts'

// struct iovec: the address, then the length, 64 bits each.
const IOVEC_SIZE = 16
const LENGTH_OFFSET = 8

/** The most entries that the kernel takes at once. */
export const IOV_MAX = 1024

/** An address in this process: user space ends below 2^47, so a number is exact, and cheaper than a bigint. */
export type Address = number | bigint

/**
 * pread(2) into memory.
 * @param address the caller's to keep mapped
 * @param length in bytes
 * @param offset in the file, in bytes
 * @returns how many bytes were read, fewer at the end of the file; or the negative errno
 */
export function preadInto(fd: number, address: Address, length: number, offset: number): number {
  const result: number = libc().pread(fd, address, length, offset)
  return result < 0 ? -koffi.errno() : result
}

/** pwrite(2) from memory; as {@link preadInto}. */
export function pwriteFrom(fd: number, address: Address, length: number, offset: number): number {
  const result: number = libc().pwrite(fd, address, length, offset)
  return result < 0 ? -koffi.errno() : result
}

/** A list of pieces of memory, made once and filled again for each transfer. */
export class IoVector {
  readonly #entries: DataView
  #count = 0
  #byteLength = 0

  /**
   * @param capacity the most entries it takes, 1 to {@link IOV_MAX}
   * @throws RangeError
   */
  constructor(capacity: number) {
    if (!(Number.isInteger(capacity) && capacity >= 1 && capacity <= IOV_MAX)) {
      throw new RangeError(`capacity of an IoVector: expected 1 to ${IOV_MAX}, got ${capacity}`)
    }
    this.#entries = new DataView(new ArrayBuffer(capacity * IOVEC_SIZE))
  }

  /** How many pieces there are. */
  get count(): number {
    return this.#count
  }

  /** The bytes of all pieces together. */
  get byteLength(): number {
    return this.#byteLength
  }

  /** Forgets the pieces. */
  clear(): void {
    this.#count = 0
    this.#byteLength = 0
  }

  /**
   * Adds a piece.
   * @param address the caller's to keep mapped until the transfer
   * @param length in bytes, below 2^53
   * @returns false where the list is full
   */
  push(address: Address, length: number): boolean {
    const offset = this.#count * IOVEC_SIZE
    if (offset === this.#entries.byteLength) return false
    const base = Number(address)
    this.#entries.setUint32(offset, base >>> 0, true)
    this.#entries.setUint32(offset + 4, Math.floor(base / 0x1_0000_0000), true)
    this.#entries.setUint32(offset + LENGTH_OFFSET, length >>> 0, true)
    this.#entries.setUint32(offset + LENGTH_OFFSET + 4, Math.floor(length / 0x1_0000_0000), true)
    this.#count++
    this.#byteLength += length
    return true
  }

  /**
   * preadv(2): fills the pieces in turn.
   * @returns how many bytes were read; or the negative errno
   */
  readFrom(fd: number, offset: number): number {
    const result: number = libc().preadv(fd, this.#entries, this.#count, offset)
    return result < 0 ? -koffi.errno() : result
  }

  /** pwritev(2): writes the pieces in turn; as {@link readFrom}. */
  writeTo(fd: number, offset: number): number {
    const result: number = libc().pwritev(fd, this.#entries, this.#count, offset)
    return result < 0 ? -koffi.errno() : result
  }
}
