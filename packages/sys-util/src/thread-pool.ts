/**
 * How many threads libuv's pool has. libuv reads UV_THREADPOOL_SIZE when the pool is first used, makes that many threads,
 * and tells nobody. (An ES module as the entry point uses the pool before its first line runs.)
 */
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { EFD_SEMAPHORE } from './eventfd.ts'
import { OwnedFd } from './fd.ts'
import { lastError, libc } from './libc.ts'
import { threadIds, threadSyscall } from './signal.ts'

const VARIABLE = 'UV_THREADPOOL_SIZE'
const DEFAULT_SIZE = 4
const MAX_SIZE = 1024
const EFD_CLOEXEC = 0o2000000
const SYS_READ = 0
/** How long the pool gets to fill. */
const PATIENCE_MS = 200

/** The size that libuv takes from the variable: its `init_threads()`. */
function sizeFrom(value: string | undefined): number {
  if (value === undefined) return DEFAULT_SIZE
  const size = Number.parseInt(value, 10)
  if (Number.isNaN(size) || size === 0) return 1
  // A negative one is a large one to libuv.
  return size < 0 || size > MAX_SIZE ? MAX_SIZE : size
}

function sizeAtStart(): number {
  const entries = readFileSync('/proc/self/environ', 'latin1').split('\0')
  return sizeFrom(entries.find((entry) => entry.startsWith(`${VARIABLE}=`))?.slice(VARIABLE.length + 1))
}

/** The size of the pool: what it certainly is, and what it is if the variable was set early enough. */
export function threadPoolBounds(): { readonly certain: number; readonly possible: number } {
  const start = sizeAtStart()
  const now = sizeFrom(process.env[VARIABLE])
  return { certain: Math.min(start, now), possible: now }
}

/**
 * Counts the pool's free threads, by having each wait for a moment.
 * @param expected how many there should be: no more are counted
 * @returns how many there are; too few where the pool was busy with other things
 * @throws SystemError where there is no descriptor left for it
 */
export async function countPoolThreads(expected: number): Promise<number> {
  const fd: number = libc().eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC)
  if (fd < 0) throw lastError('eventfd')
  const gate = new OwnedFd(fd)
  const { read, write } = libc()
  const sink = new Uint8Array(8)
  const waiting = Array.from({ length: expected }, () => {
    return new Promise<void>((resolve) => read.async(fd, sink, sink.length, () => resolve()))
  })
  try {
    const state = `${SYS_READ} 0x${fd.toString(16)} `
    let count = 0
    for (let ms = 0; ms < PATIENCE_MS && count < expected; ms++) {
      await sleep(1)
      count = threadIds().filter((tid) => threadSyscall(tid).startsWith(state)).length
    }
    return count
  } finally {
    const word = new BigUint64Array([BigInt(expected)])
    if (expected > 0) write(fd, word, word.byteLength)
    await Promise.all(waiting)
    gate.close()
  }
}
