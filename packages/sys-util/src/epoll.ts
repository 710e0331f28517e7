/**
 * epoll(7): the bits of an event set, and one instance of it. The instance is not for users of the package:
 * it would block the thread. They {@link watch}, on the event loop.
 */
import { OwnedFd } from './fd.ts'
import { lastError, libc } from './libc.ts'

/** There is something to read; also at the end of a stream. */
export const EPOLLIN = 0x001
/** There is something exceptional, for example out-of-band data. */
export const EPOLLPRI = 0x002
/** There is room to write. */
export const EPOLLOUT = 0x004
/** An error is pending, or the reading end of a pipe has gone. Reported unasked. */
export const EPOLLERR = 0x008
/** The other end has gone altogether. Reported unasked. */
export const EPOLLHUP = 0x010
/** The other end of a stream socket writes no more. */
export const EPOLLRDHUP = 0x2000
/** Reports once, then is silent until the watch is modified. */
export const EPOLLONESHOT = 0x4000_0000
/** Reports each new readiness once, instead of for as long as it lasts. */
export const EPOLLET = 0x8000_0000

const EPOLL_CLOEXEC = 0o2000000
const EPOLL_CTL_ADD = 1
const EPOLL_CTL_DEL = 2
const EPOLL_CTL_MOD = 3

// struct epoll_event is packed on x86-64, and there alone.
const DATA_OFFSET = process.arch === 'x64' ? 4 : 8
const EVENT_SIZE = DATA_OFFSET + 8

/** How many events one {@link Epoll.wait} takes; the rest stay ready for the next. */
export const EPOLL_BATCH_SIZE = 64

/** An epoll instance, with tokens of up to 2^53 to tell the registrations apart. */
export class Epoll extends OwnedFd {
  readonly #batch = new DataView(new ArrayBuffer(EPOLL_BATCH_SIZE * EVENT_SIZE))
  readonly #request = new DataView(new ArrayBuffer(EVENT_SIZE))

  /** @throws SystemError */
  constructor() {
    const fd: number = libc().epoll_create1(EPOLL_CLOEXEC)
    if (fd < 0) throw lastError('epoll_create1')
    super(fd)
  }

  /** @throws SystemError EEXIST for a descriptor that is in, EPERM for one that cannot be polled, EBADF */
  add(fd: number, events: number, token: number): void {
    this.#control(EPOLL_CTL_ADD, fd, events, token)
  }

  /** @throws SystemError ENOENT for a descriptor that is not in, EBADF */
  modify(fd: number, events: number, token: number): void {
    this.#control(EPOLL_CTL_MOD, fd, events, token)
  }

  /** @returns false where the descriptor was not in */
  remove(fd: number): boolean {
    return libc().epoll_ctl(this.fd, EPOLL_CTL_DEL, fd, null) === 0
  }

  /** Takes the events there are, without waiting, and says how many. */
  wait(): number {
    return libc().epoll_wait(this.fd, this.#batch, EPOLL_BATCH_SIZE, 0)
  }

  /** The set of an event of the last {@link wait}. */
  events(index: number): number {
    return this.#batch.getUint32(index * EVENT_SIZE, true)
  }

  /** The token of an event of the last {@link wait}. */
  token(index: number): number {
    const offset = index * EVENT_SIZE + DATA_OFFSET
    return this.#batch.getUint32(offset + 4, true) * 0x1_0000_0000 + this.#batch.getUint32(offset, true)
  }

  #control(operation: number, fd: number, events: number, token: number): void {
    this.#request.setUint32(0, events, true)
    this.#request.setUint32(DATA_OFFSET, token, true)
    this.#request.setUint32(DATA_OFFSET + 4, Math.floor(token / 0x1_0000_0000), true)
    if (libc().epoll_ctl(this.fd, operation, fd, this.#request) < 0) throw lastError('epoll_ctl', `fd ${fd}`)
  }
}
