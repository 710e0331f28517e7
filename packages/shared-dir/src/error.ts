/** The one error class of this package, for what is wrong with a share when it is opened. Later errors are errno values of the guest's. */

/**
 * What went wrong, for programs to match on:
 *
 * - `ERR_SHARED_DIR_MISSING`: there is no such directory
 * - `ERR_SHARED_DIR_TYPE`: it is no directory
 * - `ERR_SHARED_DIR_OPEN`: it cannot be opened or read; `cause` has the reason
 * - `ERR_SHARED_DIR_HOST`: the host lacks what keeps a guest inside: openat2(2) or /proc
 * - `ERR_SHARED_DIR_OPTION`: an option outside its range
 */
export type SharedDirectoryErrorCode =
  | 'ERR_SHARED_DIR_HOST'
  | 'ERR_SHARED_DIR_MISSING'
  | 'ERR_SHARED_DIR_OPEN'
  | 'ERR_SHARED_DIR_OPTION'
  | 'ERR_SHARED_DIR_TYPE'

/** Something is wrong with a share. Match on {@link SharedDirectoryError.code}; the message is one sentence with the path. */
export class SharedDirectoryError extends Error {
  override readonly name = 'SharedDirectoryError'
  readonly code: SharedDirectoryErrorCode
  /** Of the share, as it was given. */
  readonly path: string

  /** @param what follows `share <path>` in the message */
  constructor(code: SharedDirectoryErrorCode, path: string, what: string, options?: ErrorOptions) {
    super(`share ${path} ${what}`, options)
    this.code = code
    this.path = path
  }
}
