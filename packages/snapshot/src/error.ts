/** The one error class of this package. */

/**
 * What went wrong, for programs to match on:
 *
 * - `ERR_SNAPSHOT_MEMORY`: memory is not that of the snapshot: its ranges are others
 * - `ERR_SNAPSHOT_MISSING`: there is no snapshot in the folder
 * - `ERR_SNAPSHOT_DAMAGED`: what is there is none, or not whole: a checksum, a size or a field is wrong
 * - `ERR_SNAPSHOT_VERSION`: it was written by a release that this one does not know
 * - `ERR_SNAPSHOT_IO`: the host could not read or write; `cause` has the reason
 */
export type SnapshotErrorCode =
  | 'ERR_SNAPSHOT_DAMAGED'
  | 'ERR_SNAPSHOT_IO'
  | 'ERR_SNAPSHOT_MEMORY'
  | 'ERR_SNAPSHOT_MISSING'
  | 'ERR_SNAPSHOT_VERSION'

/** Something is wrong with a snapshot. The message is one sentence with the folder. */
export class SnapshotError extends Error {
  override readonly name = 'SnapshotError'
  readonly code: SnapshotErrorCode

  constructor(code: SnapshotErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.code = code
  }
}
