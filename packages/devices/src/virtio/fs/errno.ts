/** The errors of Linux that a file system gives, by name (<asm-generic/errno.h>): FUSE sends them as they are. */

/** Numbers by name. Methods of a `FileSystem` return them negated. */
export const FS_ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  EIO: 5,
  ENXIO: 6,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EBUSY: 16,
  EEXIST: 17,
  EXDEV: 18,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENFILE: 23,
  EMFILE: 24,
  ETXTBSY: 26,
  EFBIG: 27,
  ENOSPC: 28,
  EROFS: 30,
  EMLINK: 31,
  ENAMETOOLONG: 36,
  ENOSYS: 38,
  ENOTEMPTY: 39,
  ELOOP: 40,
  EPROTO: 71,
  EOPNOTSUPP: 95,
  ETIMEDOUT: 110,
  ESTALE: 116,
  EDQUOT: 122,
} as const

/** The name of an error. */
export type FsErrno = keyof typeof FS_ERRNO

/** The most that FUSE takes for an error: above it Linux fails the whole request. */
export const ERRNO_MAX = 511

/**
 * The negative errno of something thrown: by its `code`, as Node's own errors have one.
 * @returns undefined where it says nothing that a file system would
 */
export function errnoOf(error: unknown): number | undefined {
  const code = (error as { code?: unknown } | undefined)?.code
  if (typeof code !== 'string' || !Object.hasOwn(FS_ERRNO, code)) return undefined
  return -FS_ERRNO[code as FsErrno]
}
