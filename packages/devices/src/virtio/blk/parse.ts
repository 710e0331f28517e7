/**
 * From a chain to a request: virtio 1.2 section 5.2.6. The framing is the driver's choice; the header is the first 16 bytes
 * that the device may read, the status the last one that it may write.
 */

import { featureBit } from '../spec.ts'
import { maxRangeSectors, REQUEST_BYTES_MAX } from './config.ts'
import type { DiskOperation } from './disk.ts'
import { DISK_DISCARD, DISK_FLUSH, DISK_READ, DISK_WRITE, DISK_WRITE_ZEROES } from './disk.ts'
import type { BlockRequest } from './request.ts'
import * as spec from './spec.ts'

/** What {@link parseRequest} returns for a request to be given to the disk. Otherwise a status. */
export const PARSE_SUBMIT = -1
/** What it returns for a request that the device answers itself, with its ID. */
export const PARSE_GET_ID = -2

const FLUSH_BIT = featureBit(spec.VIRTIO_BLK_F_FLUSH)
const DISCARD_BIT = featureBit(spec.VIRTIO_BLK_F_DISCARD)
const WRITE_ZEROES_BIT = featureBit(spec.VIRTIO_BLK_F_WRITE_ZEROES)

type Mutable<T> = { -readonly [K in keyof T]: T[K] }

/**
 * Takes a request apart. Its chain is there, with a byte for the status.
 * @param features 0 to 31, as negotiated
 * @param diskSize in bytes
 * @param readOnly whether the disk is
 * @returns a status to answer with, or {@link PARSE_SUBMIT}, or {@link PARSE_GET_ID}
 */
export function parseRequest(
  request: Mutable<BlockRequest>,
  features: number,
  diskSize: number,
  readOnly: boolean,
): number {
  const { chain, source, target } = request
  source.attach(chain)
  target.attach(chain)
  target.splitAt(chain.writableBytes - 1, request.status)
  const type = source.readUint32()
  source.skip(4)
  const sector = source.readUint64()
  request.position = 0
  request.length = 0
  request.mayUnmap = false
  if (source.failed) return spec.VIRTIO_BLK_S_IOERR
  const readable = source.available
  const writable = target.available
  switch (type) {
    case spec.VIRTIO_BLK_T_IN:
      if (readable > 0 || writable > REQUEST_BYTES_MAX) return spec.VIRTIO_BLK_S_IOERR
      return transfer(request, DISK_READ, sector, writable, diskSize)
    case spec.VIRTIO_BLK_T_OUT:
      if (writable > 0 || readable > REQUEST_BYTES_MAX || readOnly) return spec.VIRTIO_BLK_S_IOERR
      return transfer(request, DISK_WRITE, sector, readable, diskSize)
    case spec.VIRTIO_BLK_T_FLUSH:
      if ((features & FLUSH_BIT) === 0) return spec.VIRTIO_BLK_S_UNSUPP
      if (sector !== 0) return spec.VIRTIO_BLK_S_IOERR
      request.operation = DISK_FLUSH
      return PARSE_SUBMIT
    case spec.VIRTIO_BLK_T_GET_ID:
      return writable === spec.VIRTIO_BLK_ID_BYTES && readable === 0 ? PARSE_GET_ID : spec.VIRTIO_BLK_S_IOERR
    case spec.VIRTIO_BLK_T_DISCARD:
      if ((features & DISCARD_BIT) === 0) return spec.VIRTIO_BLK_S_UNSUPP
      return range(request, DISK_DISCARD, readable, writable, diskSize)
    case spec.VIRTIO_BLK_T_WRITE_ZEROES:
      if ((features & WRITE_ZEROES_BIT) === 0) return spec.VIRTIO_BLK_S_UNSUPP
      return range(request, DISK_WRITE_ZEROES, readable, writable, diskSize)
    default:
      return spec.VIRTIO_BLK_S_UNSUPP
  }
}

function transfer(
  request: Mutable<BlockRequest>,
  operation: DiskOperation,
  sector: number,
  length: number,
  diskSize: number,
): number {
  // In this order nothing overflows: a sector may be `Infinity`.
  if (length % spec.SECTOR_SIZE !== 0 || sector > (diskSize - length) / spec.SECTOR_SIZE) {
    return spec.VIRTIO_BLK_S_IOERR
  }
  request.operation = operation
  request.position = sector * spec.SECTOR_SIZE
  request.length = length
  return PARSE_SUBMIT
}

/** One range, as the configuration space says. */
function range(
  request: Mutable<BlockRequest>,
  operation: DiskOperation,
  readable: number,
  writable: number,
  diskSize: number,
): number {
  if (readable !== spec.VIRTIO_BLK_RANGE_SIZE || writable > 0) return spec.VIRTIO_BLK_S_IOERR
  const { source } = request
  const sector = source.readUint64()
  const sectors = source.readUint32()
  const flags = source.readUint32()
  if (source.failed) return spec.VIRTIO_BLK_S_IOERR
  const allowed = operation === DISK_WRITE_ZEROES ? spec.VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0
  if ((flags & ~allowed) !== 0) return spec.VIRTIO_BLK_S_UNSUPP
  if (sectors > maxRangeSectors(operation === DISK_DISCARD)) return spec.VIRTIO_BLK_S_IOERR
  request.mayUnmap = (flags & spec.VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) !== 0
  return transfer(request, operation, sector, sectors * spec.SECTOR_SIZE, diskSize)
}
