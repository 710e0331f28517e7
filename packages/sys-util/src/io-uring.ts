/**
 * io_uring(7) for files: reads, writes, sync and fallocate that are begun many at a time, by one system call, and whose
 * ends are read from memory. An eventfd tells of them. Not here: sockets, polled I/O, a kernel thread that submits,
 * registered files and buffers.
 *
 * The order of memory accesses. The kernel looks at the submission queue in io_uring_enter(2) alone, on this thread: a call
 * into native code, across which no store is moved, orders that side. The tail of the completion queue may be written by
 * another CPU at any time: it is read by Atomics, before the entries that it covers. The head is written by Atomics, after
 * they have been read.
 */
import { SystemError } from './errors.ts'
import { EventFd } from './eventfd.ts'
import { setUpRings } from './io-uring-setup.ts'
import { lastErrno, lastError, libc } from './libc.ts'

const SYS_IO_URING_ENTER = 426
const SYS_IO_URING_REGISTER = 427
const IORING_REGISTER_EVENTFD = 4
const IORING_ENTER_GETEVENTS = 1
const IORING_OP_READV = 1
const IORING_OP_WRITEV = 2
const IORING_OP_FSYNC = 3
const IORING_OP_ASYNC_CANCEL = 14
const IORING_OP_FALLOCATE = 17
const IORING_OP_READ = 22
const IORING_OP_WRITE = 23
const IORING_FSYNC_DATASYNC = 1
const IORING_ASYNC_CANCEL_ALL = 1
const IORING_ASYNC_CANCEL_ANY = 4
const EINTR = 4

const SQE_WORDS = 16
const CQE_WORDS = 4
const WORD = 0x1_0000_0000
const ENTRIES = 256
const ENTRIES_MAX = 4096

/** Gets the token of an operation that has ended, and its result: what the system call returns, or the negative errno. */
export type Completion = (token: number, result: number) => void

/** Options of {@link IoUring}. */
export interface IoUringOptions {
  /** The most operations to begin at a time, 1 to 4096, rounded up to a power of two; default 256. */
  readonly entries?: number | undefined
  /** The most operations under way, from `entries` to 65536, rounded up to a power of two; default four times `entries`. */
  readonly inFlightMax?: number | undefined
  /** Whether {@link IoUring.eventFd} tells of completions, which costs something for each; default true. */
  readonly wakes?: boolean | undefined
}

/**
 * A pair of rings. Operations are taken ({@link read} and the like), begun ({@link submit}), and their ends looked for
 * ({@link reap}) when {@link eventFd} tells of some, or at any time. One thread uses it.
 *
 * Nothing here throws but the constructor and {@link close}, and nothing allocates.
 *
 * @example
 * ```ts
 * const ring = new IoUring()
 * const wake = watch(ring.eventFd.fd, EPOLLIN | EPOLLET, () => ring.reap((token, result) => console.log(token, result)))
 * ring.read(fd, address, 4096, 0, 1)
 * ring.submit()
 * ```
 */
export class IoUring implements Disposable {
  /** Each completion adds to it. Watch it with EPOLLET and it need not be read; close the watch before the ring. */
  readonly eventFd: EventFd = new EventFd()
  /** The most operations under way. */
  readonly inFlightMax: number
  readonly #rings: ReturnType<typeof setUpRings>
  readonly #words: Int32Array
  readonly #sqes: Int32Array
  readonly #sqMask: number
  readonly #cqMask: number
  #tail = 0
  #head = 0
  #queued = 0
  #inFlight = 0
  #closed = false

  /**
   * @throws SystemError of `io_uring_setup`: ENOSYS where the kernel has none or is older than 5.6, EPERM where this
   * process may not use it; ENOMEM, EMFILE
   */
  constructor(options: IoUringOptions = {}) {
    const { entries = ENTRIES, inFlightMax = 4 * entries, wakes = true } = options
    try {
      if (!(Number.isInteger(entries) && entries >= 1 && entries <= ENTRIES_MAX)) {
        throw new RangeError(`entries of an IoUring: expected 1 to ${ENTRIES_MAX}, got ${entries}`)
      }
      this.#rings = setUpRings(entries, inFlightMax)
    } catch (error) {
      this.eventFd.close()
      throw error
    }
    const { words, sqes, sqEntries, cqEntries } = this.#rings
    this.#words = words
    this.#sqes = sqes
    this.#sqMask = sqEntries - 1
    this.#cqMask = cqEntries - 1
    this.inFlightMax = cqEntries
    if (wakes) this.#registerEventFd()
  }

  /** Operations taken and not yet begun. */
  get queued(): number {
    return this.#queued
  }

  /** Operations begun whose end was not seen. */
  get inFlight(): number {
    return this.#inFlight
  }

  /** Whether {@link close} has been called. */
  get closed(): boolean {
    return this.#closed
  }

  /**
   * pread(2).
   * @param address the caller's to keep mapped until the end of the operation
   * @param length in bytes, below 2^31
   * @param offset in the file, in bytes
   * @param token for {@link Completion}: 0 to 2^31-1
   * @param flags `RWF_NOWAIT` for -EAGAIN instead of waiting, or -EOPNOTSUPP where the file has no such thing: such an operation has
   * ended when {@link submit} returns; default 0
   * @returns false where there is no room: submit, or reap, and try again
   */
  read(fd: number, address: number, length: number, offset: number, token: number, flags = 0): boolean {
    return this.#take(IORING_OP_READ, fd, address, length, offset, flags, token)
  }

  /** pwrite(2); as {@link read}. */
  write(fd: number, address: number, length: number, offset: number, token: number, flags = 0): boolean {
    return this.#take(IORING_OP_WRITE, fd, address, length, offset, flags, token)
  }

  /**
   * preadv(2); as {@link read}.
   * @param vector the address of the entries, which the kernel reads in {@link submit}
   * @param count of entries, up to IOV_MAX
   */
  readv(fd: number, vector: number, count: number, offset: number, token: number, flags = 0): boolean {
    return this.#take(IORING_OP_READV, fd, vector, count, offset, flags, token)
  }

  /** pwritev(2); as {@link readv}. */
  writev(fd: number, vector: number, count: number, offset: number, token: number, flags = 0): boolean {
    return this.#take(IORING_OP_WRITEV, fd, vector, count, offset, flags, token)
  }

  /** fdatasync(2): it covers the writes that had ended when it was begun. */
  fdatasync(fd: number, token: number): boolean {
    return this.#take(IORING_OP_FSYNC, fd, 0, 0, 0, IORING_FSYNC_DATASYNC, token)
  }

  /** fallocate(2), with its `FALLOC_FL_…`. Offset and length are in bytes. */
  fallocate(fd: number, mode: number, offset: number, length: number, token: number): boolean {
    // The length is where other operations have the address, and the mode where they have the length.
    return this.#take(IORING_OP_FALLOCATE, fd, length, mode, offset, 0, token)
  }

  /**
   * Begins what was taken. What is at hand may have ended when this returns: {@link reap}.
   * @param wait for so many completions, those included that were not reaped; default 0. It blocks the thread.
   * @returns 0; or the negative errno where something was not begun: it stays taken. EAGAIN is a lack of memory.
   */
  submit(wait = 0): number {
    if (this.#closed) return 0
    Atomics.store(this.#words, this.#rings.sqTail, this.#tail)
    for (;;) {
      const least = Math.min(wait, this.#queued + this.#inFlight)
      if (this.#queued === 0 && least === 0) return 0
      const begun = this.#enter(this.#queued, least)
      if (begun >= 0) {
        this.#queued -= begun
        this.#inFlight += begun
        // The kernel stops at an operation that it refuses, which has ended by that.
        if (begun === 0 || this.#queued === 0) return 0
      } else if (begun !== -EINTR) return begun
    }
  }

  /**
   * Takes the completions that there are, those too that come meanwhile.
   * @param completion may take operations and submit; what it throws ends the call, and nothing is lost
   * @returns how many there were
   */
  reap(completion: Completion): number {
    const { cqTail, cqHead, cqes } = this.#rings
    const words = this.#words
    let count = 0
    while (!this.#closed && this.#head !== Atomics.load(words, cqTail)) {
      const at = cqes + (this.#head & this.#cqMask) * CQE_WORDS
      const token = words[at] as number
      const result = words[at + 2] as number
      this.#head = (this.#head + 1) | 0
      Atomics.store(words, cqHead, this.#head)
      this.#inFlight--
      count++
      completion(token, result)
    }
    return count
  }

  /**
   * Drops what was not begun, cancels what waits, and blocks until the rest has ended: the kernel writes nowhere any more when this
   * returns. {@link submit} with a `wait` and {@link reap} before it if the results matter. Idempotent.
   * @throws SystemError where the kernel does not let it wait; the rings stay, and it can be tried again
   */
  close(): void {
    if (this.#closed) return
    this.#tail = (this.#tail - this.#queued) | 0
    this.#queued = 0
    if (this.#inFlight > 0) this.#cancel()
    while (this.#inFlight > 0) {
      const errno = this.submit(this.#inFlight)
      this.reap(ignore)
      if (errno < 0 && this.#inFlight > 0) throw new SystemError('io_uring_enter', -errno, 'waiting')
    }
    this.#closed = true
    this.eventFd.close()
    for (const mapping of this.#rings.mappings) mapping.close()
    this.#rings.owned.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  /** All of them (Linux 5.19; older ones refuse, and all are waited for). A read that a disk is at goes on to its end. */
  #cancel(): void {
    const flags = IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY
    this.#take(IORING_OP_ASYNC_CANCEL, -1, 0, 0, 0, flags, 0)
  }

  #registerEventFd(): void {
    const fds = new Int32Array([this.eventFd.fd])
    const { fd } = this.#rings.owned
    if (libc().io_uring_register(SYS_IO_URING_REGISTER, fd, IORING_REGISTER_EVENTFD, fds, 1) >= 0) return
    const error = lastError('io_uring_register', 'eventfd')
    this.close()
    throw error
  }

  #take(
    opcode: number,
    fd: number,
    address: number,
    length: number,
    offset: number,
    flags: number,
    token: number,
  ): boolean {
    // With no more under way than there are completions to hold, none overflows.
    if (this.#closed || this.#queued > this.#sqMask || this.#queued + this.#inFlight > this.#cqMask)
      return false
    const sqes = this.#sqes
    const at = (this.#tail & this.#sqMask) * SQE_WORDS
    sqes[at] = opcode
    sqes[at + 1] = fd
    sqes[at + 2] = offset
    sqes[at + 3] = offset / WORD
    sqes[at + 4] = address
    sqes[at + 5] = address / WORD
    sqes[at + 6] = length
    sqes[at + 7] = flags
    sqes[at + 8] = token
    // The rest of the entry, and the upper half of the token, are never anything but 0.
    this.#tail = (this.#tail + 1) | 0
    this.#queued++
    return true
  }

  #enter(submit: number, wait: number): number {
    const { fd } = this.#rings.owned
    const flags = wait > 0 ? IORING_ENTER_GETEVENTS : 0
    const result: number = libc().io_uring_enter(SYS_IO_URING_ENTER, fd, submit, wait, flags, 0, 0)
    return result < 0 ? -lastErrno() : result
  }
}

function ignore(): void {}
