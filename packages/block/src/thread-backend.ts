/**
 * Reads and writes on threads of libuv's pool, by node:fs: what is there where io_uring is not. A thread that is at it cannot be
 * called back, so data goes through buffers, and reaches guest memory, or leaves it, on the event loop's thread.
 */
import { fdatasync, read, write } from 'node:fs'
import type { Backend, BackendSink } from './backend.ts'
import type { DiskFile } from './disk-file.ts'
import type { Job } from './job.ts'

const EIO = 5

export class ThreadBackend implements Backend {
  readonly isBuffered = true
  readonly hasRanges = false
  readonly #file: DiskFile
  #sink: BackendSink | undefined
  #underWay = 0
  #closed: (() => void) | undefined

  constructor(file: DiskFile) {
    this.#file = file
  }

  attach(sink: BackendSink): void {
    this.#sink = sink
  }

  begin(job: Job): boolean {
    const { bounce, chunk, position } = job
    if (bounce === undefined) return false
    this.#underWay += 1
    const done = (error: NodeJS.ErrnoException | null, bytes: number): void => {
      if (this.#ended()) return
      this.#sink?.ended(job, error === null ? bytes : (error.errno ?? -EIO))
      this.#sink?.settled()
    }
    if (job.toMemory) read(this.#file.fd, bounce.bytes, 0, chunk, position, done)
    else write(this.#file.fd, bounce.bytes, 0, chunk, position, done)
    return true
  }

  submit(): void {}

  wait(): void {}

  datasync(done: (error: Error | null) => void): void {
    this.#underWay += 1
    fdatasync(this.#file.fd, (error) => {
      if (!this.#ended()) done(error)
    })
  }

  close(done: () => void): void {
    this.#closed = done
    if (this.#underWay === 0) done()
  }

  /** Whether nobody is to be told of it. */
  #ended(): boolean {
    this.#underWay -= 1
    const closed = this.#closed
    if (closed !== undefined && this.#underWay === 0) closed()
    return closed !== undefined
  }
}
