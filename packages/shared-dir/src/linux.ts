/** Numbers of Linux that this package needs (<fcntl.h>, <sys/stat.h>, <linux/falloc.h>). */

export const O_RDONLY = 0o0
export const O_WRONLY = 0o1
export const O_ACCMODE = 0o3
export const O_CREAT = 0o100
export const O_EXCL = 0o200
export const O_TRUNC = 0o1000
export const O_APPEND = 0o2000
export const O_NONBLOCK = 0o4000
export const O_DIRECTORY = 0o200000
export const O_NOFOLLOW = 0o400000
export const O_CLOEXEC = 0o2000000
export const O_PATH = 0o10000000

export const S_IFMT = 0o170000
export const S_IFDIR = 0o040000
export const S_IFREG = 0o100000
export const S_IFLNK = 0o120000
/** Set-user-ID and set-group-ID. */
export const SET_ID_BITS = 0o6000
/** What a guest sees and sets of permissions: all but those. */
export const PERMISSIONS = 0o1777

/** The longest name, in bytes, and its NUL. */
export const NAME_SIZE = 256

export const RENAME_EXCHANGE = 0b10

export const FALLOC_FL_KEEP_SIZE = 0x01
export const FALLOC_FL_PUNCH_HOLE = 0x02
export const FALLOC_FL_ZERO_RANGE = 0x10
