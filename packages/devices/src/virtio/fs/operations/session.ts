/** INIT and DESTROY, the beginning and end of a mount, and STATFS. */
import { FS_ERRNO } from '../errno.ts'
import type { Operation } from '../operation.ts'
import { replyNothing, replySpace } from '../replies.ts'
import type { FsRequest } from '../request.ts'
import type { Session } from '../session.ts'
import * as spec from '../spec.ts'

/**
 * What is used of what a guest offers. Not among it: caching of writes, as others may write to the files; locks, which stay the
 * guest's own; `O_TRUNC` with OPEN, unless there is such a thing.
 */
const WANTED =
  spec.FUSE_ASYNC_READ |
  spec.FUSE_BIG_WRITES |
  spec.FUSE_AUTO_INVAL_DATA |
  spec.FUSE_DO_READDIRPLUS |
  spec.FUSE_READDIRPLUS_AUTO |
  spec.FUSE_ASYNC_DIO |
  spec.FUSE_NO_OPEN_SUPPORT |
  spec.FUSE_PARALLEL_DIROPS |
  spec.FUSE_MAX_PAGES |
  spec.FUSE_CACHE_SYMLINKS |
  spec.FUSE_NO_OPENDIR_SUPPORT |
  spec.FUSE_HANDLE_KILLPRIV_V2

/** Requests that the guest sends ahead, as for reading on, and from how many on it takes the device for busy. */
const MAX_BACKGROUND = 64
const CONGESTION_THRESHOLD = 48
/** Times are exact to a nanosecond. */
const TIME_GRANULARITY_NS = 1

/** `flags` are what the guest offers, `length` how far it wants to read ahead, `mode` its major version. */
export const INIT: Operation = {
  replyBytes: spec.FUSE_INIT_OUT_SIZE,
  begin(session: Session, request: FsRequest): number {
    const { source } = request
    request.mode = source.readUint32()
    const minor = source.readUint32()
    request.length = source.readUint32()
    request.flags = source.readUint32()
    if (source.failed) return -FS_ERRNO.EINVAL
    // A newer one is told which version this is, and asks again.
    if (request.mode > spec.FUSE_KERNEL_VERSION) return 0
    if (request.mode < spec.FUSE_KERNEL_VERSION || minor < spec.FUSE_MINOR_LEAST) return -FS_ERRNO.EPROTO
    session.begin()
    // The answer is the new mount's.
    request.generation = session.generation
    return 0
  },
  reply(session: Session, { target, flags, length }: FsRequest): number {
    const truncates = session.fileSystem.open === undefined ? 0 : spec.FUSE_ATOMIC_O_TRUNC
    target.writeUint32(spec.FUSE_KERNEL_VERSION)
    target.writeUint32(spec.FUSE_KERNEL_MINOR_VERSION)
    target.writeUint32(Math.min(length, spec.FS_DATA_BYTES_MAX))
    target.writeUint32((flags & (WANTED | truncates)) >>> 0)
    target.writeUint16(MAX_BACKGROUND)
    target.writeUint16(CONGESTION_THRESHOLD)
    target.writeUint32(spec.FS_DATA_BYTES_MAX)
    target.writeUint32(TIME_GRANULARITY_NS)
    target.writeUint16(spec.FS_DATA_PAGES_MAX)
    target.fill(0, spec.FUSE_INIT_OUT_SIZE - 30)
    return spec.FUSE_INIT_OUT_SIZE
  },
}

export const DESTROY: Operation = {
  replyBytes: 0,
  begin(session: Session, request: FsRequest): number {
    session.end()
    request.generation = session.generation
    return 0
  },
  reply: replyNothing,
}

export const STATFS: Operation = {
  replyBytes: spec.FUSE_STATFS_OUT_SIZE,
  begin(session, request) {
    request.space.clear()
    return session.fileSystem.statfs?.(request) ?? 0
  },
  reply: replySpace,
}
