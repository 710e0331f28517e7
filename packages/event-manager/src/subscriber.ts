/**
 * What a subscriber is, what it is told, and what it may do.
 */

declare const subscriberId: unique symbol

/** Names a subscriber. No two of a thread are the same, not even after one has gone. */
export type SubscriberId = number & { readonly [subscriberId]: never }

/** What is ready. The object is used again for the descriptor's next event: keep its fields, not it. */
export interface Events {
  /** The descriptor. */
  readonly fd: number
  /** What the subscriber registered it with; 0 unless it said otherwise. */
  readonly data: number
  /** `EPOLL*` bits. EPOLLERR and EPOLLHUP come unasked. */
  readonly set: number
}

/** What a subscriber may do about its own descriptors, and no others. */
export interface EventOps {
  /**
   * Registers a descriptor. It stays the caller's, and is to be removed before it is closed. Nothing is delivered for
   * it before the event loop's next turn.
   * @param set `EPOLL*`
   * @param data a number to be told with its events; default 0
   * @throws EventManagerError ERR_FD_ALREADY_REGISTERED, ERR_FD_REFUSED, ERR_CAPACITY_EXCEEDED,
   *   ERR_INVALID_SUBSCRIBER_ID once the subscriber has been removed
   */
  add(fd: number, set: number, data?: number): void

  /**
   * Changes what a descriptor is watched for, rearms EPOLLONESHOT, and resumes one that was given up for spinning.
   * @param data default: what it was
   * @throws EventManagerError ERR_FD_NOT_REGISTERED, ERR_FD_REFUSED, ERR_INVALID_SUBSCRIBER_ID
   */
  modify(fd: number, set: number, data?: number): void

  /**
   * Removes a descriptor. Nothing more is delivered for it, not even what is ready by now.
   * @throws EventManagerError ERR_FD_NOT_REGISTERED, ERR_INVALID_SUBSCRIBER_ID
   */
  remove(fd: number): void
}

/** Whoever has descriptors to be watched: a device, most often. */
export interface EventSubscriber {
  /** Called once, when it is added: registers the first descriptors. */
  init(ops: EventOps): void

  /**
   * Called when a descriptor is ready. Without EPOLLET that is once a turn of the event loop for as long as it is ready.
   * It may register, remove, and remove itself or others.
   */
  process(events: Events, ops: EventOps): void
}
