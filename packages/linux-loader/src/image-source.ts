/**
 * Where image bytes come from. A kernel of tens of megabytes goes to the guest in pieces, so that a file is never held
 * in the VMM's memory as a whole; bytes already in memory are not copied on the way.
 */

import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import type { GuestMemory } from './guest-memory.ts'
import { hex, LoaderError } from './loader-error.ts'

/** Random access to an image. */
export interface ImageSource {
  /** Bytes in the image. */
  readonly size: number
  /**
   * Exactly `length` bytes from `offset`, which the caller has checked against `size`. The result is not to be
   * changed, and holds until the next `read`.
   */
  read(offset: number, length: number): Uint8Array
}

/** An image: its bytes, or a source of them. */
export type Image = Uint8Array | ImageSource

// What fits a CPU's cache: each byte is copied twice.
const CHUNK_SIZE = 1 << 17

/** A source for either kind of image. */
export const imageSource = (image: Image): ImageSource =>
  image instanceof Uint8Array
    ? { size: image.length, read: (offset, length) => image.subarray(offset, offset + length) }
    : image

/** An image in a file, read as it is needed. Close it after loading. */
export class ImageFile implements ImageSource {
  /** In bytes. */
  readonly size: number
  readonly #path: string
  #fd: number
  #chunk: Uint8Array = new Uint8Array(0)

  /**
   * @param path of a regular file
   * @throws {LoaderError} `ERR_IMAGE_FILE` with the system's error as `cause`
   */
  constructor(path: string) {
    this.#path = path
    try {
      this.#fd = openSync(path, 'r')
    } catch (cause) {
      throw new LoaderError(
        'ERR_IMAGE_FILE',
        `cannot open ${path}: ${(cause as Error).message}`,
        { path },
        { cause },
      )
    }
    const stat = fstatSync(this.#fd)
    if (!stat.isFile()) {
      this.close()
      throw new LoaderError('ERR_IMAGE_FILE', `${path} is not a regular file`, { path })
    }
    this.size = stat.size
  }

  /**
   * The bytes of a range, until the next read.
   * @throws {LoaderError} `ERR_KERNEL_TRUNCATED` where the file has become shorter, `ERR_IMAGE_FILE`
   */
  read(offset: number, length: number): Uint8Array {
    if (this.#chunk.length < length) this.#chunk = new Uint8Array(length)
    const target = this.#chunk.subarray(0, length)
    for (let done = 0; done < length; ) {
      const count = this.#readAt(target, done, offset + done)
      // The file has shrunk since it was opened.
      if (count === 0)
        throw new LoaderError('ERR_KERNEL_TRUNCATED', `${this.#path} ends at ${hex(offset + done)}`, {
          offset: offset + done,
        })
      done += count
    }
    return target
  }

  /** Closes the file. Idempotent. */
  close(): void {
    if (this.#fd === -1) return
    closeSync(this.#fd)
    this.#fd = -1
    this.#chunk = new Uint8Array(0)
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #readAt(target: Uint8Array, from: number, position: number): number {
    try {
      return readSync(this.#fd, target, from, target.length - from, position)
    } catch (cause) {
      throw new LoaderError(
        'ERR_IMAGE_FILE',
        `cannot read ${this.#path}: ${(cause as Error).message}`,
        { path: this.#path },
        { cause },
      )
    }
  }
}

/** Copies part of an image to guest memory. Both ranges have been checked. */
export const copyToGuest = (
  memory: GuestMemory,
  source: ImageSource,
  offset: number,
  length: number,
  address: number,
): void => {
  for (let done = 0; done < length; done += CHUNK_SIZE)
    memory.writeSlice(address + done, source.read(offset + done, Math.min(CHUNK_SIZE, length - done)))
}
