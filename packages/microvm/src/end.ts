/**
 * How a VM ends.
 */

/**
 * Who ended it, and how:
 *
 * - `shutdown`, `reset`: the guest, as a machine is shut down or reset
 * - `exit`: the guest, by writing to the exit port
 * - `died`: the guest came to where a CPU cannot go on: a triple fault, an instruction that cannot be emulated
 * - `stopped`: the host, by `MicroVm.stop`
 * - `failed`: the host could not run it any longer
 */
export type MicroVmEndKind = 'shutdown' | 'reset' | 'exit' | 'died' | 'stopped' | 'failed'

/** Why a VM ended. */
export interface MicroVmEnd {
  /** Who ended it, and how. */
  readonly kind: MicroVmEndKind
  /** A sentence, without a full stop. */
  readonly reason: string
  /** For `failed`: what was thrown. */
  readonly cause?: unknown
}

/** The end of a VM that the host cannot run any longer. @param cause what was thrown, by a device of anybody's perhaps */
export function failedEnd(cause: unknown): MicroVmEnd {
  return { kind: 'failed', reason: cause instanceof Error ? cause.message : String(cause), cause }
}
