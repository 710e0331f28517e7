/** The one error class of this package. */

/**
 * What is wrong with the path of the socket, for programs to match on.
 *
 * - `ERR_VSOCK_PATH_LENGTH`: it is empty, or too long for a socket's name
 * - `ERR_VSOCK_PATH_DIRECTORY`: it is in no directory
 * - `ERR_VSOCK_PATH_IN_USE`: somebody listens on it: another VM, perhaps
 * - `ERR_VSOCK_PATH_TAKEN`: there is something else than a socket
 * - `ERR_VSOCK_LISTEN`: it cannot be listened on for another reason; `cause` has it
 */
export type VsockErrorCode =
  | 'ERR_VSOCK_LISTEN'
  | 'ERR_VSOCK_PATH_DIRECTORY'
  | 'ERR_VSOCK_PATH_IN_USE'
  | 'ERR_VSOCK_PATH_LENGTH'
  | 'ERR_VSOCK_PATH_TAKEN'

/** Something is wrong with a socket. Match on {@link VsockError.code}; the message is one sentence with the path. */
export class VsockError extends Error {
  override readonly name = 'VsockError'
  readonly code: VsockErrorCode
  /** Of the socket, as it was given. */
  readonly path: string

  /** @param what follows `vsock socket <path>` in the message */
  constructor(code: VsockErrorCode, path: string, what: string, cause?: unknown) {
    super(`vsock socket ${path} ${what}`, cause === undefined ? undefined : { cause })
    this.code = code
    this.path = path
  }
}
