/**
 * The system calls a VMM needs and Node.js does not have.
 * @packageDocumentation
 */
export { addressOf } from './address.ts'
export type { NameBytes } from './beneath.ts'
export {
  makeDirectoryAt,
  makeNodeAt,
  makeSymlinkAt,
  openBeneath,
  renameAt,
  unlinkAt,
} from './beneath.ts'
export type { FileTime } from './by-descriptor.ts'
export { chmodFd, linkFd, openDescriptorNames, readLinkFd, reopenFd, setTimesFd } from './by-descriptor.ts'
export type { DirectIoAlignment } from './direct-io.ts'
export { directIoAlignment } from './direct-io.ts'
export { DirectoryEntries, seekDirectory } from './directory-entries.ts'
export {
  EPOLLERR,
  EPOLLET,
  EPOLLHUP,
  EPOLLIN,
  EPOLLONESHOT,
  EPOLLOUT,
  EPOLLPRI,
  EPOLLRDHUP,
} from './epoll.ts'
export { errnoName, SystemError } from './errors.ts'
export { EFD_SEMAPHORE, EventFd } from './eventfd.ts'
export { closeFd, createPipe, dupFd, OwnedFd, openPath, setNonBlocking } from './fd.ts'
export { lockFile, unlockFile } from './file-lock.ts'
export { FileStatus, FileSystemStatus } from './file-status.ts'
export type { MemoryPieces, MemoryRegion } from './file-transfer.ts'
export { FileTransfer, TO_FILE, TO_MEMORY } from './file-transfer.ts'
export { trimHeap } from './heap.ts'
export {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  punchHole,
  seekData,
  seekHole,
  zeroRange,
} from './holes.ts'
export type { Completion, IoUringOptions } from './io-uring.ts'
export { IoUring } from './io-uring.ts'
export type { IoctlArgument } from './ioctl.ts'
export { _IO, _IOR, _IOW, _IOWR, ioctl, ioctlAsync, ioctlRaw } from './ioctl.ts'
export { createMemfd, MFD_ALLOW_SEALING, MFD_HUGETLB } from './memfd.ts'
export type { MappingOptions } from './mmap.ts'
export {
  MADV_DONTDUMP,
  MADV_DONTFORK,
  MADV_DONTNEED,
  MADV_FREE,
  MADV_HUGEPAGE,
  MADV_MERGEABLE,
  MADV_NOHUGEPAGE,
  MADV_POPULATE_READ,
  MADV_POPULATE_WRITE,
  MADV_REMOVE,
  MAP_ANONYMOUS,
  MAP_HUGETLB,
  MAP_NORESERVE,
  MAP_POPULATE,
  MAP_PRIVATE,
  MAP_SHARED,
  Mapping,
  PROT_EXEC,
  PROT_NONE,
  PROT_READ,
  PROT_WRITE,
  VIEW_SIZE_MAX,
} from './mmap.ts'
export { allocateRange, copyRange, seekRange, truncateFd } from './ranges.ts'
export {
  currentThreadId,
  installNoopHandler,
  SIGRTMAX,
  SIGRTMIN,
  signalThread,
  threadBlockedSignals,
  threadIds,
  threadSyscall,
} from './signal.ts'
export type { ReceivedMessage } from './socket.ts'
export { createSocketPair, receiveWithFds, SCM_MAX_FD, sendWithFds } from './socket.ts'
export { RawTerminal } from './terminal.ts'
export { countPoolThreads, threadPoolBounds } from './thread-pool.ts'
export { countThreadWaits } from './thread-waits.ts'
export { TimerFd } from './timerfd.ts'
export type { Address } from './transfer.ts'
export { copyInto, IOV_MAX, IoVector, preadInto, pwriteFrom, RWF_NOWAIT } from './transfer.ts'
export type { UserFaultHandler } from './userfaultfd.ts'
export { UserFaultFd } from './userfaultfd.ts'
export type { Watch, WatchCallback } from './watch.ts'
export { watch } from './watch.ts'
