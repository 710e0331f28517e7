/** Threads for a VM's vCPUs: all of them, or a clear error before any of them runs. */
import { KvmError, reserveThreads, type ThreadReservation } from '@vmm/kvm-ioctls'
import { MicroVmError } from './error.ts'
import type { GuestVcpu } from './vcpu.ts'

function refused(cause: unknown): never {
  if (!(cause instanceof KvmError)) throw cause
  throw new MicroVmError('ERR_MICROVM_THREADS', `the VM cannot run: ${cause.message}`, { cause })
}

/** @throws MicroVmError ERR_MICROVM_THREADS, which the promise rejects with too */
export function threadsFor(vcpus: readonly GuestVcpu[]): ThreadReservation | Promise<ThreadReservation> {
  try {
    const threads = reserveThreads(vcpus.map(({ kvm }) => kvm))
    return threads instanceof Promise ? threads.catch(refused) : threads
  } catch (error) {
    return refused(error)
  }
}
