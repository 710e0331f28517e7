/** All operations that have an answer, by opcode. What is not here is ENOSYS, which Linux remembers for as long as it is mounted. */
import type { Operation } from '../operation.ts'
import * as spec from '../spec.ts'
import * as directories from './directories.ts'
import * as files from './files.ts'
import * as names from './names.ts'
import * as session from './session.ts'

/** Dense: what has no operation is undefined. */
export const OPERATIONS: readonly (Operation | undefined)[] = byOpcode([
  [spec.FUSE_LOOKUP, names.LOOKUP],
  [spec.FUSE_GETATTR, files.GETATTR],
  [spec.FUSE_SETATTR, files.SETATTR],
  [spec.FUSE_READLINK, files.READLINK],
  [spec.FUSE_SYMLINK, names.SYMLINK],
  [spec.FUSE_MKNOD, names.MKNOD],
  [spec.FUSE_MKDIR, names.MKDIR],
  [spec.FUSE_UNLINK, names.UNLINK],
  [spec.FUSE_RMDIR, names.RMDIR],
  [spec.FUSE_RENAME, names.RENAME],
  [spec.FUSE_LINK, names.LINK],
  [spec.FUSE_OPEN, files.OPEN],
  [spec.FUSE_READ, files.READ],
  [spec.FUSE_WRITE, files.WRITE],
  [spec.FUSE_STATFS, session.STATFS],
  [spec.FUSE_RELEASE, files.RELEASE],
  [spec.FUSE_FSYNC, files.FSYNC],
  [spec.FUSE_INIT, session.INIT],
  [spec.FUSE_OPENDIR, directories.OPENDIR],
  [spec.FUSE_READDIR, directories.READDIR],
  [spec.FUSE_RELEASEDIR, directories.RELEASEDIR],
  [spec.FUSE_FSYNCDIR, directories.FSYNCDIR],
  [spec.FUSE_CREATE, names.CREATE],
  [spec.FUSE_DESTROY, session.DESTROY],
  [spec.FUSE_FALLOCATE, files.FALLOCATE],
  [spec.FUSE_READDIRPLUS, directories.READDIRPLUS],
  [spec.FUSE_RENAME2, names.RENAME2],
  [spec.FUSE_LSEEK, files.LSEEK],
  [spec.FUSE_COPY_FILE_RANGE, files.COPY_FILE_RANGE],
])

function byOpcode(pairs: readonly (readonly [number, Operation])[]): (Operation | undefined)[] {
  const table: (Operation | undefined)[] = []
  for (const [opcode, operation] of pairs) {
    while (table.length <= opcode) table.push(undefined)
    table[opcode] = operation
  }
  return table
}
