/**
 * How many runs libuv's thread pool can hold. A run holds one of its threads until it ends: one too many would wait for
 * a thread, for as long as the guests like. (So would every use of the file system and of DNS: leave some threads free.)
 */
import { countPoolThreads, threadPoolBounds } from '@vmm/sys-util'
import { KvmError } from './errors.ts'

let bounds: ReturnType<typeof threadPoolBounds> | undefined
/** How many threads there are, as far as is known. */
let known = 0
let counting: Promise<void> | undefined
let held = 0

/**
 * Takes a thread for a run.
 * @returns undefined, or a promise of it where the pool's threads have to be counted first
 * @throws KvmError ERR_KVM_THREADPOOL_EXHAUSTED
 */
export function takeThread(): Promise<void> | undefined {
  bounds ??= threadPoolBounds()
  known = Math.max(known, bounds.certain)
  if (held < known) {
    held++
    return undefined
  }
  if (held >= bounds.possible) throw exhausted()
  // UV_THREADPOOL_SIZE was changed while the process ran: whether that was in time only the pool can tell.
  counting ??= count(bounds.possible).finally(() => {
    counting = undefined
  })
  return counting.then(() => {
    if (held >= known) throw exhausted()
    held++
  })
}

/** Gives it back. */
export function giveThread(): void {
  held--
}

async function count(possible: number): Promise<void> {
  known = Math.max(known, held + (await countPoolThreads(possible - held)))
}

function exhausted(): KvmError {
  return new KvmError(
    'ERR_KVM_THREADPOOL_EXHAUSTED',
    `${held} runs hold all ${known} threads of libuv's pool: have UV_THREADPOOL_SIZE set before Node.js starts`,
  )
}
