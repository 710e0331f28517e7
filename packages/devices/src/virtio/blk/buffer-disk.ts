/** A disk in memory: a test's, a RAM disk, a template. It is as durable as the process. */
import { DevicesError } from '../../error.ts'
import type { Disk, DiskOutcome } from './disk.ts'
import { DISK_FAILED, DISK_FLUSH, DISK_OK, DISK_READ, DISK_WRITE } from './disk.ts'
import type { BlockRequest } from './request.ts'
import { SECTOR_SIZE } from './spec.ts'

/** Options of {@link BufferDisk}. */
export interface BufferDiskOptions {
  /** Default false. */
  readonly readOnly?: boolean | undefined
}

/** A disk whose sectors are the bytes of an array: whoever has that sees every write at once. */
export class BufferDisk implements Disk {
  readonly bytes: Uint8Array
  readonly readOnly: boolean
  readonly canDiscard = true

  /**
   * @param bytes a multiple of 512 of them; used, not copied
   * @throws DevicesError ERR_DEVICE_OPTION
   */
  constructor(bytes: Uint8Array, options: BufferDiskOptions = {}) {
    if (bytes.length === 0 || bytes.length % SECTOR_SIZE !== 0) {
      throw new DevicesError('ERR_DEVICE_OPTION', `a disk is a multiple of 512 bytes, got ${bytes.length}`, {
        size: bytes.length,
      })
    }
    this.bytes = bytes
    this.readOnly = options.readOnly ?? false
  }

  get size(): number {
    return this.bytes.length
  }

  submit(request: BlockRequest): DiskOutcome {
    const { operation, position, length } = request
    switch (operation) {
      case DISK_READ:
        return request.target.write(this.bytes, position, length) === length ? DISK_OK : DISK_FAILED
      case DISK_WRITE:
        return request.source.read(this.bytes, position, length) === length ? DISK_OK : DISK_FAILED
      case DISK_FLUSH:
        return DISK_OK
      default:
        // Discarded sectors may read as anything: zeros give nothing away.
        this.bytes.fill(0, position, position + length)
        return DISK_OK
    }
  }
}
