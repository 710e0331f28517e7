/** What stands in the way of an instruction: a fault, or a reason to give up. The first one counts. */

import type { UnknownReason } from './completion.ts'

/** {@link Faults.vector} when there is no fault. */
export const NO_VECTOR = -1

export class Faults {
  vector: number = NO_VECTOR
  errorCode: number | undefined
  cr2: bigint | undefined
  unknown: UnknownReason | undefined
  /** A trap to be raised after the instruction. */
  trap: number = NO_VECTOR

  clear(): void {
    this.vector = NO_VECTOR
    this.errorCode = undefined
    this.cr2 = undefined
    this.unknown = undefined
    this.trap = NO_VECTOR
  }

  /** Nothing stands in the way. */
  get areNone(): boolean {
    return this.vector === NO_VECTOR && this.unknown === undefined
  }

  /** Raises a fault. Returns false, for `return faults.raise(...)` where false means failure. */
  raise(vector: number, errorCode?: number, cr2?: bigint): false {
    if (this.areNone) {
      this.vector = vector
      this.errorCode = errorCode
      this.cr2 = cr2
    }
    return false
  }

  /** Gives the instruction up as one that can't be completed. */
  giveUp(reason: UnknownReason): false {
    if (this.areNone) this.unknown = reason
    return false
  }
}
