/**
 * Descriptors to subscribers, on the event loop of Node.js. The loop is Node's own: there is no run() to call, and
 * nothing here blocks.
 */
import { EPOLLET, EPOLLIN } from '@vmm/sys-util'
import { EventManagerError } from './errors.ts'
import { type ErrorListener, Registry, Subscription } from './registry.ts'
import type { EventOps, EventSubscriber, SubscriberId } from './subscriber.ts'

/** How many descriptors a manager takes unless told otherwise. */
export const DEFAULT_CAPACITY = 4096
/** The largest capacity: the most descriptors that Linux gives a process unless it is set up for more. */
export const MAX_CAPACITY = 1_048_576
/** How many unhandled hang-ups in a row are taken unless told otherwise: some 20 ms of them. */
export const DEFAULT_SPIN_LIMIT = 10_000

/** How a manager behaves. */
export interface EventManagerOptions {
  /** The most descriptors at once, 1 to {@link MAX_CAPACITY}; default {@link DEFAULT_CAPACITY}. */
  readonly capacity?: number
  /**
   * Gets what a subscriber throws, and ERR_SPINNING. Default: it is thrown, as an uncaught exception. The others get
   * their events either way.
   */
  readonly onError?: ErrorListener
  /**
   * After how many deliveries in a row of EPOLLHUP or EPOLLERR, or of events that `process` throws on, a descriptor is
   * watched no more, 1 or above, Infinity for never;
   * default {@link DEFAULT_SPIN_LIMIT}.
   */
  readonly spinLimit?: number
}

/** What {@link EventManager.onEventFd} returns. */
export interface EventFdSubscription extends Disposable {
  /** Ends it: the callback is not called again. Idempotent. */
  close(): void
}

// One count for all managers of a thread, so that an id of another manager's is not taken for one's own.
let lastId = 0

function rethrow(error: unknown): never {
  throw error
}

/**
 * Delivers the events of descriptors to subscribers.
 * @example
 * const manager = new EventManager()
 * const doorbell = new EventFd()
 * const subscription = manager.onEventFd(doorbell, () => console.log('rang'))
 * doorbell.write()
 */
export class EventManager implements Disposable {
  readonly #subscriptions = new Map<SubscriberId, Subscription>()
  readonly #registry: Registry
  #closed = false

  /** @throws EventManagerError ERR_INVALID_CAPACITY, ERR_INVALID_SPIN_LIMIT */
  constructor(options: EventManagerOptions = {}) {
    const { capacity = DEFAULT_CAPACITY, onError = rethrow, spinLimit = DEFAULT_SPIN_LIMIT } = options
    if (!(Number.isInteger(capacity) && capacity >= 1 && capacity <= MAX_CAPACITY)) {
      const message = `capacity: expected 1 to ${MAX_CAPACITY}, got ${capacity}`
      throw new EventManagerError('ERR_INVALID_CAPACITY', message)
    }
    if (!(spinLimit >= 1)) {
      throw new EventManagerError(
        'ERR_INVALID_SPIN_LIMIT',
        `spin limit: expected 1 or above, got ${spinLimit}`,
      )
    }
    this.#registry = new Registry({ capacity, onError, spinLimit })
  }

  /** How many descriptors are registered. */
  get size(): number {
    return this.#registry.size
  }

  /** Whether {@link close} has been called. */
  get closed(): boolean {
    return this.#closed
  }

  /**
   * Adds a subscriber and has it register its descriptors, by `init`. Where that throws it is not added, and what it has
   * registered is not either.
   * @throws EventManagerError ERR_CLOSED; whatever `init` throws
   */
  add(subscriber: EventSubscriber): SubscriberId {
    if (this.#closed) throw new EventManagerError('ERR_CLOSED', 'the manager is closed')
    const id = ++lastId as SubscriberId
    const subscription = new Subscription(id, subscriber, this.#registry)
    this.#subscriptions.set(id, subscription)
    try {
      subscriber.init(subscription)
    } catch (error) {
      this.#subscriptions.delete(id)
      subscription.end()
      throw error
    }
    return id
  }

  /**
   * Removes a subscriber with all its descriptors. Nothing more is delivered to it, not even what is ready by now.
   * @returns the subscriber
   * @throws EventManagerError ERR_INVALID_SUBSCRIBER_ID
   */
  remove(id: SubscriberId): EventSubscriber {
    const subscription = this.#find(id)
    this.#subscriptions.delete(id)
    subscription.end()
    return subscription.subscriber
  }

  /**
   * The subscriber of an id.
   * @throws EventManagerError ERR_INVALID_SUBSCRIBER_ID
   */
  subscriber(id: SubscriberId): EventSubscriber {
    return this.#find(id).subscriber
  }

  /**
   * What a subscriber may do, for use outside its own `init` and `process`.
   * @throws EventManagerError ERR_INVALID_SUBSCRIBER_ID
   */
  ops(id: SubscriberId): EventOps {
    return this.#find(id)
  }

  /**
   * Calls back after writes to an eventfd: once for all that came since the last time. The counter is not read: edges
   * are watched, and each write is one, which saves a system call for each. A count that is there already calls back
   * too, and a subscriber that comes after this one would be called for the counts of this one.
   * @param eventFd an EventFd of `@vmm/sys-util`, or anything with the descriptor of one
   * @throws EventManagerError as {@link add} and {@link EventOps.add} say
   */
  onEventFd(eventFd: { readonly fd: number }, callback: () => void): EventFdSubscription {
    const { fd } = eventFd
    const id = this.add({
      init: (ops) => ops.add(fd, EPOLLIN | EPOLLET),
      process: () => callback(),
    })
    const close = (): void => {
      if (this.#subscriptions.has(id)) this.remove(id)
    }
    return { close, [Symbol.dispose]: close }
  }

  /** Keeps the process running while descriptors are registered, as is the case from the start. */
  ref(): void {
    this.#registry.reference(true)
  }

  /** Lets the process end although descriptors are registered. */
  unref(): void {
    this.#registry.reference(false)
  }

  /** Removes all subscribers. The descriptors stay open: they are the subscribers'. Idempotent. */
  close(): void {
    this.#closed = true
    for (const id of this.#subscriptions.keys()) this.remove(id)
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #find(id: SubscriberId): Subscription {
    const subscription = this.#subscriptions.get(id)
    if (subscription !== undefined) return subscription
    throw new EventManagerError('ERR_INVALID_SUBSCRIBER_ID', `there is no subscriber ${id}`)
  }
}
