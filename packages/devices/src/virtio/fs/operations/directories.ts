/** Opening, reading and closing of directories. */
import { FS_ERRNO } from '../errno.ts'
import type { FsOutcome } from '../file-system.ts'
import type { Operation } from '../operation.ts'
import { replyNothing, replyOpendir } from '../replies.ts'
import type { FsRequest } from '../request.ts'
import type { Session } from '../session.ts'
import * as spec from '../spec.ts'

const { EBADF, EINVAL, ENOSYS } = FS_ERRNO

/** As for files. */
function takeHandle(session: Session, request: FsRequest, id: number): number {
  const { fileSystem, handles } = session
  if (fileSystem.opendir === undefined) return 0
  request.handle = handles.get(id, request.node, true)
  return request.handle === undefined ? -EBADF : 0
}

export const OPENDIR: Operation = {
  replyBytes: spec.FUSE_OPEN_OUT_SIZE,
  givesHandle: true,
  begin: (session, request) => session.fileSystem.opendir?.(request) ?? -ENOSYS,
  reply: replyOpendir,
}

function readDirectory(session: Session, request: FsRequest, withNodes: boolean): FsOutcome {
  const { source, target, list } = request
  const id = source.readUint64()
  list.positionLow = source.readUint32()
  list.positionHigh = source.readUint32()
  const limit = Math.min(source.readUint32(), target.available, spec.FS_LIST_BYTES_MAX)
  if (source.failed) return -EINVAL
  const refused = takeHandle(session, request, id)
  if (refused < 0) return refused
  list.begin(limit, withNodes)
  const outcome = session.fileSystem.readdir(request)
  return typeof outcome === 'number'
    ? listed(outcome, request)
    : outcome.then((late) => listed(late, request))
}

/** Entries before an error are an answer: the guest has been given their nodes. It gets the error when it goes on. */
function listed(outcome: number, { list }: FsRequest): number {
  return list.bytes > 0 ? 0 : outcome
}

export const READDIR: Operation = {
  replyBytes: 0,
  begin: (session, request) => readDirectory(session, request, false),
  reply: (_session, { list }) => list.bytes,
}

export const READDIRPLUS: Operation = {
  replyBytes: 0,
  begin: (session, request) => readDirectory(session, request, true),
  reply: (_session, { list }) => list.bytes,
}

export const FSYNCDIR: Operation = {
  replyBytes: 0,
  begin(session, request) {
    const { source } = request
    const id = source.readUint64()
    request.dataOnly = (source.readUint32() & spec.FUSE_FSYNC_FDATASYNC) !== 0
    if (source.failed) return -EINVAL
    const refused = takeHandle(session, request, id)
    return refused < 0 ? refused : (session.fileSystem.fsyncdir?.(request) ?? -ENOSYS)
  },
  reply: replyNothing,
}

export const RELEASEDIR: Operation = {
  replyBytes: 0,
  mayBeForgotten: true,
  begin(session, request) {
    const handle = session.handles.take(request.source.readUint64(), true)
    if (handle === undefined) return session.fileSystem.opendir === undefined ? 0 : -EBADF
    session.release(handle)
    return 0
  },
  reply: replyNothing,
}
