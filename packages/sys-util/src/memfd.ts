/**
 * memfd_create(2): a file that lives in memory, to be mapped here and in other processes.
 */
import { OwnedFd } from './fd.ts'
import { lastError, libc } from './libc.ts'

export const MFD_ALLOW_SEALING = 0x2
export const MFD_HUGETLB = 0x4
const MFD_CLOEXEC = 0x1

/**
 * An anonymous file of `size` bytes, close-on-exec.
 * @param name shown in /proc/self/fd, up to 249 bytes
 * @param flags `MFD_*`; default 0
 * @throws SystemError
 */
export function createMemfd(name: string, size: number, flags = 0): OwnedFd {
  const fd: number = libc().memfd_create(name, flags | MFD_CLOEXEC)
  if (fd < 0) throw lastError('memfd_create', name)
  const owned = new OwnedFd(fd)
  if (libc().ftruncate(fd, size) < 0) {
    const error = lastError('ftruncate', `${size} bytes`)
    owned.close()
    throw error
  }
  return owned
}
