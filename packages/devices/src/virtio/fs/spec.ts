/**
 * Numbers of FUSE as virtio-fs speaks it: virtio 1.2 section 5.11, and <linux/fuse.h> for the protocol, version 7.38. What this
 * device does not do has no number here.
 */

/** Bytes of the tag in the configuration space, and where the number of request queues is (5.11.4). */
export const VIRTIO_FS_TAG_BYTES = 36
export const VIRTIO_FS_CONFIG_NUM_QUEUES_OFFSET = 36
export const VIRTIO_FS_CONFIG_SIZE = 40

/** The version that this device speaks, and the first minor one that virtio-fs was made for. */
export const FUSE_KERNEL_VERSION = 7
export const FUSE_KERNEL_MINOR_VERSION = 38
export const FUSE_MINOR_LEAST = 31

/** The node that every walk begins at. */
export const FUSE_ROOT_ID = 1

/** What a request asks for. */
export const FUSE_LOOKUP = 1
export const FUSE_FORGET = 2
export const FUSE_GETATTR = 3
export const FUSE_SETATTR = 4
export const FUSE_READLINK = 5
export const FUSE_SYMLINK = 6
export const FUSE_MKNOD = 8
export const FUSE_MKDIR = 9
export const FUSE_UNLINK = 10
export const FUSE_RMDIR = 11
export const FUSE_RENAME = 12
export const FUSE_LINK = 13
export const FUSE_OPEN = 14
export const FUSE_READ = 15
export const FUSE_WRITE = 16
export const FUSE_STATFS = 17
export const FUSE_RELEASE = 18
export const FUSE_FSYNC = 20
export const FUSE_INIT = 26
export const FUSE_OPENDIR = 27
export const FUSE_READDIR = 28
export const FUSE_RELEASEDIR = 29
export const FUSE_FSYNCDIR = 30
export const FUSE_CREATE = 35
export const FUSE_INTERRUPT = 36
export const FUSE_DESTROY = 38
export const FUSE_BATCH_FORGET = 42
export const FUSE_FALLOCATE = 43
export const FUSE_READDIRPLUS = 44
export const FUSE_RENAME2 = 45
export const FUSE_LSEEK = 46
export const FUSE_COPY_FILE_RANGE = 47

/** Flags of INIT. */
export const FUSE_ASYNC_READ = 0x1
export const FUSE_ATOMIC_O_TRUNC = 0x8
export const FUSE_BIG_WRITES = 0x20
export const FUSE_AUTO_INVAL_DATA = 0x1000
export const FUSE_DO_READDIRPLUS = 0x2000
export const FUSE_READDIRPLUS_AUTO = 0x4000
export const FUSE_ASYNC_DIO = 0x8000
export const FUSE_NO_OPEN_SUPPORT = 0x2_0000
export const FUSE_PARALLEL_DIROPS = 0x4_0000
export const FUSE_MAX_PAGES = 0x40_0000
export const FUSE_CACHE_SYMLINKS = 0x80_0000
export const FUSE_NO_OPENDIR_SUPPORT = 0x100_0000
export const FUSE_HANDLE_KILLPRIV_V2 = 0x1000_0000

/** Flags of the answer to OPEN: what the guest has cached of the file is still right. */
export const FOPEN_KEEP_CACHE = 0b10

/** In GETATTR: by the handle. */
export const FUSE_GETATTR_FH = 0b1
/** In FSYNC: data alone. */
export const FUSE_FSYNC_FDATASYNC = 0b1

/** What SETATTR changes. */
export const FATTR_MODE = 0x1
export const FATTR_UID = 0x2
export const FATTR_GID = 0x4
export const FATTR_SIZE = 0x8
export const FATTR_ATIME = 0x10
export const FATTR_MTIME = 0x20
export const FATTR_FH = 0x40
export const FATTR_ATIME_NOW = 0x80
export const FATTR_MTIME_NOW = 0x100

/** Sizes of structures, in bytes. */
export const FUSE_IN_HEADER_SIZE = 40
export const FUSE_OUT_HEADER_SIZE = 16
export const FUSE_ATTR_SIZE = 88
export const FUSE_ENTRY_OUT_SIZE = 128
export const FUSE_ATTR_OUT_SIZE = 104
export const FUSE_OPEN_OUT_SIZE = 16
export const FUSE_WRITE_OUT_SIZE = 8
export const FUSE_STATFS_OUT_SIZE = 80
export const FUSE_INIT_OUT_SIZE = 64
export const FUSE_LSEEK_OUT_SIZE = 8
export const FUSE_FORGET_ONE_SIZE = 16
/** Of a directory's entry before its name. With READDIRPLUS `FUSE_ENTRY_OUT_SIZE` more. */
export const FUSE_NAME_OFFSET = 24

/** The longest name of a file, and the longest text of a symbolic link, in bytes (<linux/limits.h>, less the NUL). */
export const NAME_MAX = 255
export const LINK_MAX = 4095

/** The most data of one READ or WRITE, in bytes and in pages. */
export const FS_DATA_BYTES_MAX = 0x10_0000
export const FS_DATA_PAGES_MAX = 256
/** The most bytes that a request has: that data, its arguments, two names. */
export const FS_REQUEST_BYTES_MAX: number = FS_DATA_BYTES_MAX + 8192
/** The most bytes of a directory in one reply. */
export const FS_LIST_BYTES_MAX = 0x1_0000

/** Types in `mode` (<linux/stat.h>). */
export const S_IFMT = 0o170000
export const S_IFIFO = 0o010000
export const S_IFDIR = 0o040000
export const S_IFREG = 0o100000
export const S_IFLNK = 0o120000

/** Flags of OPEN and CREATE (<asm-generic/fcntl.h>). */
export const O_ACCMODE = 0o3
export const O_RDONLY = 0o0
export const O_WRONLY = 0o1
export const O_RDWR = 0o2
export const O_EXCL = 0o200
export const O_TRUNC = 0o1000
export const O_APPEND = 0o2000

/** Flags of RENAME2 (<linux/fs.h>). */
export const RENAME_NOREPLACE = 0b1
export const RENAME_EXCHANGE = 0b10
/** What LSEEK looks for. */
export const SEEK_DATA = 3
export const SEEK_HOLE = 4
