/**
 * How a VM ends, and the exit status that says so.
 */

/** The guest shut down or reset, or the user ended it. */
export const STATUS_OK = 0
/** The host failed. */
export const STATUS_HOST_FAILURE = 1
/** What was asked for is impossible. */
export const STATUS_USAGE = 2
/** The guest died: triple fault, internal error. */
export const STATUS_GUEST_DIED = 3
/** The time that --timeout gives is over. */
export const STATUS_TIMEOUT = 4

/** Why a VM ended. */
export interface MachineEnd {
  /** The exit status. */
  readonly status: number
  /** A sentence, without a full stop. */
  readonly reason: string
}
