/**
 * Makes data durable without holding up the event loop: fdatasync(2) on a thread of libuv's pool, one at a time, for all
 * requests at once that wait for it. A write counts where it was done before the call began; those that come later
 * share the next one.
 */
import { fdatasync } from 'node:fs'
import type { BlockRequest, DiskSink } from '@vmm/devices/virtio'
import { DISK_FAILED, DISK_OK } from '@vmm/devices/virtio'
import type { DiskFile } from './disk-file.ts'
import { BlockError, reasonOf } from './error.ts'

export class GroupSync {
  readonly #file: DiskFile
  #sink: DiskSink | undefined
  #waiting: BlockRequest[] = []
  #syncing: BlockRequest[] = []
  #isBusy = false
  #isClosed = false
  #failure: BlockError | undefined

  /** @param file closed by {@link close} */
  constructor(file: DiskFile) {
    this.#file = file
  }

  /** Where requests are completed. */
  attach(sink: DiskSink): void {
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
    fdatasync(this.#file.fd, this.#done)
  }

  /** Completes nothing from now on, and closes the file: when what is under way has ended, since that uses its number. */
  close(): void {
    this.#isClosed = true
    if (!this.#isBusy) this.#file.close()
  }

  readonly #done = (error: Error | null): void => {
    this.#isBusy = false
    if (this.#isClosed) {
      this.#file.close()
      return
    }
    if (error !== null) this.#failed(error)
    // The kernel tells of data that it could not write once, and then forgets: a later call that succeeds says nothing about
    // it. So all of them fail from then on; what the disk holds is not known.
    if (this.#failure !== undefined) this.#sink?.failure(this.#failure)
    const outcome = this.#failure === undefined ? DISK_OK : DISK_FAILED
    for (const request of this.#syncing) this.#sink?.complete(request, outcome)
    this.#syncing.length = 0
    this.#sink?.flush()
    this.start()
  }

  #failed(cause: Error): void {
    const { path } = this.#file
    this.#failure ??= new BlockError('ERR_BLOCK_IO', path, `cannot be flushed: ${reasonOf(cause)}`, { cause })
  }
}
