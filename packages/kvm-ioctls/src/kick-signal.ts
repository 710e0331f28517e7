/**
 * Signals to the threads that are in KVM_RUN. Each vCPU has a signal mask for the time of its runs that blocks all but one
 * real-time signal: that one ends them with EINTR, from inside the guest as from a wait in the kernel. Which thread of
 * libuv's pool a run is on nobody says, so the kernel is asked what the threads are doing.
 */
import { isMainThread } from 'node:worker_threads'
import { installNoopHandler, signalThread, threadIds, threadSyscall } from '@vmm/sys-util'
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

/**
 * Sends the signal to the threads that may be in KVM_RUN of this descriptor: those that wait in it, and those that
 * are on a CPU, of which the kernel tells no more. To all others it would do nothing but end a system call early.
 */
export function signalRunners(fd: number, signal: number): void {
  const waiting = `${SYS_IOCTL} 0x${fd.toString(16)} 0x${KVM_RUN.toString(16)} `
  for (const tid of threadIds()) {
    // The main thread is busy with this function.
    if (isMainThread && tid === process.pid) continue
    const state = threadSyscall(tid)
    if (state.startsWith(waiting) || state.startsWith('running') || state === '') signalThread(tid, signal)
  }
}
