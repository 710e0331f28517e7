/**
 * The descriptors of one manager, each with its watch and its owner.
 */
import { EPOLLERR, EPOLLHUP, SystemError, type Watch, watch } from '@vmm/sys-util'
import { EventManagerError } from './errors.ts'
import type { EventOps, EventSubscriber, SubscriberId } from './subscriber.ts'

/** Gets what a subscriber threw, or an {@link EventManagerError} with ERR_SPINNING. */
export type ErrorListener = (error: unknown, id: SubscriberId, fd: number) => void

interface Registration {
  readonly owner: Subscription
  readonly events: { readonly fd: number; data: number; set: number }
  /** Undefined once it was given up for spinning. */
  watch: Watch | undefined
  /** How many times in a row a hang-up or an error was told, or `process` failed. */
  unhandled: number
}

/** How a registry behaves. */
export interface RegistryOptions {
  readonly capacity: number
  readonly spinLimit: number
  readonly onError: ErrorListener
}

/** The descriptors of a manager. */
export class Registry {
  readonly #registrations = new Map<number, Registration>()
  readonly #options: RegistryOptions
  #referenced = true

  constructor(options: RegistryOptions) {
    this.#options = options
  }

  get size(): number {
    return this.#registrations.size
  }

  add(owner: Subscription, fd: number, set: number, data: number): void {
    if (this.#registrations.has(fd)) {
      throw new EventManagerError('ERR_FD_ALREADY_REGISTERED', `fd ${fd} is registered`, { fd })
    }
    const { capacity } = this.#options
    if (this.#registrations.size >= capacity) {
      throw new EventManagerError('ERR_CAPACITY_EXCEEDED', `${capacity} descriptors are registered`, { fd })
    }
    const registration = { owner, events: { fd, data, set: 0 }, watch: undefined, unhandled: 0 }
    this.#watch(registration, set)
    this.#registrations.set(fd, registration)
  }

  modify(owner: Subscription, fd: number, set: number, data: number | undefined): void {
    const registration = this.#owned(owner, fd)
    registration.unhandled = 0
    if (registration.watch === undefined) this.#watch(registration, set)
    else refusing(fd, () => registration.watch?.modify(set))
    if (data !== undefined) registration.events.data = data
  }

  remove(owner: Subscription, fd: number): void {
    this.#owned(owner, fd).watch?.close()
    this.#registrations.delete(fd)
  }

  removeAll(owner: Subscription): void {
    for (const [fd, registration] of this.#registrations) {
      if (registration.owner === owner) this.remove(owner, fd)
    }
  }

  /** Whether the watches keep the process running. */
  reference(referenced: boolean): void {
    this.#referenced = referenced
    for (const { watch } of this.#registrations.values()) {
      if (referenced) watch?.ref()
      else watch?.unref()
    }
  }

  #owned(owner: Subscription, fd: number): Registration {
    const registration = this.#registrations.get(fd)
    if (registration?.owner === owner) return registration
    throw new EventManagerError('ERR_FD_NOT_REGISTERED', `fd ${fd} is not registered by this subscriber`, {
      fd,
    })
  }

  #watch(registration: Registration, set: number): void {
    const { fd } = registration.events
    refusing(fd, () => {
      registration.watch = watch(fd, set, (ready) => this.#deliver(registration, ready))
    })
    if (!this.#referenced) registration.watch?.unref()
  }

  #deliver(registration: Registration, set: number): void {
    const { events, owner } = registration
    events.set = set
    let handled = (set & (EPOLLERR | EPOLLHUP)) === 0
    try {
      owner.subscriber.process(events, owner)
    } catch (error) {
      handled = false
      this.#options.onError(error, owner.id, events.fd)
    } finally {
      if (handled) registration.unhandled = 0
      else this.#countUnhandled(registration)
    }
  }

  /** A hang-up stays ready, and what `process` failed on most likely, too: at some point that is nothing but load. */
  #countUnhandled(registration: Registration): void {
    const { watch, owner, events } = registration
    if (++registration.unhandled < this.#options.spinLimit || watch === undefined || watch.closed) return
    watch.close()
    registration.watch = undefined
    const { fd } = events
    const message = `fd ${fd} hung up or failed ${registration.unhandled} times in a row and stays registered`
    this.#options.onError(new EventManagerError('ERR_SPINNING', message, { fd }), owner.id, fd)
  }
}

/** One subscriber's part of a registry: what it may do, for as long as it is subscribed. */
export class Subscription implements EventOps {
  readonly id: SubscriberId
  readonly subscriber: EventSubscriber
  readonly #registry: Registry
  #ended = false

  constructor(id: SubscriberId, subscriber: EventSubscriber, registry: Registry) {
    this.id = id
    this.subscriber = subscriber
    this.#registry = registry
  }

  add(fd: number, set: number, data = 0): void {
    this.#check()
    this.#registry.add(this, fd, set, data)
  }

  modify(fd: number, set: number, data?: number): void {
    this.#check()
    this.#registry.modify(this, fd, set, data)
  }

  remove(fd: number): void {
    this.#check()
    this.#registry.remove(this, fd)
  }

  end(): void {
    this.#ended = true
    this.#registry.removeAll(this)
  }

  #check(): void {
    if (!this.#ended) return
    throw new EventManagerError('ERR_INVALID_SUBSCRIBER_ID', `subscriber ${this.id} has been removed`)
  }
}

function refusing(fd: number, action: () => void): void {
  try {
    action()
  } catch (cause) {
    const exists = cause instanceof SystemError && cause.code === 'EEXIST'
    if (exists) {
      throw new EventManagerError('ERR_FD_ALREADY_REGISTERED', `fd ${fd} is watched elsewhere`, { fd, cause })
    }
    throw new EventManagerError('ERR_FD_REFUSED', `fd ${fd} cannot be watched: ${String(cause)}`, {
      fd,
      cause,
    })
  }
}
