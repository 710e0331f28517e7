/** The block device's options, and the configuration space and features that come of them (virtio 1.2, 5.2.3 to 5.2.5). */
import { DevicesError } from '../../error.ts'
import type { RateLimiter, RateLimiterOptions } from '../rate-limiter.ts'
import { featureBit } from '../spec.ts'
import type { Disk } from './disk.ts'
import * as spec from './spec.ts'

/** `size_max`, in bytes. With `seg_max` it bounds what one request can ask of the host. */
const SIZE_MAX_BYTES = 262144
/** `seg_max` of queues that have as many descriptors, and two more. */
const SEG_MAX = 254
/** The most data of a request that keeps to both. In bytes. */
export const REQUEST_BYTES_MAX: number = SIZE_MAX_BYTES * SEG_MAX
/** The longest range to discard: the disk does it in one call. */
const MAX_DISCARD_SECTORS = 2 ** 17
/** The longest range to zero: it may have to be written. */
const MAX_WRITE_ZEROES_SECTORS = 2 ** 13
/** `seg_max` is this less than the queue: header and status take a descriptor each. */
const DESCRIPTORS_BESIDE_DATA = 2

/** Options of {@link Blk}. */
export interface BlkOptions {
  /** What moves the data: a `FileDisk` of `@vmm/block`, a `UserDisk`, a `BufferDisk`. For this device alone, which does not close it. */
  readonly disk: Disk
  /** What the guest sees as serial number: up to 20 printable ASCII characters; default none. */
  readonly id?: string | undefined
  /** Queues, 1 to 64: Linux uses one for each CPU, as far as there are; default 1. */
  readonly queues?: number | undefined
  /**
   * Entries of each: a power of two from 4 to 32768; default 256. A guest can make a queue take 20 bytes of the host's memory
   * times the square of it: 1.6 MiB for 256, 315 MiB for 4096.
   */
  readonly queueSize?: number | undefined
  /**
   * Whether the disk begins with a write cache, that the guest flushes, or completes each write when it is durable. The
   * guest may choose otherwise (`/sys/block/vda/cache_type`). Default true.
   */
  readonly writeback?: boolean | undefined
  /** Logical block size in bytes: a power of two from 512 to 65536; default 512. */
  readonly blockSize?: number | undefined
  /** Physical block size in bytes: a power of two, at least the logical one, which is the default. */
  readonly physicalBlockSize?: number | undefined
  /** The size that the disk is fastest with, in bytes, a multiple of the block size; default 0: not known. */
  readonly optimalIoSize?: number | undefined
  /**
   * Limits on bytes read, written or zeroed, and on requests of every kind, a flush and a discard among them; a limiter can be
   * shared with other devices. What has to wait stays in its queue. Default none.
   */
  readonly rateLimit?: RateLimiterOptions | RateLimiter | undefined
}

/** Options with their defaults, checked. */
export interface BlkSettings {
  readonly queues: number
  readonly queueSize: number
  readonly writeback: boolean
  readonly blockSize: number
  readonly physicalBlockSize: number
  readonly optimalIoSize: number
  /** 20 bytes. */
  readonly id: Uint8Array
}

/** @throws DevicesError ERR_DEVICE_OPTION */
export function blkSettings(options: BlkOptions): BlkSettings {
  if (typeof options?.disk?.submit !== 'function')
    refuse('there is no disk in the options: new Blk({ disk })')
  const { id = '', queues = 1, queueSize = 256, writeback = true, blockSize = spec.SECTOR_SIZE } = options
  const { physicalBlockSize = blockSize, optimalIoSize = 0 } = options
  if (!/^[\x20-\x7e]{0,20}$/.test(id)) refuse(`an id is up to 20 ASCII characters, got ${JSON.stringify(id)}`)
  if (!(Number.isInteger(queues) && queues >= 1 && queues <= 64)) refuse(`1 to 64 queues, got ${queues}`)
  if (!(isPowerOfTwo(queueSize) && queueSize >= 4 && queueSize <= 32768)) {
    refuse(`a queue has a power of two of entries, 4 to 32768, got ${queueSize}`)
  }
  if (!(isPowerOfTwo(blockSize) && blockSize >= spec.SECTOR_SIZE && blockSize <= 65536)) {
    refuse(`a block is a power of two of bytes, 512 to 65536, got ${blockSize}`)
  }
  const blocks = physicalBlockSize / blockSize
  if (!(isPowerOfTwo(blocks) && blocks <= 32768)) {
    refuse(`a physical block is 1 to 32768 blocks, a power of two, got ${physicalBlockSize} bytes`)
  }
  if (!(optimalIoSize >= 0 && Number.isInteger(optimalIoSize / blockSize) && optimalIoSize < 2 ** 32)) {
    refuse(`the optimal size of requests is a multiple of the block size, got ${optimalIoSize}`)
  }
  const bytes = new Uint8Array(spec.VIRTIO_BLK_ID_BYTES)
  for (let i = 0; i < id.length; i += 1) bytes[i] = id.charCodeAt(i)
  return { queues, queueSize, writeback, blockSize, physicalBlockSize, optimalIoSize, id: bytes }
}

/** @throws DevicesError ERR_DEVICE_OPTION for a disk of a size that no disk can have */
export function checkDiskSize(size: number, blockSize: number): void {
  if (Number.isSafeInteger(size) && size > 0 && size % blockSize === 0) return
  throw new DevicesError(
    'ERR_DEVICE_OPTION',
    `virtio-blk: a disk has a multiple of ${blockSize} bytes and is not empty, got ${size}`,
    { size },
  )
}

/** Features 0 to 31. */
export function blkFeatures(disk: Disk, settings: BlkSettings): number {
  const features = [
    spec.VIRTIO_BLK_F_SIZE_MAX,
    spec.VIRTIO_BLK_F_SEG_MAX,
    spec.VIRTIO_BLK_F_BLK_SIZE,
    spec.VIRTIO_BLK_F_TOPOLOGY,
  ]
  if (settings.queues > 1) features.push(spec.VIRTIO_BLK_F_MQ)
  if (disk.readOnly) features.push(spec.VIRTIO_BLK_F_RO)
  else {
    features.push(spec.VIRTIO_BLK_F_FLUSH, spec.VIRTIO_BLK_F_CONFIG_WCE, spec.VIRTIO_BLK_F_WRITE_ZEROES)
    if (disk.canDiscard) features.push(spec.VIRTIO_BLK_F_DISCARD)
  }
  return features.reduce((bits, feature) => (bits | featureBit(feature)) >>> 0, 0)
}

/** Fills the configuration space. */
export function writeBlkConfig(config: Uint8Array, disk: Disk, settings: BlkSettings): void {
  const view = new DataView(config.buffer, config.byteOffset, config.length)
  const { blockSize, physicalBlockSize, queueSize } = settings
  writeCapacity(config, disk.size)
  view.setUint32(spec.CONFIG_SIZE_MAX_OFFSET, SIZE_MAX_BYTES, true)
  view.setUint32(spec.CONFIG_SEG_MAX_OFFSET, Math.min(SEG_MAX, queueSize - DESCRIPTORS_BESIDE_DATA), true)
  view.setUint32(spec.CONFIG_BLK_SIZE_OFFSET, blockSize, true)
  view.setUint8(spec.CONFIG_PHYSICAL_BLOCK_EXP_OFFSET, Math.log2(physicalBlockSize / blockSize))
  view.setUint16(spec.CONFIG_MIN_IO_SIZE_OFFSET, physicalBlockSize / blockSize, true)
  view.setUint32(spec.CONFIG_OPT_IO_SIZE_OFFSET, settings.optimalIoSize / blockSize, true)
  view.setUint8(spec.CONFIG_WRITEBACK_OFFSET, settings.writeback && !disk.readOnly ? 1 : 0)
  view.setUint16(spec.CONFIG_NUM_QUEUES_OFFSET, settings.queues, true)
  if (disk.readOnly) return
  if (disk.canDiscard) {
    view.setUint32(spec.CONFIG_MAX_DISCARD_SECTORS_OFFSET, MAX_DISCARD_SECTORS, true)
    view.setUint32(spec.CONFIG_MAX_DISCARD_SEG_OFFSET, 1, true)
    view.setUint32(spec.CONFIG_DISCARD_SECTOR_ALIGNMENT_OFFSET, physicalBlockSize / spec.SECTOR_SIZE, true)
  }
  view.setUint32(spec.CONFIG_MAX_WRITE_ZEROES_SECTORS_OFFSET, MAX_WRITE_ZEROES_SECTORS, true)
  view.setUint32(spec.CONFIG_MAX_WRITE_ZEROES_SEG_OFFSET, 1, true)
  view.setUint8(spec.CONFIG_WRITE_ZEROES_MAY_UNMAP_OFFSET, disk.canDiscard ? 1 : 0)
}

/** Writes the size of the disk. */
export function writeCapacity(config: Uint8Array, size: number): void {
  const view = new DataView(config.buffer, config.byteOffset, config.length)
  const sectors = size / spec.SECTOR_SIZE
  view.setUint32(spec.CONFIG_CAPACITY_OFFSET, sectors % 2 ** 32, true)
  view.setUint32(spec.CONFIG_CAPACITY_OFFSET + 4, Math.floor(sectors / 2 ** 32), true)
}

/** The most sectors that a range may have. */
export function maxRangeSectors(isDiscard: boolean): number {
  return isDiscard ? MAX_DISCARD_SECTORS : MAX_WRITE_ZEROES_SECTORS
}

function isPowerOfTwo(value: number): boolean {
  return Number.isInteger(value) && value > 0 && Number.isInteger(Math.log2(value))
}

function refuse(what: string): never {
  throw new DevicesError('ERR_DEVICE_OPTION', `virtio-blk: ${what}`)
}
