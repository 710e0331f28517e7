/**
 * Guest memory over mmap(2): what KVM, vhost and system calls can reach. Needs `@vmm/sys-util`.
 *
 * A range above 4 GiB is one mapping seen through several adjacent regions, so that its host addresses are
 * contiguous. Memory is taken from the host only as it is touched, huge pages apart; a view of it is made when somebody first
 * looks, as V8 counts it as memory of its own.
 * @packageDocumentation
 */
import { fstatSync, statfsSync } from 'node:fs'
import type { MappingOptions, OwnedFd } from '@vmm/sys-util'
import {
  createMemfd,
  MADV_DONTNEED,
  MADV_HUGEPAGE,
  MADV_REMOVE,
  MAP_ANONYMOUS,
  MAP_HUGETLB,
  MAP_NORESERVE,
  MAP_PRIVATE,
  MAP_SHARED,
  Mapping,
  MFD_HUGETLB,
} from '@vmm/sys-util'
import { exactLog2 } from './address.ts'
import { DirtyBitmap } from './dirty.ts'
import { hex, MemoryError } from './errors.ts'
import { GuestMemory } from './memory.ts'
import type { MemoryRange } from './range.ts'
import { splitRange } from './range.ts'
import type { FileRange } from './region.ts'
import { GuestRegion } from './region.ts'

export { type PageRun, privateRuns, residentRuns, touchedRuns } from './resident.ts'

/** Where mmap(2) and memfd_create(2) take the logarithm of the huge page size: MAP_HUGE_SHIFT in <linux/mman.h>. */
const HUGE_SHIFT = 26
/** What statfs(2) says of hugetlbfs: <linux/magic.h>. */
const HUGETLBFS_MAGIC = 0x9584_58f6

/** What all kinds of mapped memory have in common. */
export interface MappedMemoryOptions {
  /** Whether writes by this process are noted in a {@link DirtyBitmap} of 4 KiB pages; default false. */
  readonly trackDirty?: boolean
}

/** Private memory in pages of the usual size. */
export interface AnonymousOptions extends MappedMemoryOptions {
  /** Whether the host may back it with huge pages where it finds some (MADV_HUGEPAGE); default the host's setting. */
  readonly transparentHugePages?: boolean
}

/** Memory in huge pages. */
export interface HugetlbOptions extends MappedMemoryOptions {
  /** In bytes, a power of two that the host has: 2 MiB or 1 GiB on x86-64. Default the host's own default. */
  readonly pageSize?: number
}

/** Memory in a file that has no name. */
export interface MemfdOptions extends MappedMemoryOptions {
  /** Shown in /proc/self/fd; default `guest-memory`. */
  readonly name?: string
  /** Whether to take huge pages: true for the host's default size, or a size in bytes; default false. */
  readonly hugetlb?: boolean | number
}

/** Memory in a file. */
export interface FileOptions extends MappedMemoryOptions {
  /** Open for reading, and for writing too where it is shared. Stays the caller's. */
  readonly fd: number
  /** Where the first range begins in the file, in bytes, a multiple of the page size; default 0. */
  readonly offset?: number
  /**
   * Whether writes go to the file (default), or stay private to this mapping, page by page: a snapshot restored
   * this way costs what it touches.
   */
  readonly shared?: boolean
}

interface Backing {
  readonly flags: number
  readonly hugetlb: boolean | undefined
  /** The ranges lie in it one after the other. */
  readonly file?: FileRange | undefined
  readonly advice?: number | undefined
}

interface MappedRange {
  readonly start: number
  readonly mapping: Mapping
}

function hugePageBits(pageSize: number | undefined): number {
  if (pageSize === undefined) return 0
  const shift = exactLog2(pageSize)
  if (shift !== undefined && shift >= 12 && shift < 32) return shift << HUGE_SHIFT
  throw new MemoryError('ERR_MEMORY_INVALID_ARGUMENT', `a huge page size of ${pageSize} bytes`)
}

function totalSize(ranges: readonly MemoryRange[]): number {
  return ranges.reduce((sum, range) => sum + range.size, 0)
}

function checkFile(file: FileRange, size: number): void {
  if (!(Number.isSafeInteger(file.offset) && file.offset >= 0)) {
    throw new MemoryError('ERR_MEMORY_INVALID_ARGUMENT', `a file offset of ${file.offset} bytes`)
  }
  const fileSize = fstatSync(file.fd).size
  if (file.offset + size <= fileSize) return
  const message = `${size} bytes at ${hex(file.offset)} of a file of ${fileSize} bytes`
  throw new MemoryError('ERR_MEMORY_PAST_EOF', message, { expected: size })
}

function isOnHugetlbfs(fd: number): boolean {
  return statfsSync(`/proc/self/fd/${fd}`).type === HUGETLBFS_MAGIC
}

/**
 * Guest memory over mappings, and their owner.
 *
 * {@link close} takes the memory away: every view of it throws a TypeError from then on. Stop the vCPUs and close
 * the devices first, and let no other thread or memory slot use the host addresses any more.
 *
 * @example
 * ```ts
 * const ram = MappedMemory.anonymous([{ start: 0, size: 64 << 20 }])
 * for (const [slot, region] of ram.memory.regions.entries()) {
 *   vm.setUserMemoryRegion({ slot, guestAddress: region.start, size: region.size, hostAddress: region.hostAddress })
 * }
 * ram.close()
 * ```
 */
export class MappedMemory implements Disposable {
  /** The memory of all ranges. */
  readonly memory: GuestMemory
  readonly #mapped: readonly MappedRange[]
  readonly #shared: boolean
  readonly #hugetlb: boolean
  #discardsToZero: boolean
  #isOverlaid = false
  readonly #memfd: OwnedFd | undefined

  private constructor(
    ranges: readonly MemoryRange[],
    backing: Backing,
    options: MappedMemoryOptions,
    memfd?: OwnedFd,
  ) {
    const mapped: MappedRange[] = []
    const isOverlaid = () => this.#isOverlaid
    try {
      const regions: GuestRegion[] = []
      let offset = backing.file?.offset ?? 0
      for (const range of ranges) {
        const pieces = splitRange(range)
        const file = backing.file === undefined ? undefined : { fd: backing.file.fd, offset }
        const mapping = map(range, backing.flags, file)
        mapped.push({ start: range.start, mapping })
        if (backing.advice !== undefined) mapping.advise(backing.advice)
        for (const { start, size } of pieces) {
          const at = start - range.start
          regions.push(
            new GuestRegion({
              start,
              bytes: { size, open: () => viewOf(mapping, at, size) },
              hostAddress: mapping.address + BigInt(at),
              file: file && { fd: file.fd, offset: file.offset + at },
              dirty: options.trackDirty ? new DirtyBitmap(size) : undefined,
              hugetlb: backing.hugetlb,
              // For as long as nothing is laid over it, what is not there is zeros, or the file's.
              get onDemand() {
                return isOverlaid()
              },
            }),
          )
        }
        offset += range.size
      }
      this.memory = GuestMemory.fromRegions(regions)
    } catch (error) {
      for (const { mapping } of mapped) mapping.close()
      memfd?.close()
      throw error
    }
    this.#mapped = mapped
    this.#shared = (backing.flags & MAP_SHARED) !== 0
    this.#hugetlb = backing.hugetlb === true
    this.#discardsToZero = this.#shared || backing.file === undefined
    this.#memfd = memfd
  }

  /**
   * Private memory of this process, zeroed.
   * @throws MemoryError ERR_MEMORY_ALLOCATION, and what `GuestMemory.fromRanges` throws
   */
  static anonymous(ranges: readonly MemoryRange[], options: AnonymousOptions = {}): MappedMemory {
    const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
    const advice = options.transparentHugePages ? MADV_HUGEPAGE : undefined
    return new MappedMemory(ranges, { flags, hugetlb: false, advice }, options)
  }

  /**
   * Private memory in huge pages, zeroed. Sizes are multiples of the page size. The pages are set aside at once, so
   * that a host without enough of them fails here and not under the guest.
   * @throws MemoryError ERR_MEMORY_ALLOCATION, and what `GuestMemory.fromRanges` throws
   */
  static hugetlb(ranges: readonly MemoryRange[], options: HugetlbOptions = {}): MappedMemory {
    const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | hugePageBits(options.pageSize)
    return new MappedMemory(ranges, { flags, hugetlb: true }, options)
  }

  /**
   * Memory in one memfd, shared with whoever maps that too: vhost-user back ends, other processes, workers. The
   * regions' `file` says which part each is; the descriptor is open until {@link close}.
   * @throws MemoryError ERR_MEMORY_ALLOCATION, and what `GuestMemory.fromRanges` throws
   */
  static memfd(ranges: readonly MemoryRange[], options: MemfdOptions = {}): MappedMemory {
    const { name = 'guest-memory', hugetlb = false } = options
    for (const range of ranges) splitRange(range)
    const pageBits = hugePageBits(typeof hugetlb === 'number' ? hugetlb : undefined)
    const size = totalSize(ranges)
    let memfd: OwnedFd
    try {
      memfd = createMemfd(name, size, hugetlb === false ? 0 : MFD_HUGETLB | pageBits)
    } catch (cause) {
      throw new MemoryError('ERR_MEMORY_ALLOCATION', `no memfd of ${size} bytes`, { cause })
    }
    const file = { fd: memfd.fd, offset: 0 }
    return new MappedMemory(ranges, { flags: MAP_SHARED, hugetlb: hugetlb !== false, file }, options, memfd)
  }

  /**
   * Memory in a file, the ranges one after the other. Whoever can truncate the file can kill this process: a
   * truncated page raises SIGBUS when it is touched.
   * @throws MemoryError ERR_MEMORY_INVALID_ARGUMENT, ERR_MEMORY_PAST_EOF, ERR_MEMORY_ALLOCATION (EACCES for a descriptor without the rights, EINVAL
   * for an offset or size that is no multiple of the page size), and what `GuestMemory.fromRanges` throws
   */
  static file(ranges: readonly MemoryRange[], options: FileOptions): MappedMemory {
    const { fd, offset = 0, shared = true } = options
    for (const range of ranges) splitRange(range)
    const file = { fd, offset }
    checkFile(file, totalSize(ranges))
    const flags = shared ? MAP_SHARED : MAP_PRIVATE | MAP_NORESERVE
    return new MappedMemory(ranges, { flags, hugetlb: isOnHugetlbfs(fd), file }, options)
  }

  /** Whether {@link discard} leaves zeros: not where the mapping of a file is private, whose pages come back. */
  get discardsToZero(): boolean {
    return this.#discardsToZero
  }

  /**
   * Has a part of private memory be that of a file from now on: read when it is touched, copied when it is written. What was in
   * the part before is gone, and nobody writes to it meanwhile. The views stay as they are; the regions are `onDemand` from then on.
   * @param length in bytes; `address`, `length` and the offset in the file are multiples of the page size
   * @param file open for reading; it is not kept open
   * @throws MemoryError ERR_MEMORY_INVALID_ADDRESS, ERR_MEMORY_PARTIAL; ERR_MEMORY_INVALID_ARGUMENT for memory that is shared or in huge
   *   pages; ERR_MEMORY_PAST_EOF; ERR_MEMORY_ALLOCATION, of too many parts too (vm.max_map_count), and the part is as it was then
   */
  overlay(address: number, length: number, file: FileRange): void {
    if (this.#shared || this.#hugetlb) {
      const kind = this.#shared ? 'shared' : 'in huge pages'
      throw new MemoryError('ERR_MEMORY_INVALID_ARGUMENT', `memory that is ${kind} cannot be another file's`)
    }
    this.memory.requireRange(address, length)
    checkFile(file, length)
    this.#discardsToZero = false
    this.#isOverlaid = true
    for (const { start, mapping } of this.#mapped) {
      const from = Math.max(address, start)
      const to = Math.min(address + length, start + mapping.size)
      if (from >= to) continue
      try {
        mapping.replace(from - start, to - from, { fd: file.fd, offset: file.offset + from - address })
      } catch (cause) {
        const message = `cannot map ${to - from} bytes of a file at ${hex(from)}: ${String(cause)}`
        throw new MemoryError('ERR_MEMORY_ALLOCATION', message, { cause })
      }
    }
    this.memory.markDirty(address, length)
  }

  /**
   * Gives the pages of a range back to the host, as a balloon does. They read as zero afterwards, or as the file
   * where its mapping is private, and count as written.
   * @param length in bytes; `address` and `length` are multiples of the page size
   * @throws MemoryError ERR_MEMORY_INVALID_ADDRESS, ERR_MEMORY_PARTIAL; SystemError of madvise(2): EINVAL for a range
   * that is no whole pages
   */
  discard(address: number, length: number): void {
    const advice = this.#shared ? MADV_REMOVE : MADV_DONTNEED
    this.memory.requireRange(address, length)
    for (const { start, mapping } of this.#mapped) {
      const from = Math.max(address, start)
      const to = Math.min(address + length, start + mapping.size)
      if (from < to) mapping.advise(advice, from - start, to - from)
    }
    this.memory.markDirty(address, length)
  }

  /** Whether {@link close} has been called. */
  get closed(): boolean {
    return this.#mapped.every(({ mapping }) => mapping.closed)
  }

  /** Cuts off every view, unmaps the memory and closes the memfd. Idempotent. */
  close(): void {
    for (const { mapping } of this.#mapped) mapping.close()
    this.#memfd?.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }
}

function viewOf(mapping: Mapping, offset: number, size: number): Uint8Array {
  // As a view throws that was made before.
  if (mapping.closed) throw new TypeError('guest memory is closed')
  return new Uint8Array(mapping.view(offset, size))
}

function map(range: MemoryRange, flags: number, file: FileRange | undefined): Mapping {
  const options: MappingOptions = { size: range.size, flags, ...file }
  try {
    return new Mapping(options)
  } catch (cause) {
    const message = `cannot map ${range.size} bytes of guest memory at ${hex(range.start)}: ${String(cause)}`
    throw new MemoryError('ERR_MEMORY_ALLOCATION', message, { cause })
  }
}
