/**
 * The engine that is always there: reads and writes by preadv(2) and pwritev(2), at once, on the event loop's thread,
 * straight between the file and guest memory. For a file in the page cache there is no shorter way; where the medium has
 * to be waited for, the event loop waits with it.
 *
 * What is durable when: a completed write is in the host's page cache and outlives this process; a completed flush, or a
 * completed write of a driver without a write cache, has been through fdatasync(2).
 */

import type { BlockRequest, Disk, DiskOutcome, DiskSink } from '@vmm/devices/virtio'
import {
  DISK_DISCARD,
  DISK_FAILED,
  DISK_FLUSH,
  DISK_OK,
  DISK_PENDING,
  DISK_READ,
  DISK_WRITE,
  DISK_WRITE_ZEROES,
} from '@vmm/devices/virtio'
import { FileTransfer, punchHole, SystemError, TO_FILE, TO_MEMORY, zeroRange } from '@vmm/sys-util'
import { DiskFile, type DiskFileOptions } from './disk-file.ts'
import { BlockError, reasonOf } from './error.ts'
import { GroupSync } from './group-sync.ts'

const VERBS: Readonly<Record<number, string>> = {
  [DISK_READ]: 'read',
  [DISK_WRITE]: 'written',
  [DISK_DISCARD]: 'discarded',
  [DISK_WRITE_ZEROES]: 'zeroed',
}

/**
 * A disk in a file. Give it to one `Blk`.
 *
 * What the host cannot do (EIO, ENOSPC) fails the guest's request, and is reported to the device as a {@link BlockError}.
 * So is a read past the end of a file that somebody has truncated; a write there makes it longer again.
 *
 * After a flush that failed, all flushes fail, and all writes that are to be durable: the kernel tells once of data that
 * it has lost.
 */
export class FileDisk implements Disk, Disposable {
  readonly size: number
  readonly readOnly: boolean
  readonly canDiscard: boolean
  readonly #file: DiskFile
  readonly #transfer = new FileTransfer()
  readonly #sync: GroupSync
  #sink: DiskSink | undefined
  #isClosed = false

  /** @param file the disk's own from now on: {@link close} closes it */
  constructor(file: DiskFile) {
    this.#file = file
    this.#sync = new GroupSync(file)
    this.size = file.size
    this.readOnly = file.readOnly
    this.canDiscard = file.canDiscard
  }

  /** Of the file, as it was given. */
  get path(): string {
    return this.#file.path
  }

  /** Whether {@link close} has been called. */
  get closed(): boolean {
    return this.#isClosed
  }

  /** What a device does. */
  attach(sink: DiskSink): void {
    this.#sink = sink
    this.#sync.attach(sink)
  }

  submit(request: BlockRequest): DiskOutcome | typeof DISK_PENDING {
    if (this.#isClosed) return this.#failed(new BlockError('ERR_BLOCK_CLOSED', this.path, 'is closed'))
    const { operation, position, length } = request
    switch (operation) {
      case DISK_READ:
        return this.#moved(
          request,
          this.#transfer.run(this.#file.fd, request.target, TO_MEMORY, position, length),
        )
      case DISK_WRITE:
        return this.#moved(
          request,
          this.#transfer.run(this.#file.fd, request.source, TO_FILE, position, length),
        )
      case DISK_FLUSH:
        return this.#whenDurable(request)
      default:
        return this.#clear(request)
    }
  }

  commit(): void {
    this.#sync.start()
  }

  /**
   * Closes the file and gives up its lock; where a flush is under way, as soon as that has ended. What was not completed
   * by now never is: guest memory may be gone. Wait for `Blk.idle` before, to have it completed. Idempotent.
   */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#sync.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #moved(request: BlockRequest, result: number): DiskOutcome | typeof DISK_PENDING {
    const { operation, position, length } = request
    if (result === length) return request.durable ? this.#whenDurable(request) : DISK_OK
    if (result < 0)
      return this.#refused(request, new SystemError(operation === DISK_READ ? 'preadv' : 'pwritev', -result))
    const what = `ends at byte ${position + result}: it was truncated to less than its ${this.size} bytes`
    return this.#failed(
      new BlockError('ERR_BLOCK_TRUNCATED', this.path, what, { position: position + result, size: length }),
    )
  }

  #clear(request: BlockRequest): DiskOutcome | typeof DISK_PENDING {
    const { operation, position, length, mayUnmap } = request
    try {
      if (operation === DISK_DISCARD || mayUnmap) punchHole(this.#file.fd, position, length)
      else zeroRange(this.#file.fd, position, length)
    } catch (cause) {
      return this.#refused(request, cause)
    }
    return request.durable ? this.#whenDurable(request) : DISK_OK
  }

  #whenDurable(request: BlockRequest): typeof DISK_PENDING {
    this.#sync.add(request)
    return DISK_PENDING
  }

  #refused({ operation, position, length }: BlockRequest, cause: unknown): DiskOutcome {
    const place = `${length} bytes at 0x${position.toString(16)}`
    const what = `cannot be ${VERBS[operation]}, ${place}: ${reasonOf(cause)}`
    return this.#failed(new BlockError('ERR_BLOCK_IO', this.path, what, { position, size: length, cause }))
  }

  #failed(error: BlockError): DiskOutcome {
    this.#sink?.failure(error)
    return DISK_FAILED
  }
}

/**
 * Opens a disk: checks the file, locks it, and puts the engine on it.
 * @param path of a regular file or a block device
 * @throws BlockError, see `BlockErrorCode`
 *
 * @example
 * ```ts
 * const disk = openDisk('root.img')
 * const device = new Blk({ disk, id: 'root' })
 * ```
 */
export function openDisk(path: string, options: DiskFileOptions = {}): FileDisk {
  return new FileDisk(new DiskFile(path, options))
}
