/**
 * mmap(2): memory outside the JavaScript heap, seen through ArrayBuffers that are cut off before it goes.
 */
import koffi from 'koffi'
import { detach } from './detach.ts'
import { SystemError } from './errors.ts'
import { lastError, libc } from './libc.ts'

export const PROT_NONE = 0x0
export const PROT_READ = 0x1
export const PROT_WRITE = 0x2
export const PROT_EXEC = 0x4
export const MAP_SHARED = 0x01
export const MAP_PRIVATE = 0x02
export const MAP_FIXED = 0x10
export const MAP_ANONYMOUS = 0x20
export const MAP_NORESERVE = 0x4000
export const MAP_POPULATE = 0x8000
export const MAP_HUGETLB = 0x40000
export const MADV_DONTNEED = 4
export const MADV_FREE = 8
export const MADV_REMOVE = 9
export const MADV_DONTFORK = 10
export const MADV_MERGEABLE = 12
export const MADV_HUGEPAGE = 14
export const MADV_NOHUGEPAGE = 15
export const MADV_DONTDUMP = 16
export const MADV_POPULATE_READ = 22
export const MADV_POPULATE_WRITE = 23

const MAP_FAILED = 0xffff_ffff_ffff_ffffn
const EINVAL = 22

/** The largest view koffi makes of foreign memory: above it the process aborts. */
export const VIEW_SIZE_MAX = 0x1_0000_0000

/** How to map. */
export interface MappingOptions {
  /** Length in bytes, above 0. */
  readonly size: number
  /** `PROT_*`; default read and write. */
  readonly prot?: number
  /** `MAP_*`; default private and anonymous without reserve, or shared where `fd` is given. MAP_FIXED is refused. */
  readonly flags?: number
  /** A descriptor to map; the mapping does not keep it open. Default none: anonymous memory. */
  readonly fd?: number
  /** Where in the descriptor, in bytes, a multiple of the page size; default 0. */
  readonly offset?: number
}

/**
 * One mapping and the views of it. {@link close} first cuts off every view, so that a stale DataView throws a
 * TypeError instead of touching memory that has gone, and then unmaps.
 */
export class Mapping implements Disposable {
  /** Address in this process. */
  readonly address: bigint
  /** Length in bytes. */
  readonly size: number
  readonly #prot: number
  #views: ArrayBuffer[] = []
  #mapped = true

  /** @throws SystemError EINVAL for a size of 0 or MAP_FIXED, and whatever mmap(2) says */
  constructor(options: MappingOptions) {
    const { size, fd = -1, offset = 0, prot = PROT_READ | PROT_WRITE } = options
    const flags = options.flags ?? (fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)
    if ((flags & MAP_FIXED) !== 0)
      throw new SystemError('mmap', EINVAL, 'MAP_FIXED would replace memory in use')
    const address = BigInt(libc().mmap(0, size, prot, flags, fd, offset))
    if (address === MAP_FAILED) throw lastError('mmap', `${size} bytes, fd ${fd}, offset ${offset}`)
    this.address = address
    this.size = size
    this.#prot = prot
  }

  /** Whether {@link close} has been called. */
  get closed(): boolean {
    return !this.#mapped
  }

  /**
   * A view of a part of the mapping, valid until {@link close}. Make it once and keep it.
   * @param offset in bytes; default 0
   * @param length in bytes, up to {@link VIEW_SIZE_MAX}; default the rest
   * @throws RangeError for a part that is not inside the mapping
   */
  view(offset = 0, length: number = this.size - offset): ArrayBuffer {
    this.#check(offset, length)
    if (length > VIEW_SIZE_MAX)
      throw new RangeError(`view of ${length} bytes, expected up to ${VIEW_SIZE_MAX}`)
    const view = koffi.view(this.address + BigInt(offset), length)
    this.#views.push(view)
    return view
  }

  /**
   * madvise(2) for a part of the mapping.
   * @throws RangeError for a part that is not inside the mapping, SystemError
   */
  advise(advice: number, offset = 0, length: number = this.size - offset): void {
    this.#check(offset, length)
    if (libc().madvise(this.address + BigInt(offset), length, advice) < 0) {
      throw lastError('madvise', `advice ${advice}, ${length} bytes at ${offset}`)
    }
  }

  /**
   * Puts a part of a file in the place of a part of the mapping: what was there is gone, what is written stays private. Views go on
   * being of the same addresses.
   * @param offset in bytes, a multiple of the page size, as is `length`
   * @param file the descriptor, which is not kept open, and where in it, in bytes, a multiple of the page size
   * @throws RangeError for a part that is not inside the mapping, SystemError of mmap(2); the part is as it was then
   */
  replace(offset: number, length: number, file: { readonly fd: number; readonly offset: number }): void {
    this.#check(offset, length)
    const flags = MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED
    const at = this.address + BigInt(offset)
    if (BigInt(libc().mmap(at, length, this.#prot, flags, file.fd, file.offset)) === MAP_FAILED) {
      throw lastError('mmap', `${length} bytes at ${offset}, fd ${file.fd}, offset ${file.offset}`)
    }
  }

  /** Cuts off the views, then unmaps. Idempotent. No thread and no KVM memory slot may use the memory any more. */
  close(): void {
    if (!this.#mapped) return
    this.#mapped = false

    for (const view of this.#views) detach(view)
    this.#views = []
    if (libc().munmap(this.address, this.size) < 0) throw lastError('munmap', `${this.size} bytes`)
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #check(offset: number, length: number): void {
    if (!this.#mapped) throw new SystemError('mmap', EINVAL, 'the mapping is closed')
    if (offset >= 0 && length >= 0 && offset + length <= this.size) return
    throw new RangeError(`${length} bytes at ${offset} of a mapping of ${this.size} bytes`)
  }
}
