/** What a guest has open: a file or a directory, each with a descriptor of its own. */
import { fdatasync, fsync } from 'node:fs'
import { closeFd } from '@vmm/sys-util'

/** An open descriptor that is closed when it was released and nothing works on it any more. */
export class Handle {
  readonly fd: number
  readonly isWritable: boolean
  /** Of a directory: where the descriptor stands. */
  positionLow = 0
  positionHigh = 0
  #isReleased = false
  #syncs = 0

  constructor(fd: number, isWritable: boolean) {
    this.fd = fd
    this.isWritable = isWritable
  }

  /** Makes what was written durable, on a thread of libuv's pool. @returns 0 or a negative errno */
  sync(dataOnly: boolean): Promise<number> {
    this.#syncs += 1
    return new Promise((resolve) => {
      const done = (error: NodeJS.ErrnoException | null) => {
        this.#syncs -= 1
        this.#closeIfUnused()
        resolve(error === null ? 0 : (error.errno ?? -1))
      }
      if (dataOnly) fdatasync(this.fd, done)
      else fsync(this.fd, done)
    })
  }

  /** Idempotent. */
  release(): void {
    if (this.#isReleased) return
    this.#isReleased = true
    this.#closeIfUnused()
  }

  #closeIfUnused(): void {
    if (this.#isReleased && this.#syncs === 0) closeFd(this.fd)
  }
}
