/** The forms that answers have: `fuse_entry_out`, `fuse_attr_out`, `fuse_open_out` and others, after the header. */
import { writeAttributes, writeEntry } from './attributes.ts'
import { FS_ERRNO } from './errno.ts'
import type { FsRequest } from './request.ts'
import type { Session } from './session.ts'
import * as spec from './spec.ts'

type Reply = (session: Session, request: FsRequest, outcome: number) => number

/** Nothing but the header. */
export const replyNothing: Reply = () => 0

/** What is in `target` already. */
export const replyData: Reply = (_session, _request, outcome) => outcome

export const replyWritten: Reply = (_session, { target }, outcome) => {
  target.writeUint32(outcome)
  target.writeUint32(0)
  return spec.FUSE_WRITE_OUT_SIZE
}

export const replyAttributes: Reply = (session, { target, attributes, nodeId }) => {
  target.writeUint64(session.time.seconds)
  target.writeUint32(session.time.nanoseconds)
  target.writeUint32(0)
  writeAttributes(target, attributes, nodeId)
  return spec.FUSE_ATTR_OUT_SIZE
}

/** A node: the guest knows it once more. */
export const replyEntry: Reply = (session, request) => {
  const { found, target, attributes } = request
  if (found === undefined) return -FS_ERRNO.EIO
  const id = session.nodes.add(found)
  if (id === 0) return -FS_ERRNO.ENFILE
  // The table has it: from here on it is forgotten by the guest alone.
  request.found = undefined
  writeEntry(target, id, session.time, attributes)
  return spec.FUSE_ENTRY_OUT_SIZE
}

/** A name that is not there, to be remembered. */
export const replyMiss: Reply = (session, { target, attributes }) => {
  attributes.clear()
  writeEntry(target, 0, session.time, attributes)
  return spec.FUSE_ENTRY_OUT_SIZE
}

/** A handle of a node. */
function replyHandle(session: Session, request: FsRequest, node: object, isDirectory: boolean): number {
  const { opened, target, flags } = request
  if (opened === undefined) return -FS_ERRNO.EIO
  const id = session.handles.add(opened, node, { isDirectory, access: flags & spec.O_ACCMODE })
  if (id === 0) return -FS_ERRNO.ENFILE
  request.opened = undefined
  target.writeUint64(id)
  target.writeUint32(request.keepCache ? spec.FOPEN_KEEP_CACHE : 0)
  target.writeUint32(0)
  return spec.FUSE_OPEN_OUT_SIZE
}

export const replyOpen: Reply = (session, request) => replyHandle(session, request, request.node, false)

export const replyOpendir: Reply = (session, request) => replyHandle(session, request, request.node, true)

/** A node and a handle of it. */
export const replyCreate: Reply = (session, request) => {
  const { found, opened } = request
  // Both or none: what was given once cannot be taken back.
  if (found === undefined || opened === undefined) return -FS_ERRNO.EIO
  if (session.handles.isFull) return -FS_ERRNO.ENFILE
  const entry = replyEntry(session, request, 0)
  if (entry < 0) return entry
  return entry + replyHandle(session, request, found, false)
}

export const replySpace: Reply = (_session, { target, space }) => {
  target.writeUint64(space.blocks)
  target.writeUint64(space.freeBlocks)
  target.writeUint64(space.availableBlocks)
  target.writeUint64(space.files)
  target.writeUint64(space.freeFiles)
  target.writeUint32(space.blockSize)
  target.writeUint32(spec.NAME_MAX)
  target.writeUint32(space.blockSize)
  target.fill(0, spec.FUSE_STATFS_OUT_SIZE - 52)
  return spec.FUSE_STATFS_OUT_SIZE
}

export const replyPosition: Reply = (_session, { target }, outcome) => {
  target.writeUint64(outcome)
  return spec.FUSE_LSEEK_OUT_SIZE
}
