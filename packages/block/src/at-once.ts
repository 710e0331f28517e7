/**
 * What can be done without waiting for the medium, and is done on the event loop's thread: for data in the page cache
 * there is no shorter way. Where waiting is what was asked for (the sync engine), everything is done here.
 */
import { statfsSync } from 'node:fs'
import { preadInto, pwriteFrom, RWF_NOWAIT } from '@vmm/sys-util'
import { BouncePool } from './bounce.ts'
import type { DiskFile } from './disk-file.ts'
import type { Job } from './job.ts'
import { Patience } from './patience.ts'

const EINTR = 4
const EAGAIN = 11
const EOPNOTSUPP = 95

/** How to go about reads, or writes: without waiting, waiting, waiting but not for long, or not at all. */
type Mode = 'nowait' | 'wait' | 'patient' | 'never'

/**
 * How to read from file systems that have no RWF_NOWAIT, by their numbers in <linux/magic.h>. tmpfs, ramfs and hugetlbfs have nothing
 * to wait for. overlayfs is that of containers, over a local disk. What is behind others may be far away.
 */
const READ_MODES: ReadonlyMap<number, Mode> = new Map([
  [0x0102_1994, 'wait'],
  [0x8584_58f6, 'wait'],
  [0x9584_58f6, 'wait'],
  [0x794c_7630, 'patient'],
])

/** What {@link AtOnce.move} returns where others have to do it. */
export const WOULD_WAIT: number = -EAGAIN

export class AtOnce {
  readonly #file: DiskFile
  readonly #patience = new Patience()
  readonly #bounces = new BouncePool(1)
  #reads: Mode
  #writes: Mode

  /** @param mayWait whether to wait for the medium: the sync engine */
  constructor(file: DiskFile, mayWait: boolean) {
    this.#file = file
    const mode = mayWait ? 'wait' : file.alignment === undefined ? 'nowait' : 'never'
    this.#reads = mode
    this.#writes = mode
  }

  /**
   * Moves what the job's vector has, or some of it.
   * @returns how many bytes were moved, 0 at the end of the file; the negative errno; or {@link WOULD_WAIT}
   */
  move(job: Job): number {
    const mode = job.toMemory ? this.#reads : this.#writes
    if (mode === 'never') return WOULD_WAIT
    if (mode === 'patient' && !this.#patience.start()) return WOULD_WAIT
    const { fd } = this.#file
    const flags = mode === 'nowait' ? RWF_NOWAIT : 0
    let result: number
    do {
      result = job.isAligned ? transfer(fd, job, flags) : this.#bounced(fd, job)
    } while (result === -EINTR)
    if (mode === 'patient') this.#patience.end()
    // Linux 5.9 and 5.10 say so of what is not in the page cache, too: readv(2), bugs. Whoever waits knows.
    if (result === 0 && mode === 'nowait') return WOULD_WAIT
    if (result !== -EOPNOTSUPP || mode !== 'nowait') return result
    this.#giveUpNowait(job.toMemory)
    return this.move(job)
  }

  close(): void {
    this.#bounces.close()
  }

  /** The file system cannot tell whether it has to wait. */
  #giveUpNowait(toMemory: boolean): void {
    const mode = READ_MODES.get(statfsSync(`/proc/self/fd/${this.#file.fd}`).type)
    if (toMemory) this.#reads = mode ?? 'never'
    else this.#writes = mode ?? 'patient'
  }

  #bounced(fd: number, job: Job): number {
    const bounce = this.#bounces.take()
    if (bounce === undefined) return WOULD_WAIT
    job.bounce = bounce
    const length = job.chunk
    job.bounce = undefined
    let result: number
    if (job.toMemory) {
      result = preadInto(fd, bounce.address, length, job.position)
      if (result > 0) job.vector.copyFrom(bounce.address, result)
    } else {
      job.vector.copyTo(bounce.address, length)
      result = pwriteFrom(fd, bounce.address, length, job.position)
    }
    this.#bounces.give(bounce)
    return result
  }
}

function transfer(fd: number, { vector, toMemory, position }: Job, flags: number): number {
  if (flags === 0 && vector.count === 1) {
    const address = vector.pieceAddress(0)
    const { byteLength } = vector
    return toMemory
      ? preadInto(fd, address, byteLength, position)
      : pwriteFrom(fd, address, byteLength, position)
  }
  return toMemory ? vector.readFrom(fd, position, flags) : vector.writeTo(fd, position, flags)
}
