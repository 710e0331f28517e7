/**
 * One request to a disk, taken apart: reused, never allocated anew once there are as many as the driver has in
 * flight. Its fields are copies: the guest cannot change them any more. Its data stays the guest's.
 */
import type { DescriptorChain, Virtqueue } from '@vmm/virtio-queue'
import { DescriptorChain as Chain, Reader, Writer } from '@vmm/virtio-queue'
import type { QueueRunner } from '../queue-runner.ts'
import type { DiskOperation } from './disk.ts'
import { DISK_READ } from './disk.ts'

const NO_CHAIN: DescriptorChain = new Chain()

/** What is to be done, where, and with which guest memory. */
export class BlockRequest {
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

  /**
   * Whether the driver still waits for this request. After a reset its memory is not to be touched; a disk that works
   * by buffers of its own asks before it copies.
   */
  get isCurrent(): boolean {
    const { queue, runner } = this
    return queue !== undefined && runner?.isCurrent(queue) === true
  }
}
