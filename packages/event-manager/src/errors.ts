/**
 * What this package refuses. What the kernel refuses comes as the `cause`, a SystemError of `@vmm/sys-util`.
 */

/**
 * - `ERR_CAPACITY_EXCEEDED`: the manager has as many descriptors as it was made for
 * - `ERR_CLOSED`: the manager is closed
 * - `ERR_FD_ALREADY_REGISTERED`: the descriptor is registered, with this manager or elsewhere in this thread
 * - `ERR_FD_NOT_REGISTERED`: the descriptor is not registered, or is another subscriber's
 * - `ERR_FD_REFUSED`: the kernel will not poll the descriptor; the cause says why
 * - `ERR_INVALID_CAPACITY`: a capacity out of range
 * - `ERR_INVALID_SPIN_LIMIT`: a spin limit out of range
 * - `ERR_INVALID_SUBSCRIBER_ID`: no such subscriber, or not any more
 * - `ERR_SPINNING`: a hang-up or an error was told over and over and nothing done about it
 */
export type EventManagerErrorCode =
  | 'ERR_CAPACITY_EXCEEDED'
  | 'ERR_CLOSED'
  | 'ERR_FD_ALREADY_REGISTERED'
  | 'ERR_FD_NOT_REGISTERED'
  | 'ERR_FD_REFUSED'
  | 'ERR_INVALID_CAPACITY'
  | 'ERR_INVALID_SPIN_LIMIT'
  | 'ERR_INVALID_SUBSCRIBER_ID'
  | 'ERR_SPINNING'

/** An error of the event manager. */
export class EventManagerError extends Error {
  override readonly name = 'EventManagerError'
  /** What went wrong. Match on this one. */
  readonly code: EventManagerErrorCode
  /** The descriptor that it is about, where it is about one. */
  readonly fd: number | undefined

  constructor(code: EventManagerErrorCode, message: string, options: { fd?: number; cause?: unknown } = {}) {
    super(`event manager: ${message}`, 'cause' in options ? { cause: options.cause } : {})
    this.code = code
    this.fd = options.fd
  }
}
