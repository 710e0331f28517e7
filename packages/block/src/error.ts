/**
 * The one error class of this package: thrown for what is wrong with a disk when it is opened, and reported to the
 * device's sink for what fails while it is in use.
 */

/**
 * What went wrong, for programs to match on. When a disk is opened:
 *
 * - `ERR_BLOCK_MISSING`: there is no such file
 * - `ERR_BLOCK_DIRECTORY`: it is a directory
 * - `ERR_BLOCK_TYPE`: it is neither a regular file nor a block device
 * - `ERR_BLOCK_EMPTY`: it has no bytes
 * - `ERR_BLOCK_SIZE`: its size is no multiple of 512 bytes
 * - `ERR_BLOCK_LOCKED`: another VM, or anybody who locks it, has it open
 * - `ERR_BLOCK_READ_ONLY`: it can be read but not written here
 * - `ERR_BLOCK_DIRECT`: the file system has no O_DIRECT for it
 * - `ERR_BLOCK_ENGINE`: this host has not what the engine asked for needs, io_uring; `cause` says why
 * - `ERR_BLOCK_OPEN`: it cannot be opened, or not locked, for another reason; `cause` has it
 *
 * While it is in use:
 *
 * - `ERR_BLOCK_IO`: the host could not read, write, zero or flush; `cause` has the reason: EIO, ENOSPC
 * - `ERR_BLOCK_ALIGNMENT`: the guest asked for less than the blocks that O_DIRECT takes here: give the device their size
 * - `ERR_BLOCK_TRUNCATED`: the file has become smaller than it was
 * - `ERR_BLOCK_CLOSED`: the disk was closed
 */
export type BlockErrorCode =
  | 'ERR_BLOCK_ALIGNMENT'
  | 'ERR_BLOCK_CLOSED'
  | 'ERR_BLOCK_DIRECT'
  | 'ERR_BLOCK_DIRECTORY'
  | 'ERR_BLOCK_EMPTY'
  | 'ERR_BLOCK_ENGINE'
  | 'ERR_BLOCK_IO'
  | 'ERR_BLOCK_LOCKED'
  | 'ERR_BLOCK_MISSING'
  | 'ERR_BLOCK_OPEN'
  | 'ERR_BLOCK_READ_ONLY'
  | 'ERR_BLOCK_SIZE'
  | 'ERR_BLOCK_TRUNCATED'
  | 'ERR_BLOCK_TYPE'

/** What a {@link BlockError} can say beside its message. */
export interface BlockErrorDetails {
  /** Where on the disk, in bytes. */
  readonly position?: number | undefined
  /** In bytes: of the request, or of the file where that is what is wrong. */
  readonly size?: number | undefined
  readonly cause?: unknown
}

/** Something is wrong with a disk. Match on {@link BlockError.code}; the message is one sentence with the path. */
export class BlockError extends Error {
  override readonly name = 'BlockError'
  readonly code: BlockErrorCode
  /** Of the disk, as it was given. */
  readonly path: string
  /** Where on the disk, in bytes, where that is known. */
  readonly position: number | undefined
  /** In bytes: of the request, or of the file where that is what is wrong. */
  readonly size: number | undefined

  /** @param what follows `disk <path>` in the message */
  constructor(code: BlockErrorCode, path: string, what: string, details: BlockErrorDetails = {}) {
    super(`disk ${path} ${what}`, details.cause === undefined ? undefined : { cause: details.cause })
    this.code = code
    this.path = path
    this.position = details.position
    this.size = details.size
  }
}

/** The symbolic errno of an error of the system, or its message where it has none. */
export function reasonOf(error: unknown): string {
  const { code } = error as { code?: unknown }
  return typeof code === 'string' ? code : String(error)
}
