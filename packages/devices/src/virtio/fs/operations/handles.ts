/** What is the same for open files and open directories: finding, syncing and closing them. */
import { FS_ERRNO } from '../errno.ts'
import type { Operation } from '../operation.ts'
import { replyNothing } from '../replies.ts'
import type { FsRequest } from '../request.ts'
import type { Session } from '../session.ts'
import * as spec from '../spec.ts'

const { EBADF, EINVAL, ENOSYS } = FS_ERRNO

/** Whether the file system gives handles: who has no method to open gives none, and is asked for none. */
function givesHandles({ fileSystem }: Session, isDirectory: boolean): boolean {
  return (isDirectory ? fileSystem.opendir : fileSystem.open) !== undefined
}

/** Sets the handle that a request names. @returns 0, or -EBADF where it is none of this node's */
export function takeHandle(session: Session, request: FsRequest, id: number, isDirectory: boolean): number {
  if (!givesHandles(session, isDirectory)) return 0
  request.handle = session.handles.get(id, request.node, isDirectory)
  return request.handle === undefined ? -EBADF : 0
}

/** FSYNC and FSYNCDIR. */
export function syncOperation(isDirectory: boolean): Operation {
  return {
    replyBytes: 0,
    begin(session, request) {
      const { source } = request
      const id = source.readUint64()
      request.dataOnly = (source.readUint32() & spec.FUSE_FSYNC_FDATASYNC) !== 0
      if (source.failed) return -EINVAL
      const refused = takeHandle(session, request, id, isDirectory)
      if (refused < 0) return refused
      const { fileSystem } = session
      return (isDirectory ? fileSystem.fsyncdir?.(request) : fileSystem.fsync?.(request)) ?? -ENOSYS
    },
    reply: replyNothing,
  }
}

/** RELEASE and RELEASEDIR. */
export function releaseOperation(isDirectory: boolean): Operation {
  return {
    replyBytes: 0,
    mayBeForgotten: true,
    begin(session, request) {
      const handle = session.handles.take(request.source.readUint64(), isDirectory)
      if (handle === undefined) return givesHandles(session, isDirectory) ? -EBADF : 0
      session.release(handle)
      return 0
    },
    reply: replyNothing,
  }
}
