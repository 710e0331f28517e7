/** What is saved of a block device, beside its queues. */
import { StateChecker } from '../../state.ts'
import type { RateLimiterState } from '../rate-limit.ts'
import type { Disk } from './disk.ts'

/** What `Blk.state` returns: plain data that survives JSON. */
export interface BlkState {
  readonly version: 1
  /** The driver's choice of a write cache. */
  readonly writeback: boolean
  /** Of the disk, in bytes: a guest must find the same one, or a larger one. */
  readonly size: number
  /** What is left of its limits; null without any, and where the limiter is shared and its owner's to save. */
  readonly rateLimit: RateLimiterState | null
}

/**
 * Checks all but the rate limit.
 * @throws DevicesError ERR_DEVICE_STATE
 */
export function checkBlkState(state: unknown, disk: Disk): BlkState {
  const check = new StateChecker('virtio-blk', state as object)
  check.version(1)
  const size = check.integer('size', 0, Number.MAX_SAFE_INTEGER)
  if (size > disk.size) check.refuse('size', `at most the ${disk.size} bytes that the disk has now`)
  const writeback = check.boolean('writeback')
  if (writeback && disk.readOnly) check.refuse('writeback', 'false for a disk that is read-only')
  return { version: 1, writeback, size, rateLimit: (state as BlkState).rateLimit }
}
