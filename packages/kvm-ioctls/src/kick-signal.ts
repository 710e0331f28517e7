/**
 * Signals to the threads that are in KVM_RUN. Each vCPU has a signal mask for the time of its runs that blocks all but one
 * real-time signal: that one ends them with EINTR, from inside the guest as from a wait in the kernel. Which thread of
 * libuv's pool a run is on nobody says, so the kernel is asked what the threads are doing.
 */
import {
  installNoopHandler,
  signalThread,
  threadBlockedSignals,
  threadIds,
  threadSyscall,
} from '@vmm/sys-util'
import { KVM_RUN } from './constants/requests.ts'

/** The signal for kicks where nobody says otherwise: a real-time one that neither glibc, libuv nor V8 uses. */
export const DEFAULT_KICK_SIGNAL = 40

const SYS_IOCTL = 16
const prepared = new Set<number>()

/** Gives the signal a handler, once for the process, so that it neither kills nor is dropped. */
export function prepareKickSignal(signal: number): void {
  if (prepared.has(signal)) return
  installNoopHandler(signal)
  prepared.add(signal)
}

/** The signal mask of a vCPU: everything but the signal is blocked. */
export function kickSignalMask(signal: number): bigint {
  return BigInt.asUintN(64, ~(1n << BigInt(signal - 1)))
}

/** SIGKILL and SIGSTOP, which nobody blocks. */
const UNBLOCKABLE = (1n << 8n) | (1n << 18n)

/**
 * Sends the signal to the thread that waits in KVM_RUN of this descriptor. Where none does, to all that are in KVM_RUN and
 * on a CPU, of which the kernel does not tell the descriptor.
 *
 * A thread with another signal mask than KVM_RUN's is not in the guest: it has yet to look at `immediate_exit`, or it is
 * one of the kernel's own for a VM. Those show up as threads of this process with the system call that made them,
 * KVM_RUN; signals to them would pile up until the kernel takes no more.
 *
 * @param mask the signal mask of runs; undefined where they have the thread's own
 */
export function signalRunners(fd: number, signal: number, mask: bigint | undefined): void {
  const bit = 1n << BigInt(signal - 1)
  const waiting = `${SYS_IOCTL} 0x${fd.toString(16)} 0x${KVM_RUN.toString(16)} `
  const candidates: number[] = []
  for (const tid of threadIds()) {
    const blocked = threadBlockedSignals(tid)
    if (blocked === undefined || (blocked & bit) !== 0n) continue
    if (mask !== undefined && (blocked | UNBLOCKABLE) !== (mask | UNBLOCKABLE)) continue
    const state = threadSyscall(tid)
    if (state.startsWith(waiting)) {
      signalThread(tid, signal)
      return
    }
    if (state.startsWith('running') || state === '') candidates.push(tid)
  }
  for (const tid of candidates) signalThread(tid, signal)
}
