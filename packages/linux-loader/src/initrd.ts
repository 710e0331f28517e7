/**
 * Places an initrd (a cpio archive or a file system image) in guest memory: as high as the kernel accepts, clear of the
 * kernel and of what the caller reserves. Does not look into it.
 */

import { HIMEM_START } from './boot-layout.ts'
import { type AddressRange, type GuestMemory, overlaps, ramRanges } from './guest-memory.ts'
import { copyToGuest, type Image, imageSource } from './image-source.ts'
import type { LoadedKernel } from './loaded-kernel.ts'
import { formatSize, LoaderError } from './loader-error.ts'

const PAGE_SIZE = 4096
/** What `initrd_addr_max` says in every kernel for x86-64 of this century; for those loaded without a header. */
const DEFAULT_INITRD_ADDR_MAX = 0x7fff_ffff

/** Options of {@link loadInitrd}. */
export interface LoadInitrdOptions {
  /** The loaded kernel: the initrd stays clear of it and within its `initrd_addr_max`. */
  readonly kernel: LoadedKernel
  /** Further ranges to stay clear of; default none. */
  readonly reserved?: readonly AddressRange[]
}

/**
 * Copies an initrd to the highest page-aligned place that suits.
 *
 * @returns where it is
 * @throws {LoaderError} `ERR_INITRD_DOES_NOT_FIT`, `ERR_INITRD_EMPTY`
 */
export const loadInitrd = (memory: GuestMemory, image: Image, options: LoadInitrdOptions): AddressRange => {
  const { kernel, reserved = [] } = options
  const source = imageSource(image)
  const { size } = source
  if (size === 0) throw new LoaderError('ERR_INITRD_EMPTY', 'the initrd is empty')
  const limit = (kernel.setupHeader?.get('initrd_addr_max') || DEFAULT_INITRD_ADDR_MAX) + 1
  const taken = [{ start: kernel.kernelStart, size: kernel.kernelEnd - kernel.kernelStart }, ...reserved]
  const start = findPlace(memory, size, limit, taken)
  if (start === undefined) {
    const low = memory.regions.reduce(
      (sum, { start, size }) => sum + Math.max(0, Math.min(start + size, limit) - start),
      0,
    )
    throw new LoaderError(
      'ERR_INITRD_DOES_NOT_FIT',
      `the initrd has ${formatSize(size)}, but the ${formatSize(low)} of guest memory that it may use hold the kernel ` +
        `(${formatSize(kernel.kernelEnd - kernel.kernelStart)}) and no free place that large`,
      { size, low },
    )
  }
  copyToGuest(memory, source, 0, size, start)
  return { start, size }
}

/** The highest page-aligned start below `limit` that is RAM above 1 MiB and overlaps nothing in `taken`. */
const findPlace = (
  memory: GuestMemory,
  size: number,
  limit: number,
  taken: readonly AddressRange[],
): number | undefined => {
  const descending = [...taken].sort((a, b) => b.start - a.start)
  for (const region of ramRanges(memory).reverse()) {
    let start = alignDown(Math.min(region.start + region.size, limit) - size)
    for (const range of descending)
      if (overlaps({ start, size }, range)) start = alignDown(range.start - size)
    if (start >= Math.max(region.start, HIMEM_START)) return start
  }
  return undefined
}

const alignDown = (address: number): number => Math.floor(address / PAGE_SIZE) * PAGE_SIZE
