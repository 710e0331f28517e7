/**
 * The host's side of a block device, as the device sees it: for those who move data straight between guest memory and a
 * disk. Most people want `UserDisk`, which is one of these around an object with `read` and `write`.
 */
import type { BlockRequest } from './request.ts'
import { VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP } from './spec.ts'

/** {@link BlockRequest.operation}: disk to guest memory. */
export const DISK_READ = 0
/** Guest memory to disk. */
export const DISK_WRITE = 1
/** Makes all writes that were completed durable. */
export const DISK_FLUSH = 2
/** The range's contents are of no use any more. */
export const DISK_DISCARD = 3
/** The range shall read as zeros. */
export const DISK_WRITE_ZEROES = 4

/** What is to be done with a disk. */
export type DiskOperation = 0 | 1 | 2 | 3 | 4

/** A request was done. */
export const DISK_OK: DiskOutcome = VIRTIO_BLK_S_OK
/** It was not, or not wholly. */
export const DISK_FAILED: DiskOutcome = VIRTIO_BLK_S_IOERR
/** The disk cannot do such a thing. */
export const DISK_UNSUPPORTED: DiskOutcome = VIRTIO_BLK_S_UNSUPP
/** It is under way: {@link DiskSink.complete} of the request's sink tells its end. */
export const DISK_PENDING = -1

/** How a request ended. */
export type DiskOutcome = 0 | 1 | 2

/** Where a disk reports to: the device of a request, `BlockRequest.sink`. */
export interface DiskSink {
  /** A request that was pending has ended. Once each; the request is somebody else's from then on. */
  complete(request: BlockRequest, outcome: DiskOutcome): void
  /** Shows the driver what was completed since the last call. */
  flush(): void
  /** Something failed; the request is completed besides. */
  failure(error: unknown): void
}

/**
 * A disk. Positions and lengths are checked and multiples of 512 bytes when they come here. Several devices may share one: each
 * request says whose it is. Guests that share a disk which they write to have to know of each other.
 */
export interface Disk {
  /** In bytes, a multiple of 512, below 2^53. After a change call `Blk.sizeChanged`. */
  readonly size: number
  /** Nothing is to be written. */
  readonly readOnly: boolean
  /** Whether there is any use in {@link DISK_DISCARD}. */
  readonly canDiscard: boolean

  /**
   * Begins a request, or does it. What this throws fails the request, and is reported.
   * @returns how it ended, or {@link DISK_PENDING}
   */
  submit(request: BlockRequest): DiskOutcome | typeof DISK_PENDING

  /** No more requests come in this turn: for disks that collect them. */
  commit?(): void

  /**
   * The driver takes its memory back: when this returns, no request that was submitted touches guest memory any more. Requests
   * may still be pending on the disk's own side, and may be completed in here. Not needed where data goes through
   * buffers of the disk's own, and {@link BlockRequest.isCurrent} is asked before it does.
   */
  drain?(): void
}
