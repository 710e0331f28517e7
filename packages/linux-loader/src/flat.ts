/**
 * Loads a flat image: bytes without headers, such as a small bare-metal guest.
 */

import { HIMEM_START } from './boot-layout.ts'
import { type GuestMemory, requireRam } from './guest-memory.ts'
import { copyToGuest, type Image, imageSource } from './image-source.ts'
import type { LoadedKernel } from './loaded-kernel.ts'
import { LoaderError } from './loader-error.ts'

/** Options of {@link loadFlat}. */
export interface LoadFlatOptions {
  /** Where its first byte goes, guest-physical; default 1 MiB. */
  readonly address?: number
  /** First instruction, guest-physical; default `address`. */
  readonly entry?: number
}

/**
 * Copies an image to guest memory as it is.
 * @throws {LoaderError} `ERR_KERNEL_INVALID` for an empty image, `ERR_KERNEL_DOES_NOT_FIT`
 */
export const loadFlat = (memory: GuestMemory, image: Image, options: LoadFlatOptions = {}): LoadedKernel => {
  const { address = HIMEM_START, entry = address } = options
  const source = imageSource(image)
  if (source.size === 0) throw new LoaderError('ERR_KERNEL_INVALID', 'the flat image is empty')
  requireRam(memory, 'the flat image', address, source.size, 'ERR_KERNEL_DOES_NOT_FIT')
  copyToGuest(memory, source, 0, source.size, address)
  return {
    kind: 'flat',
    protocol: 'flat',
    entry,
    kernelStart: address,
    kernelEnd: address + source.size,
    pvhEntry: undefined,
    setupHeader: undefined,
  }
}
