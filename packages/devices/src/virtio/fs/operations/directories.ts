/** Opening, reading and closing of directories. */
import { FS_ERRNO } from '../errno.ts'
import type { FsOutcome } from '../file-system.ts'
import type { Operation } from '../operation.ts'
import { replyOpendir } from '../replies.ts'
import type { FsRequest } from '../request.ts'
import type { Session } from '../session.ts'
import * as spec from '../spec.ts'
import { releaseOperation, syncOperation, takeHandle } from './handles.ts'

const { EINVAL, ENOSYS } = FS_ERRNO

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
  const refused = takeHandle(session, request, id, true)
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

export const FSYNCDIR: Operation = syncOperation(true)

export const RELEASEDIR: Operation = releaseOperation(true)
