/** Which engine a disk has, and what it is made of. */
import { IoUring } from '@vmm/sys-util'
import type { Backend } from './backend.ts'
import type { DiskFile } from './disk-file.ts'
import { BlockError, reasonOf } from './error.ts'
import { RingBackend } from './ring-backend.ts'
import { ThreadBackend } from './thread-backend.ts'

/**
 * How data gets from and to the file:
 *
 * - `io_uring`: what has to be waited for is waited for by the kernel, which moves it between the medium and guest memory. What
 *   is in the page cache is moved at once, on the event loop's thread: there is no shorter way
 * - `threads`: the same with threads of libuv's pool and buffers, for hosts without io_uring
 * - `sync`: everything is done at once, on the event loop's thread, which waits for the medium
 */
export type DiskEngine = 'io_uring' | 'sync' | 'threads'

/** Options of {@link FileDisk}. */
export interface FileDiskOptions {
  /** Default `auto`: `io_uring`, and `threads` where this process cannot have that. */
  readonly engine?: DiskEngine | 'auto' | undefined
  /** The most threads of libuv's pool at reads and writes at a time, 1 to 64, for the engine `threads`; default 4. */
  readonly threads?: number | undefined
  /** Makes the rings; what it throws means that there are none here. Default `() => new IoUring()`. */
  readonly openRing?: (() => IoUring) | undefined
}

/** The most buffers of 256 KiB beside a ring, for what O_DIRECT does not take as it is. */
const RING_BUFFERS = 16
const THREADS = 4
const THREADS_MAX = 64

/** A choice of engine. */
export interface Engine {
  readonly name: DiskEngine
  readonly backend: Backend
  /** How many buffers there are for what cannot go straight. */
  readonly buffers: number
}

/** @throws BlockError ERR_BLOCK_ENGINE, RangeError */
export function chooseEngine(file: DiskFile, options: FileDiskOptions): Engine {
  const { engine = 'auto', threads = THREADS, openRing = () => new IoUring() } = options
  if (!(Number.isInteger(threads) && threads >= 1 && threads <= THREADS_MAX)) {
    throw new RangeError(`threads of a disk: expected 1 to ${THREADS_MAX}, got ${threads}`)
  }
  if (engine === 'auto' || engine === 'io_uring') {
    try {
      return { name: 'io_uring', backend: new RingBackend(file, openRing()), buffers: RING_BUFFERS }
    } catch (cause) {
      if (engine === 'io_uring') {
        const what = `cannot have the engine io_uring: ${reasonOf(cause)}`
        throw new BlockError('ERR_BLOCK_ENGINE', file.path, what, { cause })
      }
    }
  }
  return { name: engine === 'sync' ? 'sync' : 'threads', backend: new ThreadBackend(file), buffers: threads }
}
