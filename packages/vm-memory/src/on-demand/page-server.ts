/**
 * Starts the threads that serve pages, and makes memory that they serve.
 */
import { Worker } from 'node:worker_threads'
import { closeFd, currentThreadId, UserFaultFd } from '@vmm/sys-util'
import { exactLog2 } from '../address.ts'
import { MemoryError } from '../errors.ts'
import type { MemoryRange } from '../range.ts'
import { OnDemandMemory, type OnDemandOptions } from './memory.ts'
import {
  type Failure,
  type FaultThreadData,
  type FaultThreadMessage,
  type OwnerMessage,
  PAGE_SIZE,
} from './protocol.ts'

const WINDOW_DEFAULT = 65_536
const WINDOW_MAX = 2 ** 26
const TIMEOUT_DEFAULT_MS = 30_000
/** The longest that timers take. */
const TIMEOUT_MAX_MS = 2 ** 31 - 1
/** The thread of faults answers in less than a millisecond, unless it is dead. */
const ANSWER_MS = 10_000

/** How pages are served. */
export interface PageServerOptions {
  /** For the provider: anything that `postMessage` takes; default undefined. */
  readonly data?: unknown
  /**
   * Bytes that the provider is asked for at once: aligned to this, and the missing pages of it alone. A power of two from 4096
   * to 64 MiB; default 64 KiB. Larger makes fewer faults, smaller moves less.
   */
  readonly window?: number
  /** How long the provider has to open, for each answer, and to close, in milliseconds; default 30000. */
  readonly timeoutMs?: number
}

/** Memory and the descriptor that serves it, which the thread of faults closes. */
interface Served {
  readonly ram: OnDemandMemory
  readonly fd: number
}

/**
 * Serves the pages of any number of memories that have the same contents: clones of one VM.
 *
 * It takes two threads, some 17 MiB and 0.15 s to start, whatever it serves. It does not keep the process running.
 *
 * @example
 * ```ts
 * const pages = await PageServer.start(new URL('./pages.js', import.meta.url), { data: { path: 'memory.bin' } })
 * const ram = pages.map([{ start: 0, size: 512 << 20 }])
 * ram.failed.then((error) => vm.stop(error.message))
 * ram.close() // after the VM
 * await pages.close()
 * ```
 */
export class PageServer implements AsyncDisposable {
  readonly #worker: Worker
  readonly #served = new Map<number, Served>()
  readonly #exited: Promise<void>
  /** Settles when the provider is open, or cannot be opened. */
  readonly #started: Promise<void>
  #start: () => void = () => {}
  #lastId = 0
  #gone: MemoryError | undefined
  /** A 1 once nothing is served any more; undefined until {@link close}. */
  #stopped: Int32Array<SharedArrayBuffer> | undefined

  /**
   * @param module a JavaScript module that has an {@link OpenPageProvider} for its default export; it runs without the options that
   *   Node.js was started with, loaders among them
   * @throws MemoryError ERR_MEMORY_USERFAULTFD where the host does not allow it, ERR_MEMORY_PAGE_PROVIDER for a module that cannot
   *   be loaded or opened, ERR_MEMORY_INVALID_ARGUMENT
   */
  static async start(module: URL, options: PageServerOptions = {}): Promise<PageServer> {
    const { data, window = WINDOW_DEFAULT, timeoutMs = TIMEOUT_DEFAULT_MS } = options
    if (exactLog2(window) === undefined || window < PAGE_SIZE || window > WINDOW_MAX) {
      throw new MemoryError('ERR_MEMORY_INVALID_ARGUMENT', `a window of ${window} bytes`)
    }
    if (!(Number.isInteger(timeoutMs) && timeoutMs > 0 && timeoutMs <= TIMEOUT_MAX_MS)) {
      throw new MemoryError('ERR_MEMORY_INVALID_ARGUMENT', `a timeout of ${timeoutMs} ms`)
    }
    openUserFaultFd().close()
    const provider = { module: module.href, data }
    const server = new PageServer({ provider, window, timeoutMs, ownerThread: currentThreadId() })
    await server.#started
    if (server.#gone === undefined) {
      server.#worker.unref()
      return server
    }
    await server.close()
    throw server.#gone
  }

  private constructor(workerData: FaultThreadData) {
    try {
      this.#worker = new Worker(new URL('./fault-thread.js', import.meta.url), {
        workerData,
        name: 'page faults',
        // Not those of the process: with `--input-type` of `node -e` a worker does not even start.
        execArgv: [],
      })
    } catch (cause) {
      const message = `the page provider's data cannot be posted: ${(cause as Error).message}`
      throw new MemoryError('ERR_MEMORY_INVALID_ARGUMENT', message, { cause })
    }
    this.#worker.on('message', (message: FaultThreadMessage) => this.#take(message))
    this.#worker.on('error', (cause) =>
      this.#fail({ message: `the thread of faults has died: ${cause.message}`, cause }),
    )
    this.#exited = new Promise((resolve) => {
      this.#worker.on('exit', () => {
        this.#fail({ message: 'the thread of faults has ended' })
        process.off('exit', this.#letGo)
        // One that was told to end has closed what it had.
        if (this.#stopped === undefined) this.#letGo()
        this.#served.clear()
        resolve()
      })
    })
    this.#started = new Promise((resolve) => {
      this.#start = resolve
    })
    // A process that ends waits for the threads of libuv's pool: they must not wait for pages that nobody gives any more.
    process.on('exit', this.#letGo)
  }

  /**
   * Memory whose pages are served, all of them missing at first.
   * @throws MemoryError ERR_MEMORY_PAGE_PROVIDER where the provider has died or this was closed, ERR_MEMORY_USERFAULTFD,
   *   ERR_MEMORY_ALLOCATION, and what `GuestMemory.fromRanges` throws
   */
  map(ranges: readonly MemoryRange[], options: OnDemandOptions = {}): OnDemandMemory {
    if (this.#stopped !== undefined)
      throw new MemoryError('ERR_MEMORY_PAGE_PROVIDER', 'the page server is closed')
    if (this.#gone !== undefined) throw this.#gone
    const ram = new OnDemandMemory(ranges, options)
    try {
      const faults = openUserFaultFd()
      try {
        const pieces = ram.hostRanges()
        for (const { address, size } of pieces) faults.register(address, size)
        const id = ++this.#lastId
        const fd = faults.release()
        this.#served.set(id, { ram, fd })
        ram.servedUntil(() => this.#forget(id))
        this.#tell({ kind: 'serve', id, fd, ranges: pieces })
        return ram
      } finally {
        faults.close()
      }
    } catch (error) {
      ram.close()
      throw asMemoryError(error)
    }
  }

  /**
   * Has the provider close itself, and ends the threads. Close the memory first: what is missing of any that is still there
   * is zeros from now on. Idempotent.
   */
  async close(): Promise<void> {
    if (this.#stopped === undefined) {
      this.#stopped = flag()
      this.#worker.ref()
      this.#tell({ kind: 'close', done: this.#stopped })
    }
    await this.#exited
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /** Whoever waits for a page goes on. Once, and not while the thread of faults may close descriptors itself. */
  readonly #letGo = (): void => {
    for (const { fd } of this.#served.values()) closeFd(fd)
  }

  #tell(message: OwnerMessage): void {
    this.#worker.postMessage(message)
  }

  #take(message: FaultThreadMessage): void {
    if (message.kind === 'ready') return this.#start()
    if (message.kind === 'gone') return this.#fail(message.failure)
    this.#served.get(message.id)?.ram.fail(memoryError(message.failure))
    // After those who wait for `failed` have stopped their VM: then it cannot go on with pages of zeros.
    setImmediate(() => this.#tell({ kind: 'release', id: message.id }))
  }

  #fail(failure: Failure): void {
    this.#gone ??= memoryError(failure)
    this.#start()
    if (this.#stopped !== undefined) return
    for (const { ram } of this.#served.values()) ram.fail(this.#gone)
  }

  /** Waits, which takes some 50 microseconds, until the thread of faults has let go of the memory. */
  #forget(id: number): void {
    const fd = this.#served.get(id)?.fd
    if (fd === undefined) return
    this.#served.delete(id)
    const done = this.#stopped ?? flag()
    if (done !== this.#stopped) this.#tell({ kind: 'forget', id, done })
    if (Atomics.wait(done, 0, 0, ANSWER_MS) === 'timed-out') closeFd(fd)
  }
}

/** To be set by another thread, and waited for. */
function flag(): Int32Array<SharedArrayBuffer> {
  return new Int32Array(new SharedArrayBuffer(4))
}

function memoryError({ message, address, cause }: Failure): MemoryError {
  const details = { ...(address !== undefined && { address }), ...(cause !== undefined && { cause }) }
  return new MemoryError('ERR_MEMORY_PAGE_PROVIDER', message, details)
}

function asMemoryError(error: unknown): MemoryError {
  if (error instanceof MemoryError) return error
  return new MemoryError(
    'ERR_MEMORY_USERFAULTFD',
    `memory on demand cannot be made: ${(error as Error).message}`,
    {
      cause: error,
    },
  )
}

/** @throws MemoryError ERR_MEMORY_USERFAULTFD */
function openUserFaultFd(): UserFaultFd {
  try {
    return new UserFaultFd()
  } catch (cause) {
    const message = `this host does not allow memory on demand: ${(cause as Error).message}`
    throw new MemoryError('ERR_MEMORY_USERFAULTFD', message, { cause })
  }
}
