/** Sizes and ranges of files that are open. These return a negative errno and throw nothing. */
import koffi from 'koffi'
import { libc } from './libc.ts'

const offsets = new DataView(new ArrayBuffer(16))

function result(value: number): number {
  return value < 0 ? -koffi.errno() : value
}

function setOffset(at: number, value: number): void {
  offsets.setUint32(at, value >>> 0, true)
  offsets.setUint32(at + 4, Math.floor(value / 2 ** 32), true)
}

/** ftruncate(2). @param size in bytes. @returns 0 or a negative errno */
export function truncateFd(fd: number, size: number): number {
  return result(libc().ftruncate(fd, size))
}

/** fallocate(2). @param mode FALLOC_FL_… @param offset and `length` in bytes. @returns 0 or a negative errno */
export function allocateRange(fd: number, mode: number, offset: number, length: number): number {
  return result(libc().fallocate(fd, mode, offset, length))
}

/** lseek(2), for SEEK_DATA and SEEK_HOLE. Moves the descriptor's file position. @returns bytes or a negative errno */
export function seekRange(fd: number, offset: number, whence: number): number {
  return result(libc().lseek(fd, offset, whence))
}

/**
 * copy_file_range(2): from one file to another, by the kernel.
 * @param from where, in bytes, and `to` likewise
 * @returns bytes that were copied, perhaps fewer than asked; or a negative errno
 */
export function copyRange(
  from: { readonly fd: number; readonly offset: number },
  to: { readonly fd: number; readonly offset: number },
  length: number,
): number {
  setOffset(0, from.offset)
  setOffset(8, to.offset)
  const target = new DataView(offsets.buffer, 8)
  return result(libc().copy_file_range(from.fd, offsets, to.fd, target, length, 0))
}
