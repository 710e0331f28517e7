/** A name of a file as it came from the guest: bytes, not text. */
import type { Reader } from '@vmm/virtio-queue'
import { FS_ERRNO } from './errno.ts'

const SLASH = 0x2f
const DOT = 0x2e

/** Holds one name, and is used again for the next: take from it what is to last. */
export class FileName {
  /** The name, with a NUL behind it. What follows is left over. */
  readonly buffer: Buffer
  #length = 0

  /** @param capacity the most bytes, without the NUL */
  constructor(capacity: number) {
    this.buffer = Buffer.alloc(capacity + 1)
  }

  /** In bytes, without the NUL. */
  get length(): number {
    return this.#length
  }

  /** The name as text; bytes that are no UTF-8 are replaced. */
  get text(): string {
    return this.buffer.toString('utf8', 0, this.#length)
  }

  /** The name as a string of bytes, a character each: for keys. */
  get key(): string {
    return this.buffer.toString('latin1', 0, this.#length)
  }

  /** @internal Puts something else there, cut to the capacity. */
  set(bytes: Uint8Array): void {
    this.#length = Math.min(bytes.length, this.buffer.length - 1)
    this.buffer.set(bytes.subarray(0, this.#length))
    this.buffer[this.#length] = 0
  }

  /**
   * @internal Takes what comes up to a NUL.
   * @returns 0, or -EINVAL where there is no NUL, -ENAMETOOLONG where it is too far off
   */
  read(reader: Reader): number {
    const { buffer } = this
    const capacity = buffer.length - 1
    this.#length = 0
    buffer[0] = 0
    for (let length = 0; ; length += 1) {
      const byte = reader.readUint8()
      if (reader.failed) return -FS_ERRNO.EINVAL
      if (length > capacity || (length === capacity && byte !== 0)) return -FS_ERRNO.ENAMETOOLONG
      buffer[length] = byte
      if (byte !== 0) continue
      this.#length = length
      return 0
    }
  }

  /**
   * @internal As {@link read}, for a name in a directory.
   * @returns 0; or -EINVAL for a name that no file can have: an empty one, one with a slash, `.` and `..`
   */
  readComponent(reader: Reader): number {
    const result = this.read(reader)
    if (result !== 0) return result
    const { buffer } = this
    const length = this.#length
    if (length === 0 || (buffer[0] === DOT && (length === 1 || (length === 2 && buffer[1] === DOT)))) {
      return -FS_ERRNO.EINVAL
    }
    for (let i = 0; i < length; i += 1) if (buffer[i] === SLASH) return -FS_ERRNO.EINVAL
    return 0
  }
}
