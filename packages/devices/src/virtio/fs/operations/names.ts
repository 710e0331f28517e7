/** What is done with names in directories: found, made, removed, changed. */
import { FS_ERRNO } from '../errno.ts'
import type { FsOutcome } from '../file-system.ts'
import type { Operation } from '../operation.ts'
import { replyCreate, replyEntry, replyNothing } from '../replies.ts'
import type { FsRequest } from '../request.ts'
import type { Session } from '../session.ts'
import * as spec from '../spec.ts'

const { EINVAL, ENOENT, ENOSYS, EPERM } = FS_ERRNO
const PERMISSIONS = 0o7777
/** What RENAME2 may ask for. */
const RENAME_FLAGS = spec.RENAME_NOREPLACE | spec.RENAME_EXCHANGE

/** The last of the arguments: nothing may follow. */
function lastName(request: FsRequest): number {
  const result = request.name.readComponent(request.source)
  return result === 0 && request.source.available > 0 ? -EINVAL : result
}

export const LOOKUP: Operation = {
  replyBytes: spec.FUSE_ENTRY_OUT_SIZE,
  givesNode: true,
  mayMiss: true,
  begin(session, request) {
    const refused = lastName(request)
    return refused < 0 ? refused : session.fileSystem.lookup(request)
  },
  reply: replyEntry,
}

/** What makes a file of some kind by a name. */
const MAKES = {
  replyBytes: spec.FUSE_ENTRY_OUT_SIZE,
  changes: true,
  givesNode: true,
  reply: replyEntry,
} as const

export const MKNOD: Operation = {
  ...MAKES,
  begin(session, request) {
    const { source } = request
    request.mode = source.readUint32()
    // Device number, umask (the guest has applied it), padding.
    source.skip(12)
    const refused = lastName(request)
    if (refused < 0) return refused
    const type = request.mode & spec.S_IFMT
    if (type !== spec.S_IFREG && type !== spec.S_IFIFO) return -EPERM
    request.mode = type | (request.mode & PERMISSIONS)
    return session.fileSystem.mknod?.(request) ?? -EPERM
  },
}

export const MKDIR: Operation = {
  ...MAKES,
  begin(session, request) {
    request.mode = request.source.readUint32() & PERMISSIONS
    request.source.skip(4)
    const refused = lastName(request)
    return refused < 0 ? refused : (session.fileSystem.mkdir?.(request) ?? -EPERM)
  },
}

export const SYMLINK: Operation = {
  ...MAKES,
  begin(session, request) {
    const { source, link } = request
    const refused = request.name.readComponent(source) || link.read(source)
    if (refused < 0) return refused
    if (source.available > 0) return -EINVAL
    return link.length === 0 ? -ENOENT : (session.fileSystem.symlink?.(request) ?? -EPERM)
  },
}

export const LINK: Operation = {
  ...MAKES,
  begin(session, request) {
    const file = session.nodes.get(request.source.readUint64())
    const refused = request.otherName.readComponent(request.source)
    if (refused < 0) return refused
    if (request.source.available > 0) return -EINVAL
    if (file === undefined) return -ENOENT
    request.otherNode = request.node
    request.node = file
    return session.fileSystem.link?.(request) ?? -EPERM
  },
}

export const CREATE: Operation = {
  replyBytes: spec.FUSE_ENTRY_OUT_SIZE + spec.FUSE_OPEN_OUT_SIZE,
  changes: true,
  givesNode: true,
  givesHandle: true,
  begin(session, request) {
    const { source } = request
    request.flags = source.readUint32()
    request.mode = source.readUint32() & PERMISSIONS
    source.skip(8)
    const refused = lastName(request)
    // Without it Linux makes the file, then opens it.
    return refused < 0 ? refused : (session.fileSystem.create?.(request) ?? -ENOSYS)
  },
  reply: replyCreate,
}

const REMOVES = { replyBytes: 0, changes: true, reply: replyNothing } as const

export const UNLINK: Operation = {
  ...REMOVES,
  begin(session, request) {
    const refused = lastName(request)
    return refused < 0 ? refused : (session.fileSystem.unlink?.(request) ?? -EPERM)
  },
}

export const RMDIR: Operation = {
  ...REMOVES,
  begin(session, request) {
    const refused = lastName(request)
    return refused < 0 ? refused : (session.fileSystem.rmdir?.(request) ?? -EPERM)
  },
}

function rename(session: Session, request: FsRequest, target: number): FsOutcome {
  const { source } = request
  const refused = request.name.readComponent(source) || request.otherName.readComponent(source)
  if (refused < 0) return refused
  if (source.available > 0 || (request.flags & ~RENAME_FLAGS) !== 0) return -EINVAL
  const node = session.nodes.get(target)
  if (node === undefined) return -ENOENT
  request.otherNode = node
  return session.fileSystem.rename?.(request) ?? -EPERM
}

export const RENAME: Operation = {
  ...REMOVES,
  begin: (session, request) => rename(session, request, request.source.readUint64()),
}

export const RENAME2: Operation = {
  ...REMOVES,
  begin(session, request) {
    const target = request.source.readUint64()
    request.flags = request.source.readUint32()
    request.source.skip(4)
    return rename(session, request, target)
  },
}
