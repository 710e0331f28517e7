/** What a guest has open: a file or a directory, each with a descriptor of its own. */
import { fdatasync, fsync } from 'node:fs'
import { FS_ERRNO } from '@vmm/devices/virtio'
import { closeFd } from '@vmm/sys-util'
import type { Node } from './node.ts'

const CLOSED = -1

/** An open descriptor that is closed when it was released and nothing works on it any more. */
export class Handle {
  readonly isWritable: boolean
  /** Of a directory: where the descriptor stands. */
  positionLow = 0
  positionHigh = 0
  readonly #fd: number
  readonly #node: Node
  #isReleased = false
  #syncs = 0

  /**
   * @param fd its own from now on
   * @param node what is open: it is reached by this descriptor, too, from now on
   */
  constructor(fd: number, node: Node, isWritable: boolean) {
    this.#fd = fd
    this.#node = node
    this.isWritable = isWritable
    node.opened(this)
  }

  /** -1 when it was released: the number may be somebody else's by then. */
  get fd(): number {
    return this.#isReleased ? CLOSED : this.#fd
  }

  /** Makes what was written durable, on a thread of libuv's pool. @returns 0 or a negative errno */
  sync(dataOnly: boolean): number | Promise<number> {
    if (this.#isReleased) return -FS_ERRNO.EBADF
    this.#syncs += 1
    return new Promise((resolve) => {
      const done = (error: NodeJS.ErrnoException | null) => {
        this.#syncs -= 1
        this.#closeIfUnused()
        resolve(error === null ? 0 : (error.errno ?? -1))
      }
      if (dataOnly) fdatasync(this.#fd, done)
      else fsync(this.#fd, done)
    })
  }

  /** Idempotent. */
  release(): void {
    if (this.#isReleased) return
    this.#isReleased = true
    this.#node.released(this)
    this.#closeIfUnused()
  }

  #closeIfUnused(): void {
    if (this.#isReleased && this.#syncs === 0) closeFd(this.#fd)
  }
}
