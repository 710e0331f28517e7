/**
 * How many runs libuv's thread pool can hold. A run holds one of its threads until it ends: one too many would wait for
 * a thread, for as long as the guests like. (So would every use of the file system and of DNS: leave some threads free.)
 */
import { countPoolThreads, threadPoolBounds } from '@vmm/sys-util'
import { KvmError } from './errors.ts'

/** How many threads there are; undefined until the first run. */
let size: number | undefined
let counting: Promise<void> | undefined
let held = 0

/**
 * Takes a thread for a run.
 * @returns undefined, or a promise of it where the pool's threads have to be counted first
 * @throws KvmError ERR_KVM_THREADPOOL_EXHAUSTED
 */
export function takeThread(): Promise<void> | undefined {
  if (size === undefined) {
    const { certain, possible } = threadPoolBounds()
    // UV_THREADPOOL_SIZE was changed while the process ran: whether that was in time only the pool can tell, and it
    // cannot once runs are under way, which come and go.
    if (certain < possible) {
      counting ??= count(certain, possible)
      return counting.then(take)
    }
    size = certain
  }
  take()
  return undefined
}

/** Gives it back. */
export function giveThread(): void {
  held--
}

async function count(certain: number, possible: number): Promise<void> {
  size = Math.max(certain, await countPoolThreads(possible))
}

function take(): void {
  if (held >= (size ?? 0)) {
    throw new KvmError(
      'ERR_KVM_THREADPOOL_EXHAUSTED',
      `${held} runs hold all ${size} threads of libuv's pool: have UV_THREADPOOL_SIZE set before Node.js starts`,
    )
  }
  held++
}
