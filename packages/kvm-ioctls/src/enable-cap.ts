/**
 * The argument of KVM_ENABLE_CAP, which VMs and vCPUs have.
 */
import { outOfRange } from './errors.ts'
import { kvm_enable_cap } from './structs/vm.ts'

const ARGUMENTS_MAX = 4

/** What a capability takes when it is switched on. */
export interface EnableCapOptions {
  /** Default 0. */
  readonly flags?: number
  /** Up to four; default none. */
  readonly args?: readonly (number | bigint)[]
}

/** The kernel's form. */
export function encodeEnableCap(cap: number, options: EnableCapOptions): Uint8Array<ArrayBuffer> {
  const { flags = 0, args = [] } = options
  if (args.length > ARGUMENTS_MAX) {
    throw outOfRange('KVM_ENABLE_CAP', `up to ${ARGUMENTS_MAX} arguments`, args.length)
  }
  const padded = Array.from({ length: ARGUMENTS_MAX }, (_, index) => BigInt(args[index] ?? 0))
  return kvm_enable_cap.encode({ cap, flags, args: padded })
}
