/**
 * A disk of the user's own: any object that can read and write bytes at a position, in its own time.
 *
 * The object never sees guest memory. Data goes through buffers of this disk: what a call was given does not change
 * under its hands, and a call that ends after a reset does not reach the guest any more.
 */
import { DevicesError } from '../../error.ts'
import { BufferPool } from '../buffer-pool.ts'
import type { Disk, DiskOutcome } from './disk.ts'
import {
  DISK_DISCARD,
  DISK_FAILED,
  DISK_FLUSH,
  DISK_OK,
  DISK_PENDING,
  DISK_READ,
  DISK_WRITE,
} from './disk.ts'
import type { BlockRequest } from './request.ts'

/** The most bytes of one call to `read` or `write`. */
export const USER_DISK_CHUNK_BYTES = 131072
/** The most calls to `read` and `write` at a time: a buffer for each is all the memory that a guest can make this take. */
export const USER_DISK_PARALLEL = 64

/**
 * What a user provides. Positions and lengths are multiples of 512 and inside `size`; calls may overlap in time. What they
 * return is awaited. A call that throws, or whose promise is rejected, fails the guest's request (EIO), and is reported as a host failure.
 */
export interface UserDiskSource {
  /** In bytes, a multiple of 512. */
  readonly size: number
  /** Whether there is nothing to write; default: where there is no `write`. */
  readonly readOnly?: boolean | undefined
  /** Fills all of `target`, up to 128 KiB, with what the disk has from `position` (in bytes) on. */
  read(target: Uint8Array, position: number): unknown
  /** Takes all of `source`, up to 128 KiB, which is not its own after it has settled. */
  write?(source: Uint8Array, position: number): unknown
  /** Makes all writes durable that had settled when this was called. Without it they are when they settle. */
  flush?(): unknown
  /** The contents of a range are not needed any more. */
  discard?(position: number, length: number): unknown
  /** A range shall read as zeros. Without it zeros are written. */
  writeZeroes?(position: number, length: number, mayUnmap: boolean): unknown
}

/** Makes a {@link Disk} of a {@link UserDiskSource}. */
export class UserDisk implements Disk {
  readonly #source: UserDiskSource
  readonly #buffers = new BufferPool(USER_DISK_CHUNK_BYTES, USER_DISK_PARALLEL)

  /** @throws DevicesError ERR_DEVICE_OPTION for what has no `read` */
  constructor(source: UserDiskSource) {
    if (typeof source?.read !== 'function') {
      throw new DevicesError(
        'ERR_DEVICE_OPTION',
        'a disk of the user needs a function read(target, position)',
      )
    }
    this.#source = source
  }

  get size(): number {
    return this.#source.size
  }

  get readOnly(): boolean {
    return this.#source.readOnly ?? this.#source.write === undefined
  }

  get canDiscard(): boolean {
    return this.#source.discard !== undefined
  }

  submit(request: BlockRequest): typeof DISK_PENDING {
    void this.#run(request)
    return DISK_PENDING
  }

  async #run(request: BlockRequest): Promise<void> {
    const { sink } = request
    let outcome: DiskOutcome = DISK_OK
    try {
      await this.#perform(request)
    } catch (error) {
      sink.failure(error)
      outcome = DISK_FAILED
    }
    sink.complete(request, outcome)
    sink.flush()
  }

  async #perform(request: BlockRequest): Promise<void> {
    const source = this.#source
    const { operation, position, length } = request
    if (operation === DISK_FLUSH) {
      await source.flush?.()
      return
    }
    if (operation === DISK_DISCARD) {
      await source.discard?.(position, length)
      return
    }
    if (operation === DISK_READ || operation === DISK_WRITE || source.writeZeroes === undefined) {
      await this.#transfer(request)
    } else {
      await source.writeZeroes(position, length, request.mayUnmap)
    }
    if (request.durable) await source.flush?.()
  }

  /** By one buffer, as often as it takes. A reset ends it between two calls. */
  async #transfer(request: BlockRequest): Promise<void> {
    const { operation, position, length } = request
    const taken = this.#buffers.take()
    // In this turn if there is one: the sooner the data is taken, the less a guest can change it.
    const buffer = taken instanceof Uint8Array ? taken : await taken
    try {
      for (let done = 0; done < length && request.isCurrent; ) {
        const chunk = buffer.subarray(0, Math.min(length - done, buffer.length))
        if (operation === DISK_READ) {
          await this.#source.read(chunk, position + done)
          if (request.isCurrent) request.target.write(chunk)
        } else {
          if (operation === DISK_WRITE) request.source.read(chunk)
          else chunk.fill(0)
          await this.#source.write?.(chunk, position + done)
        }
        done += chunk.length
      }
    } finally {
      this.#buffers.give(buffer)
    }
  }
}
