/**
 * What this package itself refuses. What the kernel refuses comes as the SystemError of `@vmm/sys-util`, with
 * `syscall` set to the name of the request, for example `KVM_CREATE_VM`.
 */

/** What went wrong, to match on. */
export type KvmErrorCode =
  /** There is no such device node: the kernel has no KVM, or its module is not loaded. */
  | 'ERR_KVM_NOT_FOUND'
  /** This user may not open the device node. */
  | 'ERR_KVM_ACCESS_DENIED'
  /** The device answers with another API version than 12. */
  | 'ERR_KVM_API_VERSION'
  /** A value is out of the range that the kernel's structure, or this package, has for it. */
  | 'ERR_KVM_OUT_OF_RANGE'
  /** JSON that does not have the documented shape. */
  | 'ERR_KVM_INVALID_STATE'
  /** The vCPU is in KVM_RUN, and what was asked for cannot be done there. */
  | 'ERR_KVM_VCPU_RUNNING'
  /** {@link Vcpu.stop} was called: it runs no more. */
  | 'ERR_KVM_VCPU_STOPPED'
  /** Every thread of the libuv pool is in KVM_RUN: one more run would wait for a thread, maybe for ever. */
  | 'ERR_KVM_THREADPOOL_EXHAUSTED'
  /** A ring was asked for that has not been mapped, or that this KVM does not have. */
  | 'ERR_KVM_NO_RING'

/** An error of this package. */
export class KvmError extends Error {
  override readonly name = 'KvmError'
  /** What went wrong, to match on. */
  readonly code: KvmErrorCode

  constructor(code: KvmErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** The error of a number that does not fit. */
export function outOfRange(label: string, expected: string, got: unknown): KvmError {
  return new KvmError('ERR_KVM_OUT_OF_RANGE', `${label}: expected ${expected}, got ${String(got)}`)
}
