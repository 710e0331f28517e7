/**
 * Loads a kernel of whatever kind the image is.
 */

import { isBzImage, loadBzImage } from './bzimage.ts'
import { isElf, loadElf } from './elf.ts'
import { loadFlat } from './flat.ts'
import { type GuestMemory, totalRam } from './guest-memory.ts'
import { type Image, type ImageSource, imageSource } from './image-source.ts'
import type { LoadedKernel } from './loaded-kernel.ts'
import { LoaderError } from './loader-error.ts'
import { unpackBzImage } from './unpack-bzimage.ts'

/** Options of {@link loadKernel}. */
export interface LoadKernelOptions {
  /** `flat` takes the image as it is, without looking; by default it must be an ELF file or a bzImage. */
  readonly format?: 'flat'
  /** Where a flat image goes, or a relocatable bzImage; for the defaults see {@link loadFlat} and {@link loadBzImage}. */
  readonly address?: number
  /**
   * Unpack a bzImage on the host and load the ELF file inside; default false, which leaves that to the guest. Faster
   * where guest code is slow, and without KASLR.
   */
  readonly unpack?: boolean
  /** How an ELF file is to be entered; default `linux64`. */
  readonly protocol?: 'linux64' | 'pvh'
  /** Lowest address that an ELF file or a bzImage may load to; default 1 MiB. */
  readonly highmemStart?: number
}

/**
 * Detects what an image is and loads it.
 *
 * @param image its bytes, or an {@link ImageFile}, which is read in pieces
 * @throws {LoaderError} `ERR_KERNEL_*`, `ERR_PAYLOAD_*`, `ERR_IMAGE_FILE`
 */
export const loadKernel = async (
  memory: GuestMemory,
  image: Image,
  options: LoadKernelOptions = {},
): Promise<LoadedKernel> => {
  const source = imageSource(image)
  if (options.format === 'flat') return loadFlat(memory, source, options)
  if (isElf(source)) return loadElf(memory, source, options)
  if (isBzImage(source) && options.unpack !== true) return loadBzImage(memory, source, options)
  if (isBzImage(source)) {
    const { elf, setupHeader } = await unpackBzImage(source, { maxSize: totalRam(memory) })
    return { ...loadElf(memory, elf, options), setupHeader }
  }
  throw new LoaderError(
    'ERR_KERNEL_UNKNOWN',
    `the image is no kernel: neither an ELF file nor a bzImage (${describe(source)})`,
    { size: source.size },
  )
}

const describe = (source: ImageSource): string => {
  if (source.size === 0) return 'it is empty'
  const start = source.read(0, Math.min(source.size, 8))
  return `its ${source.size} bytes begin with ${Array.from(start, (byte) => byte.toString(16).padStart(2, '0')).join(' ')}`
}
