/**
 * What O_DIRECT asks of requests: offsets and lengths in whole blocks, memory that is aligned. Where the kernel does not tell,
 * it is tried.
 */
import { type DirectIoAlignment, directIoAlignment, Mapping, preadInto } from '@vmm/sys-util'
import { BlockError } from './error.ts'

const SECTOR_SIZE = 512
/** Of memory and blocks, that is right for every file system: at most a page. */
const PAGE_SIZE = 4096
const EINVAL = 22

/**
 * @param fd open with O_DIRECT
 * @param size of the disk in bytes
 * @throws BlockError ERR_BLOCK_SIZE for a disk that is not of whole blocks
 */
export function alignmentOf(path: string, fd: number, size: number): DirectIoAlignment {
  const alignment = directIoAlignment(fd) ?? { memory: PAGE_SIZE, file: smallestRead(fd) }
  const file = Math.max(alignment.file, SECTOR_SIZE)
  if (size % file === 0) return { memory: alignment.memory, file }
  const what = `has ${size} bytes, which is no multiple of ${file}, as O_DIRECT asks for here`
  throw new BlockError('ERR_BLOCK_SIZE', path, what, { size })
}

function smallestRead(fd: number): number {
  const page = new Mapping({ size: PAGE_SIZE })
  try {
    return preadInto(fd, page.address, SECTOR_SIZE, 0) === -EINVAL ? PAGE_SIZE : SECTOR_SIZE
  } finally {
    page.close()
  }
}
