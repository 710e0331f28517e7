/**
 * A disk in a file: what is in the page cache is moved at once, the rest by the engine's backend, straight between the
 * file and guest memory where that is possible.
 *
 * What is durable when: a completed write outlives this process, in the host's page cache or on the disk; a completed flush, or a
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
import { punchHole, SystemError, zeroRange } from '@vmm/sys-util'
import { AtOnce, WOULD_WAIT } from './at-once.ts'
import type { Backend } from './backend.ts'
import { DiskFile, type DiskFileOptions } from './disk-file.ts'
import { chooseEngine, type DiskEngine, type FileDiskOptions } from './engine.ts'
import { BlockError, reasonOf } from './error.ts'
import { GroupSync } from './group-sync.ts'
import { Job } from './job.ts'
import { CANCELED, Scheduler } from './scheduler.ts'

const SECTOR_SIZE = 512
const EFAULT = 14
/** EINTR, EAGAIN. The second is none of a file's that is read or written by waiting, but drivers of disks are known to let it through. */
const PASSING: readonly number[] = [-4, -11]
/** EOPNOTSUPP, EINVAL: no such thing as holes, or zeros, here; or, of block devices, not for a part of a block. */
const CANNOT: readonly number[] = [-95, -22]

const VERBS: Readonly<Record<number, string>> = {
  [DISK_READ]: 'read',
  [DISK_WRITE]: 'written',
  [DISK_DISCARD]: 'discarded',
  [DISK_WRITE_ZEROES]: 'zeroed',
}
const SYSTEM_CALLS: Readonly<Record<number, string>> = {
  [DISK_READ]: 'preadv',
  [DISK_WRITE]: 'pwritev',
  [DISK_DISCARD]: 'fallocate',
  [DISK_WRITE_ZEROES]: 'fallocate',
}

/** What is left of a job to do. */
const GO_ON = -2

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
  /**
   * The least that can be read or written, in bytes: 512, or with O_DIRECT what the file system asks for. Give it to `Blk`, so
   * that the guest knows: `new Blk({ disk, blockSize: disk.blockSize })`.
   */
  readonly blockSize: number
  /** The engine that it has. */
  readonly engine: DiskEngine
  readonly #file: DiskFile
  readonly #atOnce: AtOnce
  readonly #backend: Backend
  readonly #scheduler: Scheduler
  readonly #sync: GroupSync
  readonly #idle: Job[] = []
  #jobCount = 0
  /** Devices that have not been shown what was completed for them. */
  readonly #unshown: DiskSink[] = []
  #isClosed = false

  /**
   * @param file the disk's own from now on: {@link close} closes it
   * @throws BlockError ERR_BLOCK_ENGINE where io_uring was asked for and is not there, RangeError; the file stays the caller's
   */
  constructor(file: DiskFile, options: FileDiskOptions = {}) {
    const { name, backend, buffers } = chooseEngine(file, options)
    this.#file = file
    this.engine = name
    this.#backend = backend
    this.#atOnce = new AtOnce(file, name === 'sync')
    this.#scheduler = new Scheduler(backend, buffers, (job, result) => this.#moved(job, result))
    this.#sync = new GroupSync(file.path, backend, {
      complete: (request, outcome) => this.#complete(request, outcome),
      settled: () => this.#show(),
    })
    this.size = file.size
    this.readOnly = file.readOnly
    this.canDiscard = file.canDiscard
    this.blockSize = file.alignment?.file ?? SECTOR_SIZE
    backend.attach({
      ended: (job, result) => this.#scheduler.ended(job, result),
      settled: () => this.#settled(),
    })
  }

  /** Of the file, as it was given. */
  get path(): string {
    return this.#file.path
  }

  /** Whether {@link close} has been called. */
  get closed(): boolean {
    return this.#isClosed
  }

  submit(request: BlockRequest): DiskOutcome | typeof DISK_PENDING {
    if (this.#isClosed)
      return this.#failed(request, new BlockError('ERR_BLOCK_CLOSED', this.path, 'is closed'))
    const { operation, position, length } = request
    if (operation === DISK_FLUSH) return this.#whenDurable(request)
    if (operation !== DISK_READ && operation !== DISK_WRITE) {
      return this.#backend.hasRanges ? this.#begin(request) : this.#clear(request)
    }
    const block = this.blockSize
    if (position % block !== 0 || length % block !== 0) return this.#misaligned(request)
    return length === 0 ? this.#done(request) : this.#run(request)
  }

  commit(): void {
    if (this.#scheduler.hasWaiting) this.#scheduler.start()
    this.#sync.start()
  }

  /** Waits until no request touches guest memory: for a read or write that the medium is at, that blocks the event loop. */
  drain(): void {
    if (!this.#scheduler.drain()) return
    // Other queues' and other devices' too were completed, and some may go on.
    this.#show()
    if (this.#scheduler.hasWaiting) setImmediate(() => this.#settled())
  }

  /**
   * Waits as {@link drain} does, closes the file, and gives up its lock; where a flush is under way, as soon as that has ended.
   * What was not completed by now never is: guest memory may be gone. Wait for `Blk.idle` before, to have it completed. Idempotent.
   */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#sync.close()
    this.#atOnce.close()
    this.#scheduler.close(() => this.#file.close())
  }

  [Symbol.dispose](): void {
    this.close()
  }

  /** At once as far as it goes; the rest is somebody else's. */
  #run(request: BlockRequest): DiskOutcome | typeof DISK_PENDING {
    const job = this.#take(request)
    let step: number
    do {
      const result = job.fill() ? this.#atOnce.move(job) : -EFAULT
      if (result === WOULD_WAIT) {
        this.#scheduler.add(job)
        return DISK_PENDING
      }
      step = this.#step(job, result)
    } while (step === GO_ON)
    this.#give(job)
    return step as DiskOutcome | typeof DISK_PENDING
  }

  #begin(request: BlockRequest): typeof DISK_PENDING {
    this.#scheduler.add(this.#take(request))
    return DISK_PENDING
  }

  #take(request: BlockRequest): Job {
    const job = this.#idle.pop() ?? new Job(this.#jobCount++, this.#file.alignment)
    job.start(request)
    return job
  }

  #give(job: Job): void {
    job.end()
    this.#idle.push(job)
  }

  /** A transfer of the backend has ended. */
  #moved(job: Job, result: number): void {
    if (this.#isClosed) return
    const { request } = job
    const step = PASSING.includes(result) ? GO_ON : this.#step(job, result)
    if (step === GO_ON && (request.operation > DISK_FLUSH || job.fill())) {
      this.#scheduler.add(job)
      return
    }
    this.#give(job)
    if (step === DISK_PENDING) return
    this.#complete(request, step === GO_ON ? this.#refused(request, EFAULT) : (step as DiskOutcome))
  }

  #complete(request: BlockRequest, outcome: DiskOutcome): void {
    const { sink } = request
    if (!this.#unshown.includes(sink)) this.#unshown.push(sink)
    sink.complete(request, outcome)
  }

  #show(): void {
    // What is shown to one may have it submit more, and complete what is cancelled.
    for (let sink = this.#unshown.pop(); sink !== undefined; sink = this.#unshown.pop()) sink.flush()
  }

  /** The backend has said all for now. */
  #settled(): void {
    if (this.#isClosed) return
    this.#scheduler.start()
    this.#sync.start()
    this.#show()
  }

  /** @returns an outcome, `DISK_PENDING` where something else will complete it, or {@link GO_ON} */
  #step(job: Job, result: number): number {
    const { request, position } = job
    if (result < 0) {
      if (result === CANCELED) return DISK_FAILED
      const isRange = request.operation > DISK_FLUSH
      return isRange && CANNOT.includes(result) ? this.#clear(request) : this.#refused(request, -result)
    }
    if (request.operation > DISK_FLUSH) return this.#done(request)
    const block = this.#file.alignment?.file ?? 1
    // With O_DIRECT a part of a block is the end of the file.
    const moved = result - (result % block)
    job.advance(moved)
    if (job.left === 0) return this.#done(request)
    return moved === result && moved > 0 ? GO_ON : this.#truncated(request, position + result)
  }

  #truncated(request: BlockRequest, position: number): DiskOutcome {
    const what = `ends at byte ${position}: it was truncated to less than its ${this.size} bytes`
    return this.#failed(
      request,
      new BlockError('ERR_BLOCK_TRUNCATED', this.path, what, { position, size: request.length }),
    )
  }

  /** On this thread: where the backend has no such thing, or the file system has not. */
  #clear(request: BlockRequest): DiskOutcome | typeof DISK_PENDING {
    const { operation, position, length, mayUnmap } = request
    try {
      if (operation === DISK_DISCARD || mayUnmap) punchHole(this.#file.fd, position, length)
      else zeroRange(this.#file.fd, position, length)
    } catch (cause) {
      return this.#refused(request, cause)
    }
    return this.#done(request)
  }

  #done(request: BlockRequest): DiskOutcome | typeof DISK_PENDING {
    return request.durable ? this.#whenDurable(request) : DISK_OK
  }

  #whenDurable(request: BlockRequest): typeof DISK_PENDING {
    this.#sync.add(request)
    return DISK_PENDING
  }

  #misaligned(request: BlockRequest): DiskOutcome {
    const { position, length } = request
    const what = `is read and written in blocks of ${this.blockSize} bytes: not ${length} bytes at 0x${position.toString(16)}`
    const place = { position, size: length }
    return this.#failed(request, new BlockError('ERR_BLOCK_ALIGNMENT', this.path, what, place))
  }

  /** @param reason an error, or a positive errno */
  #refused(request: BlockRequest, reason: unknown): DiskOutcome {
    const { operation, position, length } = request
    const cause = typeof reason === 'number' ? new SystemError(SYSTEM_CALLS[operation] ?? '', reason) : reason
    const place = `${length} bytes at 0x${position.toString(16)}`
    const what = `cannot be ${VERBS[operation]}, ${place}: ${reasonOf(cause)}`
    const numbers = { position, size: length, cause }
    return this.#failed(request, new BlockError('ERR_BLOCK_IO', this.path, what, numbers))
  }

  #failed({ sink }: BlockRequest, error: BlockError): DiskOutcome {
    sink.failure(error)
    return DISK_FAILED
  }
}

/**
 * Opens a disk: checks the file, locks it, and puts an engine on it.
 * @param path of a regular file or a block device
 * @throws BlockError, see `BlockErrorCode`
 *
 * @example
 * ```ts
 * const disk = openDisk('root.img')
 * const device = new Blk({ disk, id: 'root', blockSize: disk.blockSize })
 * ```
 */
export function openDisk(path: string, options: DiskFileOptions & FileDiskOptions = {}): FileDisk {
  const file = new DiskFile(path, options)
  try {
    return new FileDisk(file, options)
  } catch (error) {
    file.close()
    throw error
  }
}
