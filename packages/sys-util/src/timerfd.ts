/**
 * timerfd(2): a timer behind a descriptor, on the monotonic clock. For timers that KVM, another process or an epoll
 * set is to see; within JavaScript `setTimeout` does.
 */
import { OwnedFd } from './fd.ts'
import { lastErrno, lastError, libc } from './libc.ts'

const CLOCK_MONOTONIC = 1
const TFD_NONBLOCK = 0o4000
const TFD_CLOEXEC = 0o2000000
const EAGAIN = 11

// struct itimerspec: two of struct timespec, each of 64-bit seconds and 64-bit nanoseconds.
const ITIMERSPEC_SIZE = 32
const INTERVAL_OFFSET = 0
const VALUE_OFFSET = 16
const NANOSECONDS_OFFSET = 8
const MS_MAX = 2 ** 53

const spec = new DataView(new ArrayBuffer(ITIMERSPEC_SIZE))
const word = new DataView(new ArrayBuffer(8))

function readUint64(view: DataView, offset: number): number {
  return view.getUint32(offset + 4, true) * 0x1_0000_0000 + view.getUint32(offset, true)
}

function writeUint64(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, value >>> 0, true)
  view.setUint32(offset + 4, Math.floor(value / 0x1_0000_0000), true)
}

function writeTime(offset: number, ms: number): void {
  const seconds = Math.floor(ms / 1000)
  writeUint64(spec, offset, seconds)
  writeUint64(
    spec,
    offset + NANOSECONDS_OFFSET,
    Math.min(Math.round((ms - seconds * 1000) * 1e6), 999_999_999),
  )
}

function readTime(offset: number): number {
  return readUint64(spec, offset) * 1000 + readUint64(spec, offset + NANOSECONDS_OFFSET) / 1e6
}

function checkTime(name: string, ms: number): void {
  if (!(ms >= 0 && ms < MS_MAX)) throw new RangeError(`${name}: expected 0 to 2^53 ms, got ${ms}`)
}

/** A timer. Close-on-exec and non-blocking, disarmed at first. */
export class TimerFd extends OwnedFd {
  /** @throws SystemError */
  constructor() {
    const fd: number = libc().timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
    if (fd < 0) throw lastError('timerfd_create')
    super(fd)
  }

  /**
   * Starts the timer, instead of what it was at.
   * @param delayMs milliseconds until it expires first, fractions included; 0 is as soon as can be
   * @param intervalMs milliseconds from then on; 0 (default) for once only
   * @throws RangeError below 0 or from 2^53 up; SystemError
   */
  arm(delayMs: number, intervalMs = 0): void {
    checkTime('delayMs', delayMs)
    checkTime('intervalMs', intervalMs)
    writeTime(INTERVAL_OFFSET, intervalMs)
    writeTime(VALUE_OFFSET, delayMs)
    // All zeros would disarm it.
    if (delayMs < 1e-6) writeUint64(spec, VALUE_OFFSET + NANOSECONDS_OFFSET, 1)
    this.#set()
  }

  /** Stops the timer, and forgets what has not been read. */
  disarm(): void {
    writeTime(INTERVAL_OFFSET, 0)
    writeTime(VALUE_OFFSET, 0)
    this.#set()
  }

  /**
   * How long until it expires next, 0 where it is not armed; and the interval, 0 for once only.
   * @throws SystemError EBADF when it is closed
   */
  remaining(): { readonly delayMs: number; readonly intervalMs: number } {
    if (libc().timerfd_gettime(this.fd, spec) < 0) throw lastError('timerfd_gettime', `fd ${this.fd}`)
    return { delayMs: readTime(VALUE_OFFSET), intervalMs: readTime(INTERVAL_OFFSET) }
  }

  /**
   * Takes the number of times it has expired since the last read; 0 where it has not.
   * @throws SystemError
   */
  read(): number {
    if (libc().read(this.fd, word, word.byteLength) !== word.byteLength) {
      if (lastErrno() === EAGAIN) return 0
      throw lastError('read', `timerfd ${this.fd}`)
    }
    return readUint64(word, 0)
  }

  #set(): void {
    if (libc().timerfd_settime(this.fd, 0, spec, null) < 0) {
      throw lastError('timerfd_settime', `fd ${this.fd}`)
    }
  }
}
