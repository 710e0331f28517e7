/**
 * Errors of system calls, in the shape Node.js gives its own: `errno` (negative), `code` and `syscall`.
 */
import koffi from 'koffi'

const namesByNumber = new Map<number, string>()
for (const [name, number] of Object.entries(koffi.os.errno)) {
  // EWOULDBLOCK and EDEADLOCK are aliases: the first name of a number stays.
  if (!namesByNumber.has(number) && name !== 'EWOULDBLOCK') namesByNumber.set(number, name)
}

/** The name of a positive errno value, for example `EBADF` for 9; `E<number>` where it has none. */
export function errnoName(errno: number): string {
  return namesByNumber.get(errno) ?? `E${errno}`
}

/** A failed system call. */
export class SystemError extends Error {
  override readonly name = 'SystemError'
  /** The symbolic name, for example `EBADF`. Match on this one. */
  readonly code: string
  /** The negative errno value, as in Node's own errors. */
  readonly errno: number
  /** What failed, for example `mmap` or `KVM_CREATE_VM`. */
  readonly syscall: string

  /**
   * @param syscall what failed
   * @param errno the positive errno value
   * @param detail the arguments worth telling, for the message
   */
  constructor(syscall: string, errno: number, detail?: string) {
    const code = errnoName(errno)
    super(detail === undefined ? `${syscall}: ${code}` : `${syscall}: ${code}: ${detail}`)
    this.code = code
    this.errno = -errno
    this.syscall = syscall
  }
}
