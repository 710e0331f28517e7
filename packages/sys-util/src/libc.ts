/**
 * The one place that loads libc. Nothing is loaded at import time: the first call of {@link libc} does it.
 */

import type { KoffiFunc, LibraryHandle } from 'koffi'
import koffi from 'koffi'
import { SystemError } from './errors.ts'

const prototypes = {
  cfmakeraw: 'void cfmakeraw(void *termios)',
  close: 'int close(int fd)',
  copy_file_range:
    'int64_t copy_file_range(int in, void *in_offset, int out, void *out_offset, size_t length, unsigned int flags)',
  dlopen: 'void *dlopen(const char *path, int flags)',
  epoll_create1: 'int epoll_create1(int flags)',
  epoll_ctl: 'int epoll_ctl(int fd, int operation, int target, const void *event)',
  epoll_wait: 'int epoll_wait(int fd, void *events, int count, int timeout)',
  eventfd: 'int eventfd(unsigned int initval, int flags)',
  fallocate: 'int fallocate(int fd, int mode, int64_t offset, int64_t length)',
  fchmodat: 'int fchmodat(int directory, const void *name, unsigned int mode, int flags)',
  fcntl: 'int fcntl(int fd, int cmd, int arg)',
  fcntlPointer: 'int fcntl(int fd, int cmd, const void *argument)',
  fstatfs: 'int fstatfs(int fd, void *buffer)',
  ftruncate: 'int ftruncate(int fd, int64_t length)',
  getdents64: 'int64_t getdents64(int fd, void *buffer, size_t length)',
  getrusage: 'int getrusage(int who, void *usage)',
  getsockopt: 'int getsockopt(int fd, int level, int name, void *value, void *length)',
  // libc has no functions for io_uring: these go by the numbers of the calls, which are the same on all architectures.
  io_uring_enter:
    'int syscall(long number, int fd, unsigned int submit, unsigned int wait, unsigned int flags, uintptr_t argument, size_t size)',
  io_uring_register:
    'int syscall(long number, int fd, unsigned int opcode, const void *argument, unsigned int count)',
  io_uring_setup: 'int syscall(long number, unsigned int entries, void *params)',
  ioctlPointer: 'int ioctl(int fd, unsigned long request, void *argument)',
  ioctlValue: 'int ioctl(int fd, unsigned long request, int64_t value)',
  linkat: 'int linkat(int from, const void *name, int to, const void *new_name, int flags)',
  lseek: 'int64_t lseek(int fd, int64_t offset, int whence)',
  madvise: 'int madvise(uintptr_t address, size_t length, int advice)',
  malloc_trim: 'int malloc_trim(size_t pad)',
  memcpy: 'uintptr_t memcpy(uintptr_t to, uintptr_t from, size_t length)',
  memfd_create: 'int memfd_create(const char *name, unsigned int flags)',
  mkdirat: 'int mkdirat(int directory, const void *name, unsigned int mode)',
  mknodat: 'int mknodat(int directory, const void *name, unsigned int mode, uint64_t device)',
  mmap: 'uintptr_t mmap(uintptr_t address, size_t length, int prot, int flags, int fd, int64_t offset)',
  munmap: 'int munmap(uintptr_t address, size_t length)',
  open: 'int open(const char *path, int flags, int mode)',
  openat: 'int openat(int directory, const void *name, int flags, int mode)',
  // No function of libc before 2.43.
  openat2: 'int syscall(long number, int directory, const void *name, const void *how, size_t size)',
  pipe2: 'int pipe2(void *fds, int flags)',
  pread: 'int64_t pread(int fd, uintptr_t address, size_t count, int64_t offset)',
  preadv2: 'int64_t preadv2(int fd, uintptr_t vector, int count, int64_t offset, int flags)',
  pwrite: 'int64_t pwrite(int fd, uintptr_t address, size_t count, int64_t offset)',
  pwritev2: 'int64_t pwritev2(int fd, uintptr_t vector, int count, int64_t offset, int flags)',
  read: 'int64_t read(int fd, void *buffer, size_t count)',
  readlinkat: 'int64_t readlinkat(int directory, const void *name, void *buffer, size_t size)',
  recvmsg: 'int64_t recvmsg(int fd, void *message, int flags)',
  renameat2: 'int renameat2(int from, const void *name, int to, const void *new_name, unsigned int flags)',
  sendmsg: 'int64_t sendmsg(int fd, const void *message, int flags)',
  signal: 'uintptr_t signal(int number, uintptr_t handler)',
  socketpair: 'int socketpair(int domain, int type, int protocol, void *fds)',
  statx: 'int statx(int directory, const char *path, int flags, unsigned int mask, void *buffer)',
  symlinkat: 'int symlinkat(const void *text, int directory, const void *name)',
  tcgetattr: 'int tcgetattr(int fd, void *termios)',
  tcsetattr: 'int tcsetattr(int fd, int when, const void *termios)',
  tgkill: 'int tgkill(int pid, int tid, int number)',
  timerfd_create: 'int timerfd_create(int clock, int flags)',
  timerfd_gettime: 'int timerfd_gettime(int fd, void *value)',
  timerfd_settime: 'int timerfd_settime(int fd, int flags, void *value, void *old)',
  unlinkat: 'int unlinkat(int directory, const void *name, int flags)',
  userfaultfd: 'int syscall(long number, int flags)',
  utimensat: 'int utimensat(int directory, const void *name, const void *times, int flags)',
  write: 'int64_t write(int fd, const void *buffer, size_t count)',
} as const

// The prototypes above are the types: koffi checks the arguments against them at each call.
// biome-ignore lint/suspicious/noExplicitAny: what a C function takes and gives is said in its prototype
type LibcFunction = KoffiFunc<(...args: any[]) => any>

/** The functions of libc, and the library itself for the addresses of its symbols. */
export type Libc = { readonly lib: LibraryHandle } & Readonly<Record<keyof typeof prototypes, LibcFunction>>

let loaded: Libc | undefined

// koffi's own bound on asynchronous calls, at its largest. libuv's pool, of up to 1024 threads, is to be the limit.
const MAX_ASYNC_CALLS = 4096

/** koffi takes settings until the first library is loaded, by whomever: later they stay as they are. */
function raiseAsyncLimit(): void {
  try {
    koffi.config({ max_async_calls: MAX_ASYNC_CALLS })
  } catch {
    // Another user of koffi was first. Its bound, 256 by default, holds.
  }
}

function load(): Libc {
  raiseAsyncLimit()
  const lib = koffi.load('libc.so.6')
  const functions = {}
  for (const [key, prototype] of Object.entries(prototypes)) {
    // Bound when first asked for: koffi takes 0.1 ms for each, and a program calls a third of them.
    Object.defineProperty(functions, key, {
      configurable: true,
      get() {
        const value = lib.func(prototype)
        Object.defineProperty(functions, key, { value })
        return value
      },
    })
  }
  return Object.assign(functions, { lib }) as Libc
}

/** libc, loaded at the first call. */
export function libc(): Libc {
  loaded ??= load()
  return loaded
}

/** The positive errno value that the last call on this thread left. */
export function lastErrno(): number {
  return koffi.errno()
}

/** The error of the call that just failed. */
export function lastError(syscall: string, detail?: string): SystemError {
  return new SystemError(syscall, koffi.errno(), detail)
}
