/**
 * ioctl(2): the request numbers of <asm-generic/ioctl.h>, and the call itself, synchronous and on a pool thread.
 */
import koffi from 'koffi'
import { SystemError } from './errors.ts'
import { libc } from './libc.ts'

const EIO = 5
const EAGAIN = 11
const IOC_TYPE_SHIFT = 8
const IOC_SIZE_SHIFT = 16
const IOC_WRITE = 0x4000_0000
const IOC_READ = 0x8000_0000

/** `_IO(type, nr)`: a request without an argument, or with one by value. */
export function _IO(type: number, nr: number): number {
  return (type << IOC_TYPE_SHIFT) | nr
}

/** `_IOR(type, nr, size)`: the kernel fills `size` bytes. */
export function _IOR(type: number, nr: number, size: number): number {
  return (IOC_READ | (size << IOC_SIZE_SHIFT) | _IO(type, nr)) >>> 0
}

/** `_IOW(type, nr, size)`: the kernel reads `size` bytes. */
export function _IOW(type: number, nr: number, size: number): number {
  return (IOC_WRITE | (size << IOC_SIZE_SHIFT) | _IO(type, nr)) >>> 0
}

/** `_IOWR(type, nr, size)`: the kernel reads and fills `size` bytes. */
export function _IOWR(type: number, nr: number, size: number): number {
  return (IOC_READ | IOC_WRITE | (size << IOC_SIZE_SHIFT) | _IO(type, nr)) >>> 0
}

/** What an ioctl may take: a value, or a buffer that the kernel reads or fills in place. */
export type IoctlArgument = number | bigint | NodeJS.ArrayBufferView

/**
 * The bare call.
 * @returns the call's result, or the negative errno: never throws for what the kernel says
 */
export function ioctlRaw(fd: number, request: number, argument: IoctlArgument = 0): number {
  const result: number =
    typeof argument === 'object'
      ? libc().ioctlPointer(fd, request, argument)
      : libc().ioctlValue(fd, request, argument)
  return result < 0 ? -koffi.errno() : result
}

/**
 * The call, with failures thrown.
 * @param name the request's name, for the error
 * @returns the call's result, 0 or more
 * @throws SystemError with `syscall` set to `name`
 */
export function ioctl(fd: number, request: number, name: string, argument: IoctlArgument = 0): number {
  const result = ioctlRaw(fd, request, argument)
  if (result < 0) throw new SystemError(name, -result, `fd ${fd}`)
  return result
}

/**
 * The bare call on a thread of the libuv pool, which it holds until it returns.
 * The argument is by value: memory that a blocked thread uses must be mapped by the caller and stay mapped.
 * @param done gets the result, or the negative errno
 * @throws SystemError EAGAIN where more calls are under way than koffi takes, 4096 unless another user of it was first
 */
export function ioctlAsync(
  fd: number,
  request: number,
  value: number | bigint,
  done: (result: number) => void,
): void {
  const { ioctlValue } = libc()
  try {
    ioctlValue.async(fd, request, value, (error: Error | null, result: number) => {
      // koffi restores the errno of the pool thread for the length of this callback.
      done(error === null ? (result < 0 ? -koffi.errno() : result) : -EIO)
    })
  } catch (cause) {
    throw new SystemError('ioctl', EAGAIN, cause instanceof Error ? cause.message : undefined)
  }
}
