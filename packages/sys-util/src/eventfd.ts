/**
 * eventfd(2): a 64-bit counter behind a descriptor, the doorbell between KVM and this process.
 */
import { dupFd, OwnedFd } from './fd.ts'
import { lastErrno, lastError, libc } from './libc.ts'

/** Reading takes 1 off the counter instead of all of it. */
export const EFD_SEMAPHORE = 0o1
const EFD_CLOEXEC = 0o2000000
const EFD_NONBLOCK = 0o4000
const EAGAIN = 11

// One word serves all calls: they are synchronous and the kernel keeps no reference.
const word = new DataView(new ArrayBuffer(8))
const wordBytes = new Uint8Array(word.buffer)

/** An event counter. Close-on-exec and non-blocking. */
export class EventFd extends OwnedFd {
  /**
   * @param initial the counter's first value, 0 to 2^32-1; default 0
   * @param flags {@link EFD_SEMAPHORE} or 0 (default)
   * @throws SystemError
   */
  constructor(initial = 0, flags = 0) {
    const fd: number = libc().eventfd(initial, flags | EFD_CLOEXEC | EFD_NONBLOCK)
    if (fd < 0) throw lastError('eventfd')
    super(fd)
  }

  /**
   * Adds to the counter.
   * @param count 1 (default) to 2^53-1
   * @throws SystemError EAGAIN where the sum would pass 2^64-2
   */
  write(count = 1): void {
    word.setUint32(0, count >>> 0, true)
    word.setUint32(4, Math.floor(count / 0x1_0000_0000), true)
    if (libc().write(this.fd, wordBytes, 8) !== 8) throw lastError('write', `eventfd ${this.fd}`)
  }

  /**
   * Takes the counter and sets it to zero (with {@link EFD_SEMAPHORE}: takes 1).
   * @returns the count; 0 where nothing was there. Counts above 2^53 come rounded: nobody rings that often.
   * @throws SystemError
   */
  read(): number {
    if (libc().read(this.fd, wordBytes, 8) !== 8) {
      if (lastErrno() === EAGAIN) return 0
      throw lastError('read', `eventfd ${this.fd}`)
    }
    return word.getUint32(4, true) * 0x1_0000_0000 + word.getUint32(0, true)
  }

  /** A second descriptor of the same counter, owned by the caller. */
  clone(): OwnedFd {
    return new OwnedFd(dupFd(this.fd))
  }
}
