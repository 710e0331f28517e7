/**
 * How a run ends, and the exit status that says so.
 */
import type { MicroVmEnd } from '@vmm/microvm'

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

/** What a run comes to. */
export interface RunEnd {
  /** The exit status. */
  readonly status: number
  /** A sentence, without a full stop. */
  readonly reason: string
}

const STATUS = {
  shutdown: STATUS_OK,
  reset: STATUS_OK,
  exit: STATUS_OK,
  died: STATUS_GUEST_DIED,
  failed: STATUS_HOST_FAILURE,
} as const

/** @param stopStatus the exit status where it was stopped from outside */
export function runEnd({ kind, reason }: MicroVmEnd, stopStatus: number): RunEnd {
  return { status: kind === 'stopped' ? stopStatus : STATUS[kind], reason }
}
