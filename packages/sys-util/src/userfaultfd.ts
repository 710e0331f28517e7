/**
 * userfaultfd(2): memory whose missing pages are this process's to give. Whoever touches one, by a load, a system call or
 * KVM_RUN, waits in the kernel until a page is put in its place. Documentation/admin-guide/mm/userfaultfd.rst.
 *
 * It is the mode for missing pages; write protection, minor faults, and events of fork and remap are not here.
 */
import { errnoName, SystemError } from './errors.ts'
import { OwnedFd } from './fd.ts'
import { ioctl, ioctlRaw } from './ioctl.ts'
import { lastErrno, lastError, libc } from './libc.ts'
import type { Address } from './transfer.ts'
import {
  UFFD_API,
  UFFD_EVENT_PAGEFAULT,
  UFFD_EVENT_REMOVE,
  UFFD_FEATURE_EVENT_REMOVE,
  UFFD_FEATURE_THREAD_ID,
  UFFD_PAGEFAULT_FLAG_WRITE,
  UFFDIO_API,
  UFFDIO_COPY,
  UFFDIO_REGISTER,
  UFFDIO_REGISTER_MODE_MISSING,
  UFFDIO_UNREGISTER,
  UFFDIO_WAKE,
  UFFDIO_ZEROPAGE,
  USERFAULTFD_IOC_NEW,
  uffd_msg,
  uffdio_api,
  uffdio_copy,
  uffdio_range,
  uffdio_register,
  uffdio_zeropage,
} from './userfaultfd-abi.ts'

const O_CLOEXEC = 0o2000000
const O_NONBLOCK = 0o4000
const O_RDWR = 2
const EPERM = 1
const EAGAIN = 11
const ENOSYS = 38

/** Where others than root get one, from Linux 6.1 on: whoever may open it. */
const DEVICE = '/dev/userfaultfd'
/** libc has no function for it, and each architecture a number of its own. */
const SYSCALL_NUMBERS: Partial<Record<NodeJS.Architecture, number>> = { x64: 323, arm64: 282 }

/** Messages that one read takes at most. */
const BATCH = 32
const HIGH_WORD = 2 ** 32

/** Who is told of what happens to the memory. */
export interface UserFaultHandler {
  /**
   * A thread waits for a page that is missing.
   * @param address of the page, a multiple of the page size
   * @param threadId of the thread, as this process numbers it
   * @param isWrite whether it is about to write
   */
  pageFault(address: number, threadId: number, isWrite: boolean): void
  /**
   * Pages were given back, by MADV_DONTNEED or MADV_REMOVE: they are missing again. Whoever does that waits until this has been
   * read, and {@link UserFaultFd.copy} fails with EAGAIN until then and a moment longer.
   * @param start of the first byte
   * @param end of the byte after the last
   */
  remove(start: number, end: number): void
}

/** Addresses in user space are exact as numbers: it ends below 2^47, and nobody asks mmap(2) for more. */
function getAddress(view: DataView, offset: number): number {
  return view.getUint32(offset + 4, true) * HIGH_WORD + view.getUint32(offset, true)
}

function setAddress(view: DataView, offset: number, value: Address): void {
  const number = Number(value)
  view.setUint32(offset, number >>> 0, true)
  view.setUint32(offset + 4, Math.floor(number / HIGH_WORD), true)
}

/** A descriptor for faults of the kernel on this process's behalf too, which KVM and system calls make. */
function open(): number {
  const number = SYSCALL_NUMBERS[process.arch]
  const fd: number = number === undefined ? -1 : libc().userfaultfd(number, O_CLOEXEC | O_NONBLOCK)
  if (fd >= 0) return fd
  const errno = number === undefined ? ENOSYS : lastErrno()
  if (errno !== EPERM) throw new SystemError('userfaultfd', errno)
  const device: number = libc().open(DEVICE, O_RDWR | O_CLOEXEC, 0)
  if (device < 0) {
    const why = `vm.unprivileged_userfaultfd is 0, and ${DEVICE} cannot be opened (${errnoName(lastErrno())})`
    throw new SystemError('userfaultfd', EPERM, why)
  }
  const owner = new OwnedFd(device)
  try {
    return ioctl(device, USERFAULTFD_IOC_NEW, 'USERFAULTFD_IOC_NEW', O_CLOEXEC | O_NONBLOCK)
  } finally {
    owner.close()
  }
}

/**
 * A userfaultfd: close-on-exec and non-blocking, to be polled for EPOLLIN. {@link close} unregisters all of its memory:
 * who waits goes on, and missing pages are zeros from then on.
 *
 * Whoever serves it must not touch missing pages himself, nor wait for a thread that does: serve it from a thread of its own.
 *
 * @example
 * ```ts
 * const faults = new UserFaultFd()
 * faults.register(mapping.address, mapping.size)
 * watch(faults.fd, EPOLLIN, () => faults.read({
 *   pageFault: (address) => faults.copy(address, addressOf(page), page.length),
 *   remove: () => {},
 * }))
 * ```
 */
export class UserFaultFd extends OwnedFd {
  readonly #range = new DataView(new ArrayBuffer(uffdio_range.size))
  readonly #copy = new DataView(new ArrayBuffer(uffdio_copy.size))
  readonly #zeropage = new DataView(new ArrayBuffer(uffdio_zeropage.size))
  readonly #messages = new DataView(new ArrayBuffer(BATCH * uffd_msg.size))

  /**
   * @param fd one that another thread of this process has made and released: owned from now on; default a new one
   * @throws SystemError EPERM where this process may have none (vm.unprivileged_userfaultfd, /dev/userfaultfd, or a seccomp
   *   filter), ENOSYS where the kernel has none, EINVAL where it is older than Linux 4.14
   */
  constructor(fd?: number) {
    super(fd ?? open())
    if (fd !== undefined) return
    const api = new DataView(new ArrayBuffer(uffdio_api.size))
    setAddress(api, uffdio_api.api, UFFD_API)
    setAddress(api, uffdio_api.features, UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_THREAD_ID)
    try {
      ioctl(this.fd, UFFDIO_API, 'UFFDIO_API', api)
    } catch (error) {
      this.close()
      throw error
    }
  }

  /**
   * Has threads that touch missing pages of a range wait for them.
   * @param address of anonymous memory, a multiple of the page size
   * @param size in bytes, whole pages
   * @throws SystemError EBUSY for memory that another one has, EINVAL for what is no such memory
   */
  register(address: Address, size: number): void {
    const argument = new DataView(new ArrayBuffer(uffdio_register.size))
    setAddress(argument, uffdio_range.start, address)
    setAddress(argument, uffdio_range.len, size)
    setAddress(argument, uffdio_register.mode, UFFDIO_REGISTER_MODE_MISSING)
    ioctl(this.fd, UFFDIO_REGISTER, 'UFFDIO_REGISTER', argument)
  }

  /**
   * Lets go of a range: who waits for a page of it goes on, and pages that are missing are zeros from now on.
   * @throws SystemError
   */
  unregister(address: Address, size: number): void {
    ioctl(this.fd, UFFDIO_UNREGISTER, 'UFFDIO_UNREGISTER', this.#rangeOf(address, size))
  }

  /**
   * Puts copies of pages where they are missing, and wakes who waits for them.
   * @param to where, a multiple of the page size
   * @param from any address in this process whose pages are there
   * @param size in bytes, whole pages
   * @returns how many bytes were copied, fewer where a page is there already; or the negative errno: -EEXIST where the first
   *   page is there, -EAGAIN while pages are given back, -ENOENT for memory that is not registered any more
   */
  copy(to: Address, from: Address, size: number): number {
    const argument = this.#copy
    setAddress(argument, uffdio_copy.dst, to)
    setAddress(argument, uffdio_copy.src, from)
    setAddress(argument, uffdio_copy.len, size)
    return this.#fill(UFFDIO_COPY, argument, uffdio_copy.copy, size)
  }

  /** Makes missing pages zeros, and wakes who waits for them: as {@link copy}, and the pages cost nothing until they are written. */
  zero(address: Address, size: number): number {
    const argument = this.#zeropage
    setAddress(argument, uffdio_range.start, address)
    setAddress(argument, uffdio_range.len, size)
    return this.#fill(UFFDIO_ZEROPAGE, argument, uffdio_zeropage.zeropage, size)
  }

  /**
   * Wakes who waits for pages of a range, to look again: where they are there by now.
   * @throws SystemError
   */
  wake(address: Address, size: number): void {
    ioctl(this.fd, UFFDIO_WAKE, 'UFFDIO_WAKE', this.#rangeOf(address, size))
  }

  /**
   * Takes what has happened, up to 32 things at once.
   * @returns how many; 0 where there is nothing to take
   * @throws SystemError
   */
  read(handler: UserFaultHandler): number {
    const messages = this.#messages
    const length: number = libc().read(this.fd, messages, messages.byteLength)
    if (length < 0) {
      if (lastErrno() === EAGAIN) return 0
      throw lastError('read', `userfaultfd ${this.fd}`)
    }
    for (let at = 0; at < length; at += uffd_msg.size) {
      const event = messages.getUint8(at + uffd_msg.event)
      if (event === UFFD_EVENT_PAGEFAULT) {
        const { flags, address, ptid } = uffd_msg.pagefault
        const isWrite = (messages.getUint32(at + flags, true) & UFFD_PAGEFAULT_FLAG_WRITE) !== 0
        handler.pageFault(getAddress(messages, at + address), messages.getUint32(at + ptid, true), isWrite)
      } else if (event === UFFD_EVENT_REMOVE) {
        const { start, end } = uffd_msg.remove
        handler.remove(getAddress(messages, at + start), getAddress(messages, at + end))
      }
    }
    return length / uffd_msg.size
  }

  #rangeOf(address: Address, size: number): DataView {
    setAddress(this.#range, uffdio_range.start, address)
    setAddress(this.#range, uffdio_range.len, size)
    return this.#range
  }

  /** The kernel writes how far it came into the argument. */
  #fill(request: number, argument: DataView, doneOffset: number, size: number): number {
    argument.setBigInt64(doneOffset, 0n, true)
    const result = ioctlRaw(this.fd, request, argument)
    if (result >= 0) return size
    // What was not begun has 0 there, or the negative errno once more.
    if (argument.getInt32(doneOffset + 4, true) < 0) return result
    return getAddress(argument, doneOffset) || result
  }
}
