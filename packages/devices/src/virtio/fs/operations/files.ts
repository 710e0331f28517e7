/** What is done with files: attributes, opening, reading, writing. */
import { FS_ERRNO } from '../errno.ts'
import type { FsOutcome } from '../file-system.ts'
import type { Operation } from '../operation.ts'
import {
  replyAttributes,
  replyData,
  replyNothing,
  replyOpen,
  replyPosition,
  replyWritten,
} from '../replies.ts'
import type { FsRequest } from '../request.ts'
import type { Session } from '../session.ts'
import * as spec from '../spec.ts'
import { releaseOperation, syncOperation, takeHandle } from './handles.ts'

const { EBADF, EINVAL, ENOSYS, EPERM, EROFS, EFBIG } = FS_ERRNO

export const GETATTR: Operation = {
  replyBytes: spec.FUSE_ATTR_OUT_SIZE,
  begin(session, request) {
    const { source } = request
    const flags = source.readUint32()
    source.skip(4)
    const id = source.readUint64()
    if (source.failed) return -EINVAL
    const byHandle = (flags & spec.FUSE_GETATTR_FH) !== 0
    const refused = byHandle ? takeHandle(session, request, id, false) : 0
    return refused < 0 ? refused : session.fileSystem.getattr(request)
  },
  reply: replyAttributes,
}

export const SETATTR: Operation = {
  replyBytes: spec.FUSE_ATTR_OUT_SIZE,
  changes: true,
  begin(session, request) {
    const { source, changes } = request
    const id = changes.read(source)
    if (source.failed || id < 0) return -EINVAL
    const refused = id === 0 ? 0 : takeHandle(session, request, id, false)
    return refused < 0 ? refused : (session.fileSystem.setattr?.(request) ?? -EPERM)
  },
  reply: replyAttributes,
}

export const READLINK: Operation = {
  replyBytes: 0,
  begin: (session, request) => session.fileSystem.readlink?.(request) ?? -EINVAL,
  reply: replyData,
}

export const OPEN: Operation = {
  replyBytes: spec.FUSE_OPEN_OUT_SIZE,
  givesHandle: true,
  begin(session, request) {
    const { source } = request
    request.flags = source.readUint32()
    if (source.failed) return -EINVAL
    const writes = (request.flags & spec.O_ACCMODE) !== spec.O_RDONLY || (request.flags & spec.O_TRUNC) !== 0
    if (writes && session.fileSystem.readOnly) return -EROFS
    return session.fileSystem.open?.(request) ?? -ENOSYS
  },
  reply: replyOpen,
}

export const READ: Operation = {
  replyBytes: 0,
  begin(session, request) {
    const { source, target } = request
    const id = source.readUint64()
    request.position = source.readUint64()
    request.length = Math.min(source.readUint32(), target.available, spec.FS_DATA_BYTES_MAX)
    source.skip(4 + 8)
    request.flags = source.readUint32()
    if (source.failed || !Number.isSafeInteger(request.position + request.length)) return -EINVAL
    const refused = takeHandle(session, request, id, false)
    return refused < 0 ? refused : session.fileSystem.read(request)
  },
  reply: replyData,
}

export const WRITE: Operation = {
  replyBytes: spec.FUSE_WRITE_OUT_SIZE,
  changes: true,
  begin(session, request) {
    const { source } = request
    const id = source.readUint64()
    request.position = source.readUint64()
    request.length = source.readUint32()
    source.skip(4 + 8)
    request.flags = source.readUint32()
    source.skip(4)
    if (source.failed || request.length !== source.available) return -EINVAL
    if (request.length > spec.FS_DATA_BYTES_MAX) return -EINVAL
    if (!Number.isSafeInteger(request.position + request.length)) return -EFBIG
    const refused = takeHandle(session, request, id, false)
    return refused < 0 ? refused : (session.fileSystem.write?.(request) ?? -EPERM)
  },
  reply: replyWritten,
}

export const FSYNC: Operation = syncOperation(false)

export const RELEASE: Operation = releaseOperation(false)

/** The position and length that a request names. @returns 0, or -EINVAL, -EFBIG */
function takeRange(request: FsRequest): number {
  request.position = request.source.readUint64()
  request.length = request.source.readUint64()
  if (request.source.failed || request.length === 0) return -EINVAL
  return Number.isSafeInteger(request.position + request.length) ? 0 : -EFBIG
}

export const FALLOCATE: Operation = {
  replyBytes: 0,
  changes: true,
  begin(session, request) {
    const id = request.source.readUint64()
    let refused = takeRange(request)
    request.flags = request.source.readUint32()
    if (request.source.failed) refused = -EINVAL
    refused ||= takeHandle(session, request, id, false)
    return refused < 0 ? refused : (session.fileSystem.fallocate?.(request) ?? -ENOSYS)
  },
  reply: replyNothing,
}

export const LSEEK: Operation = {
  replyBytes: spec.FUSE_LSEEK_OUT_SIZE,
  begin(session, request) {
    const { source } = request
    const id = source.readUint64()
    request.position = source.readUint64()
    request.flags = source.readUint32()
    if (source.failed || !Number.isSafeInteger(request.position)) return -EINVAL
    if (request.flags !== spec.SEEK_DATA && request.flags !== spec.SEEK_HOLE) return -EINVAL
    const refused = takeHandle(session, request, id, false)
    return refused < 0 ? refused : (session.fileSystem.lseek?.(request) ?? -ENOSYS)
  },
  reply: replyPosition,
}

export const COPY_FILE_RANGE: Operation = {
  replyBytes: spec.FUSE_WRITE_OUT_SIZE,
  changes: true,
  begin(session, request) {
    const { source } = request
    const id = source.readUint64()
    request.position = source.readUint64()
    const other = session.nodes.get(source.readUint64())
    const otherId = source.readUint64()
    request.otherPosition = source.readUint64()
    // More at once would hold up others; the guest asks again for what is left.
    request.length = Math.min(source.readUint64(), spec.FS_DATA_BYTES_MAX)
    const flags = source.readUint64()
    if (source.failed || flags !== 0) return -EINVAL
    if (!Number.isSafeInteger(request.position + request.length)) return -EINVAL
    if (!Number.isSafeInteger(request.otherPosition + request.length)) return -EFBIG
    return copy(session, request, { id, other, otherId })
  },
  reply: replyWritten,
}

function copy(
  session: Session,
  request: FsRequest,
  ends: { readonly id: number; readonly other: object | undefined; readonly otherId: number },
): FsOutcome {
  if (session.fileSystem.copyFileRange === undefined) return -ENOSYS
  if (ends.other === undefined) return -EBADF
  request.otherNode = ends.other
  request.otherHandle = session.handles.get(ends.otherId, ends.other, false)
  if (request.otherHandle === undefined) return -EBADF
  const refused = takeHandle(session, request, ends.id, false)
  return refused < 0 ? refused : session.fileSystem.copyFileRange(request)
}
