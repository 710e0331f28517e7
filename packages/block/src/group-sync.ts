/**
 * Makes data durable without holding up the event loop: fdatasync(2) by the disk's backend, one at a time, for all
 * requests at once that wait for it. A write counts where it was done before the call began; those that come later
 * share the next one.
 */
import type { BlockRequest, DiskOutcome, DiskSink } from '@vmm/devices/virtio'
import { DISK_FAILED, DISK_OK } from '@vmm/devices/virtio'
import type { Backend } from './backend.ts'
import { BlockError, reasonOf } from './error.ts'

/** Who is told. */
interface SyncSink {
  complete(request: BlockRequest, outcome: DiskOutcome): void
  /** That was all for now. */
  settled(): void
}

export class GroupSync {
  readonly #path: string
  readonly #backend: Backend
  readonly #sink: SyncSink
  #waiting: BlockRequest[] = []
  #syncing: BlockRequest[] = []
  #isBusy = false
  #isClosed = false
  #failure: BlockError | undefined

  /** @param path of the disk, for what is said of failures */
  constructor(path: string, backend: Backend, sink: SyncSink) {
    this.#path = path
    this.#backend = backend
    this.#sink = sink
  }

  /** Takes a request that is to be completed when all that was written by now is durable. {@link start} begins it. */
  add(request: BlockRequest): void {
    this.#waiting.push(request)
  }

  /** Begins, unless there is nothing to do or it has begun. */
  start(): void {
    if (this.#isBusy || this.#isClosed || this.#waiting.length === 0) return
    const requests = this.#waiting
    this.#waiting = this.#syncing
    this.#syncing = requests
    this.#isBusy = true
    this.#backend.datasync(this.#done)
  }

  /** Begins and completes nothing from now on. */
  close(): void {
    this.#isClosed = true
  }

  readonly #done = (error: Error | null): void => {
    this.#isBusy = false
    if (this.#isClosed) return
    if (error !== null) this.#failed(error)
    // The kernel tells of data that it could not write once, and then forgets: a later call that succeeds says nothing about
    // it. So all of them fail from then on; what the disk holds is not known.
    const failure = this.#failure
    if (failure !== undefined) for (const sink of this.#waitingSinks()) sink.failure(failure)
    const outcome = failure === undefined ? DISK_OK : DISK_FAILED
    for (const request of this.#syncing) this.#sink.complete(request, outcome)
    this.#syncing.length = 0
    this.#sink.settled()
    this.start()
  }

  #waitingSinks(): Set<DiskSink> {
    return new Set(this.#syncing.map(({ sink }) => sink))
  }

  #failed(cause: Error): void {
    this.#failure ??= new BlockError('ERR_BLOCK_IO', this.#path, `cannot be flushed: ${reasonOf(cause)}`, {
      cause,
    })
  }
}
