/**
 * Descriptors on the event loop of Node.js. All the watches of a thread share one epoll instance, and libuv
 * polls that: a descriptor libuv would not take, or has already, is an error here instead of the end of the
 * process, and many ready descriptors cost one wake-up.
 */
import { Epoll } from './epoll.ts'
import { SystemError } from './errors.ts'
import { LoopPoll } from './loop-poll.ts'

const ENOENT = 2
const EBADF = 9

/** Gets the set of what is ready, `EPOLL*`. What it throws becomes an uncaught exception. */
export type WatchCallback = (events: number) => void

function raise(error: unknown): void {
  throw error
}

interface Registration {
  readonly fd: number
  readonly callback: WatchCallback
  events: number
}

/** What the watches of a thread have in common. It lives from the first watch to the last. */
class Reactor {
  // Tokens are not used twice, so that an event never reaches a watch that came after it.
  readonly #registrations = new Map<number, Registration>()
  /** The token of the latest registration of a descriptor's number. */
  readonly #latest = new Map<number, number>()
  #epoll = new Epoll()
  #handle = this.#poll()
  #lastToken = 0
  #references = 0
  #orphans = false

  add(registration: Registration): number {
    const token = ++this.#lastToken
    try {
      this.#epoll.add(registration.fd, registration.events, token)
    } catch (error) {
      this.#closeIfUnused()
      throw error
    }
    this.#registrations.set(token, registration)
    this.#latest.set(registration.fd, token)
    return token
  }

  modify(token: number, events: number): void {
    const registration = this.#registrations.get(token)
    if (registration === undefined) throw new SystemError('epoll_ctl', EBADF, 'the watch is closed')
    const { fd } = registration
    if (this.#latest.get(fd) !== token) throw new SystemError('epoll_ctl', ENOENT, `fd ${fd} was closed`)
    this.#epoll.modify(fd, events, token)
    registration.events = events
  }

  remove(token: number, fd: number): void {
    this.#registrations.delete(token)
    if (this.#latest.get(fd) === token) {
      this.#latest.delete(fd)
      if (!this.#epoll.remove(fd)) this.#orphans = true
    } else {
      // The descriptor was closed before its watch, and the number is another's by now.
      this.#orphans = true
    }
    this.#closeIfUnused()
  }

  reference(): void {
    if (this.#references++ === 0) this.#handle.ref()
  }

  unreference(): void {
    if (--this.#references === 0) this.#handle.unref()
  }

  #poll(): LoopPoll {
    return new LoopPoll(this.#epoll.fd, () => this.#dispatch())
  }

  #dispatch(): void {
    const count = this.#epoll.wait()
    let unknown = false
    for (let index = 0; index < count; index++) {
      const registration = this.#registrations.get(this.#epoll.token(index))
      if (registration === undefined) {
        unknown = true
        continue
      }
      try {
        registration.callback(this.#epoll.events(index))
      } catch (error) {
        setImmediate(raise, error)
      }
    }
    if (unknown && this.#orphans) this.#rebuild()
  }

  /**
   * A descriptor that is closed before its watch stays registered for as long as a duplicate of it is open, and
   * nothing can remove it: it would report for ever. A new instance has only what is watched.
   */
  #rebuild(): void {
    if (this.#epoll.closed) return
    this.#handle.close()
    this.#epoll.close()
    this.#epoll = new Epoll()
    this.#orphans = false
    for (const [fd, token] of this.#latest) {
      try {
        this.#epoll.add(fd, this.#registrations.get(token)?.events ?? 0, token)
      } catch {
        // This one has been closed, too: there is nothing to report any more.
      }
    }
    this.#handle = this.#poll()
    if (this.#references > 0) this.#handle.ref()
  }

  #closeIfUnused(): void {
    if (this.#registrations.size > 0) return
    this.#handle.close()
    this.#epoll.close()
    if (reactor === this) reactor = undefined
  }
}

let reactor: Reactor | undefined

/** A watched descriptor. It keeps the process running until {@link close} or {@link unref}. */
export class Watch implements Disposable {
  /** The descriptor, which stays the caller's. */
  readonly fd: number
  readonly #reactor: Reactor
  readonly #token: number
  #closed = false
  #referenced = false

  /** Use {@link watch}. */
  constructor(fd: number, events: number, callback: WatchCallback) {
    reactor ??= new Reactor()
    this.fd = fd
    this.#reactor = reactor
    this.#token = reactor.add({ fd, callback, events: events >>> 0 })
    this.ref()
  }

  /** Whether {@link close} has been called. */
  get closed(): boolean {
    return this.#closed
  }

  /**
   * Watches for something else, and rearms EPOLLONESHOT.
   * @param events `EPOLL*`
   * @throws SystemError EBADF after {@link close}; ENOENT or EBADF where the descriptor has been closed
   */
  modify(events: number): void {
    this.#reactor.modify(this.#token, events >>> 0)
  }

  /** Keeps the process running, as it does from the start. Idempotent. */
  ref(): void {
    if (this.#closed || this.#referenced) return
    this.#referenced = true
    this.#reactor.reference()
  }

  /** Lets the process end while this is open. Idempotent. */
  unref(): void {
    if (!this.#referenced) return
    this.#referenced = false
    this.#reactor.unreference()
  }

  /**
   * Ends the watch: the callback is not called again, not even for what is ready by now. Close the watch before
   * the descriptor. Idempotent.
   */
  close(): void {
    if (this.#closed) return
    this.unref()
    this.#closed = true
    this.#reactor.remove(this.#token, this.fd)
  }

  [Symbol.dispose](): void {
    this.close()
  }
}

/**
 * Calls back when a descriptor is ready, as the event loop of this thread turns.
 * Without EPOLLET that is once a turn for as long as it is ready: read, or stop watching. With EPOLLET it is once
 * for each new readiness; an eventfd then need not be read at all, since every write is one.
 *
 * Close the watches of a worker before you terminate it: koffi aborts the process where one is ready at that moment.
 * @param fd anything that can be polled: not a regular file; at most one watch of a descriptor in a thread
 * @param events `EPOLL*`; EPOLLERR and EPOLLHUP come unasked
 * @throws SystemError EEXIST for a descriptor that is watched, EPERM for one that cannot be polled, EBADF
 */
export function watch(fd: number, events: number, callback: WatchCallback): Watch {
  return new Watch(fd, events, callback)
}
