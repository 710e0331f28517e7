/**
 * One request to a disk, taken apart: reused, never allocated anew once there are as many as the driver has in
 * flight. Its fields are copies: the guest cannot change them any more. Its data stays the guest's.
 */
import type { DescriptorChain, Virtqueue } from '@vmm/virtio-queue'
import { DescriptorChain as Chain, Reader, Writer } from '@vmm/virtio-queue'
import type { QueueRunner } from '../queue-runner.ts'
import type { DiskOperation, DiskSink } from './disk.ts'
import { DISK_DISCARD, DISK_OK, DISK_PENDING, DISK_READ } from './disk.ts'
import { VIRTIO_BLK_S_OK } from './spec.ts'

const NO_CHAIN: DescriptorChain = new Chain()

/** What is to be done, where, and with which guest memory. */
export class BlockRequest {
  /** Who waits for its end. */
  readonly sink: DiskSink
  /** Read, write, flush, discard or write zeroes. */
  readonly operation: DiskOperation = DISK_READ
  /** Where on the disk, in bytes. */
  readonly position: number = 0
  /** In bytes: of the data, or of the range to discard or zero; 0 for a flush. */
  readonly length: number = 0
  /** A write or zeroed range must be on stable storage when it is completed: the driver has no write cache. */
  readonly durable: boolean = false
  /** A zeroed range may be deallocated. */
  readonly mayUnmap: boolean = false
  /** A write's data: `length` bytes that are in guest memory. Read each of them once. */
  readonly source: Reader = new Reader()
  /**
   * Where a read's data goes: `length` bytes that are in guest memory. What goes there without the writer's help is
   * noted for dirty tracking when the request is completed.
   */
  readonly target: Writer = new Writer()

  /** @internal Where the status goes. */
  readonly status: Writer = new Writer()
  /** @internal */
  chain: DescriptorChain = NO_CHAIN
  /** @internal */
  queue: Virtqueue | undefined = undefined
  /** @internal */
  runner: QueueRunner | undefined = undefined
  /** @internal Submitted and not completed. */
  pending = false

  /** @internal */
  constructor(sink: DiskSink) {
    this.sink = sink
  }

  /**
   * Whether the driver still waits for this request. After a reset its memory is not to be touched; a disk that works
   * by buffers of its own asks before it copies.
   */
  get isCurrent(): boolean {
    const { queue, runner } = this
    return queue !== undefined && runner?.isCurrent(queue) === true
  }
}

/** What a request counts for in a rate limit, in bytes. A discard moves no data, however long its range is; zeros may have to be written. */
export function countedBytes(request: BlockRequest): number {
  return request.operation === DISK_DISCARD ? 0 : request.length
}

/** A read that failed may have changed memory all the same, and its used length does not tell dirty tracking. */
export function noteFailedRead(request: BlockRequest, outcome: number): void {
  if (request.operation !== DISK_READ || outcome === DISK_OK || outcome === DISK_PENDING) return
  request.chain.markWritten(0, request.length)
}

/**
 * Writes the status.
 * @returns the bytes written, from the first writable one on: without the data those before the status are not
 */
export function finishRequest(request: BlockRequest, status: number): number {
  const { writableBytes } = request.chain
  const hasStatus = request.status.writeUint8(status)
  if (!hasStatus) return 0
  const isWhole = status === VIRTIO_BLK_S_OK || writableBytes === 1
  return isWhole ? writableBytes : 0
}
