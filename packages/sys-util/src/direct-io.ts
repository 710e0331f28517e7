/**
 * What O_DIRECT asks of those who use it: statx(2), STATX_DIOALIGN.
 */
import { lastError, libc } from './libc.ts'

const AT_EMPTY_PATH = 0x1000
const STATX_DIOALIGN = 0x2000
// struct statx: the mask of what is there, then at 0x98 and 0x9c the alignments, 32 bits each.
const STATX_SIZE = 0x100
const MEMORY_ALIGN_OFFSET = 0x98
const FILE_ALIGN_OFFSET = 0x9c

/** What has to be aligned, in bytes: powers of two. */
export interface DirectIoAlignment {
  /** Addresses of memory. */
  readonly memory: number
  /** Offsets in the file, and lengths. */
  readonly file: number
}

/**
 * What an open file asks for if it is read and written with O_DIRECT.
 * @returns undefined where nobody knows: Linux before 6.1, or a file system that does not tell
 * @throws SystemError
 */
export function directIoAlignment(fd: number): DirectIoAlignment | undefined {
  const buffer = new DataView(new ArrayBuffer(STATX_SIZE))
  if (libc().statx(fd, '', AT_EMPTY_PATH, STATX_DIOALIGN, buffer) < 0) throw lastError('statx', `fd ${fd}`)
  const memory = buffer.getUint32(MEMORY_ALIGN_OFFSET, true)
  const file = buffer.getUint32(FILE_ALIGN_OFFSET, true)
  const isKnown = (buffer.getUint32(0, true) & STATX_DIOALIGN) !== 0 && memory > 0 && file > 0
  return isKnown ? { memory, file } : undefined
}
