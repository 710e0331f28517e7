/**
 * Serves the faults of one memory: asks for the pages that are missing, puts them in their places, and lets everybody go
 * when they cannot be had.
 */
import { setImmediate } from 'node:timers/promises'
import { addressOf, EPOLLIN, UserFaultFd, type UserFaultHandler, type Watch, watch } from '@vmm/sys-util'
import { DirtyBitmap } from '../dirty.ts'
import { hex } from '../errors.ts'
import { type Failure, type HostRange, PAGE_SIZE } from './protocol.ts'
import { PageFailure, type Pages } from './provider-link.ts'

const EAGAIN = -11
const EEXIST = -17

/** How long a memory without pages is held until its owner has to have heard of it. */
const HOLD_MS = 1000

/** What a pager is made from. */
export interface PagerOptions {
  /** A userfaultfd that has the ranges registered: the pager's from now on. */
  readonly fd: number
  readonly ranges: readonly HostRange[]
  /** Bytes that are asked for at once: a power of two. */
  readonly window: number
  /** The thread that is told of failures, by the kernel's number. */
  readonly ownerThread: number
  readonly fill: (address: number, size: number) => Promise<Pages>
  /** A page cannot be had: called once. */
  readonly failed: (failure: Failure) => void
}

interface PagedRange extends HostRange {
  /** Pages that were given, or given back: they are not asked for any more. */
  readonly settled: DirtyBitmap
}

/** Pages that were asked for. */
interface Request {
  readonly range: PagedRange
  /** In bytes from the start of the range. */
  readonly from: number
  readonly to: number
  /** Pages that somebody waits for, likewise. */
  readonly waiting: Set<number>
  ownerWaits: boolean
}

/**
 * The pages of one memory.
 *
 * When a page cannot be had, none is asked for any more. A guest must not go on with a page that is not its own: whoever
 * waits is held until the owner has been told, who stops the vCPUs then. But if the owner himself waits, or does not say in a second
 * that he knows, all are let go, and missing pages are zeros.
 */
export class Pager implements UserFaultHandler {
  readonly #options: PagerOptions
  readonly #faults: UserFaultFd
  /** Undefined where the host could not have it watched. */
  #watch: Watch | undefined
  readonly #ranges: readonly PagedRange[]
  readonly #requests = new Set<Request>()
  #state: 'serving' | 'held' | 'released' = 'serving'
  #timer: NodeJS.Timeout | undefined

  constructor(options: PagerOptions) {
    this.#options = options
    this.#ranges = options.ranges.map((range) => ({
      ...range,
      settled: new DirtyBitmap(range.size, PAGE_SIZE),
    }))
    this.#faults = new UserFaultFd(options.fd)
    try {
      this.#watch = watch(this.#faults.fd, EPOLLIN, () => this.#faults.read(this))
    } catch (error) {
      // Whoever touches a page would wait for ever.
      this.#failOf(error)
      this.release()
    }
  }

  pageFault(address: number, threadId: number): void {
    const isOwner = threadId === this.#options.ownerThread
    if (this.#state !== 'serving') {
      if (isOwner) this.release()
      return
    }
    const range = this.#ranges.find((one) => address >= one.address && address < one.address + one.size)
    if (range === undefined) return
    const offset = address - range.address
    if (range.settled.isDirty(offset)) {
      this.#zero(range, offset).catch((error) => this.#failOf(error))
      return
    }
    let request = [...this.#requests].find((one) => {
      return one.range === range && offset >= one.from && offset < one.to
    })
    if (request === undefined) {
      request = this.#request(range, offset)
      void this.#serve(request)
    }
    request.waiting.add(offset)
    request.ownerWaits ||= isOwner
  }

  /** Pages that were given back are zeros from now on, also those that are on their way. */
  remove(start: number, end: number): void {
    for (const { address, size, settled } of this.#ranges) {
      const from = Math.max(start - address, 0)
      const to = Math.min(end - address, size)
      if (from < to) settled.mark(from, to - from)
    }
  }

  /** There are no pages any more. */
  fail({ message, address, cause }: Failure): void {
    if (this.#state !== 'serving') return
    this.#state = 'held'
    // Plain: an error loses what it has when it is posted.
    this.#options.failed({ message, address, cause })
    if ([...this.#requests].some(({ ownerWaits }) => ownerWaits)) this.release()
    else this.#timer = setTimeout(() => this.release(), HOLD_MS)
  }

  /** After {@link fail}: whoever waits goes on. */
  release(): void {
    if (this.#state !== 'held') return
    this.#state = 'released'
    clearTimeout(this.#timer)
    for (const { address, size } of this.#ranges) this.#faults.unregister(address, size)
  }

  /** Lets go of the memory. Idempotent. */
  close(): void {
    this.#state = 'released'
    clearTimeout(this.#timer)
    this.#watch?.close()
    this.#faults.close()
  }

  /** The missing pages around a page, in its window. */
  #request(range: PagedRange, offset: number): Request {
    const { window } = this.#options
    const into = (range.start + offset) % window
    const first = Math.max(offset - into, 0)
    const last = Math.min(offset - into + window, range.size)
    let from = offset
    let to = offset + PAGE_SIZE
    while (from > first && !range.settled.isDirty(from - PAGE_SIZE)) from -= PAGE_SIZE
    while (to < last && !range.settled.isDirty(to)) to += PAGE_SIZE
    return { range, from, to, waiting: new Set(), ownerWaits: false }
  }

  async #serve(request: Request): Promise<void> {
    const { range, from, to } = request
    this.#requests.add(request)
    try {
      await this.#put(request, await this.#options.fill(range.start + from, to - from))
    } catch (error) {
      this.#failOf(error)
    } finally {
      this.#requests.delete(request)
    }
  }

  #failOf(error: unknown): void {
    if (error instanceof PageFailure) return this.fail(error)
    const cause = error as Error
    this.fail({ message: `the fault cannot be served: ${cause.message}`, cause })
  }

  async #put({ range, from, to, waiting }: Request, pages: Pages): Promise<void> {
    const { settled } = range
    for (let at = from; at < to && this.#state === 'serving'; ) {
      if (settled.isDirty(at)) {
        if (waiting.has(at)) await this.#zero(range, at)
        at += PAGE_SIZE
        continue
      }
      let end = at + PAGE_SIZE
      while (end < to && !settled.isDirty(end)) end += PAGE_SIZE
      const address = range.address + at
      const done =
        pages === 'zeros'
          ? this.#faults.zero(address, end - at)
          : this.#faults.copy(address, Number(addressOf(pages)) + at - from, end - at)
      if (done > 0) {
        settled.mark(at, done)
        at += done
      } else if (done === EEXIST) {
        settled.mark(at, PAGE_SIZE)
      } else {
        await this.#again(range, at, done)
      }
    }
  }

  /** A page of zeros where one is missing. */
  async #zero(range: PagedRange, offset: number): Promise<void> {
    const address = range.address + offset
    while (this.#state === 'serving') {
      const done = this.#faults.zero(address, PAGE_SIZE)
      if (done === EEXIST) this.#faults.wake(address, PAGE_SIZE)
      if (done > 0 || done === EEXIST) return
      await this.#again(range, offset, done)
    }
  }

  /** Has the caller try again where the kernel asks for that: pages are just being given back. */
  async #again(range: PagedRange, offset: number, errno: number): Promise<void> {
    if (errno !== EAGAIN) {
      const address = range.start + offset
      throw new PageFailure({ message: `the host has no page for ${hex(address)}: errno ${-errno}`, address })
    }
    await setImmediate()
  }
}
