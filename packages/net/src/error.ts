/**
 * The one error class of this package: thrown for what is wrong with a tap when it is opened, and reported to the device's
 * sink for what fails while it is in use.
 */

/**
 * What went wrong, for programs to match on. When a tap is opened:
 *
 * - `ERR_NET_TUN`: there is no /dev/net/tun, or no right to it; `cause` has the reason
 * - `ERR_NET_TAP_NAME`: no interface can have such a name
 * - `ERR_NET_TAP_MISSING`: there is no such interface
 * - `ERR_NET_TAP_TYPE`: the interface is no tap
 * - `ERR_NET_TAP_PERMISSION`: the tap is another user's, or may not be created
 * - `ERR_NET_TAP_BUSY`: somebody else has it open
 * - `ERR_NET_TAP_QUEUES`: it does not have as many queues
 * - `ERR_NET_TAP_OPEN`: it cannot be opened for another reason; `cause` has it
 *
 * While it is in use:
 *
 * - `ERR_NET_TAP_DOWN`: it was taken down; the link is down until it is up again
 * - `ERR_NET_TAP_GONE`: it was deleted
 * - `ERR_NET_TAP_IO`: the host could not read or write; `cause` has the reason
 *
 * And:
 *
 * - `ERR_NET_OPTION`: an option outside its range, or something that is in use already
 */
export type NetErrorCode =
  | 'ERR_NET_OPTION'
  | 'ERR_NET_TAP_BUSY'
  | 'ERR_NET_TAP_DOWN'
  | 'ERR_NET_TAP_GONE'
  | 'ERR_NET_TAP_IO'
  | 'ERR_NET_TAP_MISSING'
  | 'ERR_NET_TAP_NAME'
  | 'ERR_NET_TAP_OPEN'
  | 'ERR_NET_TAP_PERMISSION'
  | 'ERR_NET_TAP_QUEUES'
  | 'ERR_NET_TAP_TYPE'
  | 'ERR_NET_TUN'

/** Something is wrong with a network. Match on {@link NetError.code}; the message is one sentence with the name. */
export class NetError extends Error {
  override readonly name = 'NetError'
  readonly code: NetErrorCode

  constructor(code: NetErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.code = code
  }
}

/** The symbolic errno of an error of the system, or its message where it has none. */
export function reasonOf(error: unknown): string {
  const { code } = error as { code?: unknown }
  return typeof code === 'string' ? code : String(error)
}
