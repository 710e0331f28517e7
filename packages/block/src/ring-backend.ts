/**
 * Reads, writes, flushes, discards by io_uring: straight between the file and guest memory, no thread of libuv's pool
 * taken, and no thread of this process but the event loop's at work where the file system can do without.
 */
import { DISK_DISCARD, DISK_WRITE_ZEROES } from '@vmm/devices/virtio'
import {
  EPOLLET,
  EPOLLIN,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  type IoUring,
  SystemError,
  type Watch,
  watch,
} from '@vmm/sys-util'
import type { Backend, BackendSink } from './backend.ts'
import type { DiskFile } from './disk-file.ts'
import type { Job } from './job.ts'

/** Of the flush that is under way. Jobs have the numbers from 0 on. */
const SYNC_TOKEN = 0x7fff_ffff
/** EAGAIN, ENOMEM, EBUSY: the kernel lacks memory for now. */
const LACKS: readonly number[] = [11, 12, 16]
/** Until the kernel is asked again for the memory that it did not have: in milliseconds. */
const RETRY_MS = 1

export class RingBackend implements Backend {
  readonly isBuffered = false
  readonly hasRanges = true
  readonly #file: DiskFile
  readonly #ring: IoUring
  readonly #watch: Watch
  readonly #jobs: (Job | undefined)[] = []
  readonly #completion = (token: number, result: number): void => this.#ended(token, result)
  #sink: BackendSink | undefined
  /** Taken and not ended: they keep the process running. */
  #underWay = 0
  #synced: ((error: Error | null) => void) | undefined
  #retry: NodeJS.Timeout | undefined
  #closed: (() => void) | undefined

  /** @param ring its own from now on; closed where this throws */
  constructor(file: DiskFile, ring: IoUring) {
    this.#file = file
    this.#ring = ring
    try {
      this.#watch = watch(ring.eventFd.fd, EPOLLIN | EPOLLET, () => this.#wake())
    } catch (error) {
      ring.close()
      throw error
    }
    this.#watch.unref()
  }

  attach(sink: BackendSink): void {
    this.#sink = sink
  }

  begin(job: Job): boolean {
    const ring = this.#ring
    // A place is left for a flush.
    if (this.#underWay + 1 >= ring.inFlightMax) return false
    if (!this.#take(job)) {
      this.submit()
      if (!this.#take(job)) return false
    }
    this.#jobs[job.index] = job
    this.#took()
    return true
  }

  submit(): void {
    if (this.#ring.queued === 0 || this.#ring.submit() === 0) return
    // The kernel lacks memory. What ends gives some back, if there is anything to end.
    if (this.#ring.inFlight > 0) return
    this.#retry ??= setTimeout(() => {
      this.#retry = undefined
      this.submit()
    }, RETRY_MS)
  }

  wait(): void {
    const errno = this.#ring.submit(1)
    if (errno < 0 && !LACKS.includes(-errno)) throw new SystemError('io_uring_enter', -errno)
    this.#ring.reap(this.#completion)
  }

  datasync(done: (error: Error | null) => void): void {
    this.#synced = done
    while (!this.#ring.fdatasync(this.#file.fd, SYNC_TOKEN)) this.wait()
    this.#took()
    this.submit()
  }

  close(done: () => void): void {
    this.#closed = () => {
      clearTimeout(this.#retry)
      this.#watch.close()
      this.#ring.close()
      done()
    }
    if (this.#underWay === 0) this.#closed()
  }

  #take(job: Job): boolean {
    const { fd } = this.#file
    const ring = this.#ring
    const { index, position, bounce, vector, toMemory } = job
    const { operation, mayUnmap } = job.request
    if (operation === DISK_DISCARD || operation === DISK_WRITE_ZEROES) {
      const isHole = operation === DISK_DISCARD || mayUnmap
      const mode = isHole ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE : FALLOC_FL_ZERO_RANGE
      return ring.fallocate(fd, mode, position, job.left, index)
    }
    if (bounce === undefined && vector.count > 1) {
      return toMemory
        ? ring.readv(fd, vector.address, vector.count, position, index)
        : ring.writev(fd, vector.address, vector.count, position, index)
    }
    const address = bounce?.address ?? vector.pieceAddress(0)
    return toMemory
      ? ring.read(fd, address, job.chunk, position, index)
      : ring.write(fd, address, job.chunk, position, index)
  }

  #took(): void {
    if (this.#underWay === 0) this.#watch.ref()
    this.#underWay += 1
  }

  #wake(): void {
    this.#ring.reap(this.#completion)
    if (this.#closed !== undefined) {
      if (this.#underWay === 0) this.#closed()
      return
    }
    this.#sink?.settled()
  }

  #ended(token: number, result: number): void {
    this.#underWay -= 1
    if (this.#underWay === 0) this.#watch.unref()
    if (token === SYNC_TOKEN) {
      const done = this.#synced
      this.#synced = undefined
      if (this.#closed === undefined) done?.(result < 0 ? new SystemError('fdatasync', -result) : null)
      return
    }
    const job = this.#jobs[token]
    if (job !== undefined) this.#sink?.ended(job, result)
  }
}
