/**
 * File descriptors: open, close, and an owner that closes exactly once.
 */
import { lastError, libc } from './libc.ts'

const O_CLOEXEC = 0o2000000
const O_NONBLOCK = 0o4000

/**
 * open(2), with the flags as given: without O_CLOEXEC, which Node.js does not name, children inherit the descriptor.
 * @param flags `O_*`; O_CLOEXEC is 0o2000000
 * @throws SystemError
 */
export function openPath(path: string, flags: number, mode = 0o600): number {
  const fd: number = libc().open(path, flags, mode)
  if (fd < 0) throw lastError('open', path)
  return fd
}

/**
 * Closes a descriptor.
 * @throws SystemError EBADF where it is not open
 */
export function closeFd(fd: number): void {
  if (libc().close(fd) < 0) throw lastError('close', `fd ${fd}`)
}

const F_DUPFD_CLOEXEC = 1030
const F_GETFL = 3
const F_SETFL = 4

/**
 * A second descriptor of the same open file, close-on-exec and owned by the caller.
 * @throws SystemError
 */
export function dupFd(fd: number): number {
  const copy: number = libc().fcntl(fd, F_DUPFD_CLOEXEC, 0)
  if (copy < 0) throw lastError('fcntl', `F_DUPFD_CLOEXEC of fd ${fd}`)
  return copy
}

/**
 * Sets or clears O_NONBLOCK of an open file, which all its descriptors share. For files it matters to io_uring: what cannot be
 * done at once fails there, where the file system does not tell beforehand.
 * @throws SystemError
 */
export function setNonBlocking(fd: number, nonBlocking: boolean): void {
  const flags: number = libc().fcntl(fd, F_GETFL, 0)
  const wanted = nonBlocking ? flags | O_NONBLOCK : flags & ~O_NONBLOCK
  if (flags < 0 || libc().fcntl(fd, F_SETFL, wanted) < 0) throw lastError('fcntl', `F_SETFL of fd ${fd}`)
}

/** The owner of one descriptor: closes it once, however often it is asked. */
export class OwnedFd implements Disposable {
  #fd: number

  /** @param fd an open descriptor, the caller's until now */
  constructor(fd: number) {
    this.#fd = fd
  }

  /** The descriptor; -1 after {@link close}, so that a stale use fails with EBADF. */
  get fd(): number {
    return this.#fd
  }

  /** Whether {@link close} has been called. */
  get closed(): boolean {
    return this.#fd === -1
  }

  /** Gives the descriptor up, open: it is the caller's. */
  release(): number {
    const fd = this.#fd
    this.#fd = -1
    return fd
  }

  /** Closes the descriptor. Idempotent. */
  close(): void {
    if (this.#fd === -1) return
    const fd = this.#fd
    this.#fd = -1
    closeFd(fd)
  }

  [Symbol.dispose](): void {
    this.close()
  }
}

/**
 * A pipe: close-on-exec, and both ends non-blocking unless asked otherwise.
 * @param flags of pipe2(2) besides O_CLOEXEC; default O_NONBLOCK
 * @returns the end to read from and the end to write to
 * @throws SystemError
 */
export function createPipe(flags: number = O_NONBLOCK): [reader: OwnedFd, writer: OwnedFd] {
  const fds = new Int32Array(2)
  if (libc().pipe2(fds, flags | O_CLOEXEC) < 0) throw lastError('pipe2')
  const [reader = -1, writer = -1] = fds
  return [new OwnedFd(reader), new OwnedFd(writer)]
}
