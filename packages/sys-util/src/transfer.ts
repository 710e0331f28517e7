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

/** Flag of {@link IoVector.readFrom} and `writeTo`: -EAGAIN instead of waiting for the medium; fewer bytes where some are at hand. */
export const RWF_NOWAIT = 0x8

/**
 * Copies bytes to an address: for a few in memory that nobody has a view of, as one of a whole guest costs V8 a collection of garbage.
 * @param address the caller's to keep mapped
 */
export function copyInto(address: Address, bytes: Uint8Array): void {
  libc().memcpy(address, koffi.address(bytes), bytes.length)
}

/** A list of pieces of memory, made once and filled again for each transfer. */
export class IoVector {
  /** The most entries it takes. */
  readonly capacity: number
  readonly #entries: DataView
  /** Where the entries are. Buffers do not move. */
  readonly #base: number
  #first = 0
  #end = 0
  #byteLength = 0

  /**
   * @param capacity the most entries it takes, 1 to {@link IOV_MAX}
   * @throws RangeError
   */
  constructor(capacity: number) {
    if (!(Number.isInteger(capacity) && capacity >= 1 && capacity <= IOV_MAX)) {
      throw new RangeError(`capacity of an IoVector: expected 1 to ${IOV_MAX}, got ${capacity}`)
    }
    this.capacity = capacity
    this.#entries = new DataView(new ArrayBuffer(capacity * IOVEC_SIZE))
    this.#base = Number(koffi.address(this.#entries))
  }

  /** How many pieces there are. */
  get count(): number {
    return this.#end - this.#first
  }

  /** The bytes of all pieces together. */
  get byteLength(): number {
    return this.#byteLength
  }

  /** Where the entries are, for calls that take them: good until the next change, and as long as this object is kept. */
  get address(): number {
    return this.#base + this.#first * IOVEC_SIZE
  }

  /** Where a piece is, of {@link count} pieces. */
  pieceAddress(index: number): number {
    return this.#word((this.#first + index) * IOVEC_SIZE)
  }

  /** The length of a piece in bytes. */
  pieceLength(index: number): number {
    return this.#word((this.#first + index) * IOVEC_SIZE + LENGTH_OFFSET)
  }

  /** Forgets the pieces. */
  clear(): void {
    this.#first = 0
    this.#end = 0
    this.#byteLength = 0
  }

  /**
   * Adds a piece.
   * @param address the caller's to keep mapped until the transfer
   * @param length in bytes, below 2^53
   * @returns false where the list is full
   */
  push(address: Address, length: number): boolean {
    const offset = this.#end * IOVEC_SIZE
    if (offset === this.#entries.byteLength) return false
    this.#setWord(offset, Number(address))
    this.#setWord(offset + LENGTH_OFFSET, length)
    this.#end++
    this.#byteLength += length
    return true
  }

  /** Drops the first bytes, up to {@link byteLength}: what was transferred. */
  advance(bytes: number): void {
    let left = bytes
    this.#byteLength -= bytes
    while (left > 0) {
      const offset = this.#first * IOVEC_SIZE
      const length = this.#word(offset + LENGTH_OFFSET)
      if (left < length) {
        this.#setWord(offset, this.#word(offset) + left)
        this.#setWord(offset + LENGTH_OFFSET, length - left)
        return
      }
      left -= length
      this.#first++
    }
  }

  /** Makes room for as many entries as were dropped by {@link advance}. */
  compact(): void {
    const bytes = new Uint8Array(this.#entries.buffer)
    bytes.copyWithin(0, this.#first * IOVEC_SIZE, this.#end * IOVEC_SIZE)
    this.#end -= this.#first
    this.#first = 0
  }

  /** Fills the first bytes of the pieces with those at an address: up to {@link byteLength}. */
  copyFrom(address: number, bytes: number): void {
    for (let i = 0, done = 0; done < bytes; i++) {
      const length = Math.min(this.pieceLength(i), bytes - done)
      libc().memcpy(this.pieceAddress(i), address + done, length)
      done += length
    }
  }

  /** Copies the first bytes of the pieces to an address; as {@link copyFrom}. */
  copyTo(address: number, bytes: number): void {
    for (let i = 0, done = 0; done < bytes; i++) {
      const length = Math.min(this.pieceLength(i), bytes - done)
      libc().memcpy(address + done, this.pieceAddress(i), length)
      done += length
    }
  }

  /**
   * preadv2(2): fills the pieces in turn.
   * @param flags {@link RWF_NOWAIT}, or 0 (default)
   * @returns how many bytes were read; or the negative errno
   */
  readFrom(fd: number, offset: number, flags = 0): number {
    const result: number = libc().preadv2(fd, this.address, this.count, offset, flags)
    return result < 0 ? -koffi.errno() : result
  }

  /** pwritev2(2): writes the pieces in turn; as {@link readFrom}. */
  writeTo(fd: number, offset: number, flags = 0): number {
    const result: number = libc().pwritev2(fd, this.address, this.count, offset, flags)
    return result < 0 ? -koffi.errno() : result
  }

  #word(offset: number): number {
    return this.#entries.getUint32(offset + 4, true) * 0x1_0000_0000 + this.#entries.getUint32(offset, true)
  }

  #setWord(offset: number, value: number): void {
    this.#entries.setUint32(offset, value >>> 0, true)
    this.#entries.setUint32(offset + 4, Math.floor(value / 0x1_0000_0000), true)
  }
}
