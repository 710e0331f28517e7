/** The one error class of this package. */

/**
 * What went wrong, for programs to match on:
 *
 * - `ERR_MICROVM_OPTION`: an option has a value that it cannot have
 * - `ERR_MICROVM_CPUS`: more vCPUs than this host's KVM allows, or none
 * - `ERR_MICROVM_MEMORY`: more memory than the host has, less than any kernel needs, or no whole pages
 * - `ERR_MICROVM_IMAGE`: a kernel or an initrd cannot be booted; `cause` has the loader's reason
 * - `ERR_MICROVM_THREADS`: libuv's thread pool is too small for its vCPUs beside those that run: set UV_THREADPOOL_SIZE
 * - `ERR_MICROVM_NOT_RUNNING`: the VM does not run, or not any more
 * - `ERR_MICROVM_RUNNING`: the VM runs: stop it first, and wait for `run`
 * - `ERR_MICROVM_RUN_ONCE`: the VM has been run already, or is closed: make another
 * - `ERR_MICROVM_NOT_PAUSED`: the VM has to be paused for that
 * - `ERR_MICROVM_STATE`: a saved state is none that such a VM can have on this host
 */
export type MicroVmErrorCode =
  | 'ERR_MICROVM_CPUS'
  | 'ERR_MICROVM_IMAGE'
  | 'ERR_MICROVM_MEMORY'
  | 'ERR_MICROVM_NOT_PAUSED'
  | 'ERR_MICROVM_NOT_RUNNING'
  | 'ERR_MICROVM_OPTION'
  | 'ERR_MICROVM_RUNNING'
  | 'ERR_MICROVM_RUN_ONCE'
  | 'ERR_MICROVM_STATE'
  | 'ERR_MICROVM_THREADS'

/** Something that was asked for is impossible. The message is one sentence. */
export class MicroVmError extends Error {
  override readonly name = 'MicroVmError'
  readonly code: MicroVmErrorCode

  constructor(code: MicroVmErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}
