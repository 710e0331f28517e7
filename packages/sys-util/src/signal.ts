/**
 * Signals to single threads of this process, as kicks need them. JavaScript cannot be a handler: the one that
 * is installed is a function of libc that does nothing of note.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { basename } from 'node:path'
import { SystemError } from './errors.ts'
import { lastError, libc } from './libc.ts'

/** The first and last real-time signals that glibc leaves to programs. */
export const SIGRTMIN = 34
export const SIGRTMAX = 64

const SIG_ERR = 0xffff_ffff_ffff_ffffn
const EINVAL = 22
const ESRCH = -3

function checkNumber(syscall: string, number: number): void {
  if (Number.isInteger(number) && number >= SIGRTMIN && number <= SIGRTMAX) return
  throw new SystemError(syscall, EINVAL, `signal ${number}, expected ${SIGRTMIN} to ${SIGRTMAX}`)
}

/**
 * Gives a real-time signal a handler without effect: system calls of threads that get it end with EINTR (or go
 * on by SA_RESTART), and nothing else happens. With SIG_IGN the kernel would drop it instead.
 * @param number {@link SIGRTMIN} to {@link SIGRTMAX}
 * @throws SystemError EINVAL for another number
 */
export function installNoopHandler(number: number): void {
  checkNumber('signal', number)
  const { lib, signal } = libc()
  // abs() takes the signal's number and returns: async-signal-safe, in every libc.
  if (BigInt(signal(number, lib.symbol('abs'))) === SIG_ERR) throw lastError('signal', `signal ${number}`)
}

/** The ids of this process's threads; the first thread has the process's own. */
export function threadIds(): number[] {
  return readdirSync('/proc/self/task').map(Number)
}

/** The id of the thread that calls: the process's own in the first one. */
export function currentThreadId(): number {
  return Number(basename(readlinkSync('/proc/thread-self')))
}

/**
 * What a thread is doing, from /proc/self/task/TID/syscall: `running`, a system call's number and arguments as
 * the kernel prints them, or the empty string for a thread that has gone or may not be looked at.
 */
export function threadSyscall(tid: number): string {
  try {
    return readFileSync(`/proc/self/task/${tid}/syscall`, 'latin1')
  } catch {
    return ''
  }
}

/**
 * The signals that a thread blocks now, bit n-1 for signal n; undefined for a thread that has gone. SIGKILL and SIGSTOP
 * are never among them.
 */
export function threadBlockedSignals(tid: number): bigint | undefined {
  try {
    const [, mask] =
      /^SigBlk:\s*([0-9a-f]+)$/m.exec(readFileSync(`/proc/self/task/${tid}/status`, 'latin1')) ?? []
    return mask === undefined ? undefined : BigInt(`0x${mask}`)
  } catch {
    return undefined
  }
}

/**
 * Sends a real-time signal to one thread of this process. Without a handler it would end the process: see
 * {@link installNoopHandler}.
 * @param number {@link SIGRTMIN} to {@link SIGRTMAX}
 * @returns false where the thread has gone
 * @throws SystemError EINVAL for another number
 */
export function signalThread(tid: number, number: number): boolean {
  checkNumber('tgkill', number)
  if (libc().tgkill(process.pid, tid, number) === 0) return true
  const error = lastError('tgkill', `thread ${tid}, signal ${number}`)
  if (error.errno === ESRCH) return false
  throw error
}
