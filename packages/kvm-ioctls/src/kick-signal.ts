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
import { lendSpare, restoreSpare } from './spare-descriptor.ts'

/** The signal for kicks where nobody says otherwise: a real-time one that neither glibc, libuv nor V8 uses. */
export const DEFAULT_KICK_SIGNAL = 40

const SYS_IOCTL = 16
const prepared = new Set<number>()

function taskIds(): number[] {
  try {
    return threadIds()
  } catch (error) {
    if (!lendSpare()) throw error
    return threadIds()
  }
}

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

/** A vCPU whose run is to be ended. */
export interface KickTarget {
  /** The vCPU's descriptor. */
  readonly fd: number
  /** The signal that its runs let through. */
  readonly signal: number
  /** The signal mask of its runs; undefined where they have the thread's own. */
  readonly mask: bigint | undefined
}

const KVM_RUN_SYSCALL = new RegExp(`^${SYS_IOCTL} 0x([0-9a-f]+) 0x${KVM_RUN.toString(16)} `)

/** Whether a thread that blocks these signals may be in a run of the target: it would hear its signal. */
function mayRun(blocked: bigint, { signal, mask }: KickTarget): boolean {
  if ((blocked & (1n << BigInt(signal - 1))) !== 0n) return false
  return mask === undefined || (blocked | UNBLOCKABLE) === (mask | UNBLOCKABLE)
}

/**
 * Sends each target's signal to the thread that waits in KVM_RUN of its descriptor. Where none does, to all that are in
 * KVM_RUN and on a CPU, of which the kernel does not tell the descriptor. However many the targets, the threads are
 * looked at once.
 *
 * A thread with another signal mask than KVM_RUN's is not in the guest: it has yet to look at `immediate_exit`, or it is
 * one of the kernel's own for a VM. Those show up as threads of this process with the system call that made them,
 * KVM_RUN; signals to them would pile up until the kernel takes no more.
 * @returns how many signals were sent
 */
export function signalRunners(targets: Iterable<KickTarget>): number {
  const unseen = new Map<number, KickTarget>()
  for (const target of targets) unseen.set(target.fd, target)
  const onCpu: { readonly tid: number; readonly blocked: bigint }[] = []
  let sent = 0
  for (const tid of taskIds()) {
    const state = threadSyscall(tid)
    const fd = KVM_RUN_SYSCALL.exec(state)?.[1]
    const waiting = fd === undefined ? undefined : unseen.get(Number.parseInt(fd, 16))
    if (waiting === undefined && !state.startsWith('running') && state !== '') continue
    const blocked = threadBlockedSignals(tid)
    if (blocked === undefined) continue
    if (waiting === undefined) onCpu.push({ tid, blocked })
    else if (mayRun(blocked, waiting)) {
      unseen.delete(waiting.fd)
      signalThread(tid, waiting.signal)
      sent++
    }
  }
  for (const { tid, blocked } of onCpu) {
    const signals = [...unseen.values()]
      .filter((target) => mayRun(blocked, target))
      .map(({ signal }) => signal)
    for (const signal of new Set(signals)) {
      signalThread(tid, signal)
      sent++
    }
  }
  restoreSpare()
  return sent
}

const FIRST_RETRY_MS = 1
const LAST_RETRY_MS = 64

/** The waits between signals to a run that has not ended yet, in milliseconds: ever longer. */
export function* retryDelays(): Generator<number, never, undefined> {
  let delay = FIRST_RETRY_MS
  for (;;) {
    yield delay
    delay = Math.min(2 * delay, LAST_RETRY_MS)
  }
}

/** The kicks under way in this thread of JavaScript: all are signalled together, and again until their runs have ended. */
class Kicks {
  readonly #targets = new Set<KickTarget>()
  #delays = retryDelays()
  #timer: NodeJS.Timeout | undefined
  #queued = false

  /** Signals a target soon, together with all others of this turn of the event loop. */
  add(target: KickTarget): void {
    this.#targets.add(target)
    this.#delays = retryDelays()
    if (this.#queued) return
    this.#queued = true
    queueMicrotask(() => {
      this.#queued = false
      this.#signal()
    })
  }

  /** Its run has ended. */
  delete(target: KickTarget): void {
    this.#targets.delete(target)
    if (this.#targets.size === 0) clearTimeout(this.#timer)
  }

  #signal(): void {
    clearTimeout(this.#timer)
    if (this.#targets.size === 0) return
    try {
      signalRunners(this.#targets)
    } catch {
      // No descriptor was left to look at the threads: there may be one next time.
    }
    this.#timer = setTimeout(() => this.#signal(), this.#delays.next().value)
  }
}

/** The kicks of this thread of JavaScript. */
export const kicks: Kicks = /* @__PURE__ */ new Kicks()
