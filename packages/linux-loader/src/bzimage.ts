/**
 * Loads a bzImage as it is: the protected-mode part with the kernel's own decompressor, entered at its 64-bit entry
 * point. The real-mode setup code is not used; its header is handed on.
 *
 * Linux: Documentation/arch/x86/boot.rst, "64-bit boot protocol".
 */

import { HIMEM_START } from './boot-layout.ts'
import { viewOf } from './fields.ts'
import { type GuestMemory, requireRam } from './guest-memory.ts'
import { copyToGuest, type Image, type ImageSource, imageSource } from './image-source.ts'
import type { LoadedKernel } from './loaded-kernel.ts'
import { formatRange, hex, LoaderError } from './loader-error.ts'
import {
  BOOT_FLAG,
  BOOT_PROTOCOL_2_12,
  LOADED_HIGH,
  SETUP_HEADER,
  SETUP_HEADER_MAGIC,
  SETUP_HEADER_OFFSET,
  SETUP_HEADER_SIZE,
  SetupHeader,
  XLF_CAN_BE_LOADED_ABOVE_4G,
  XLF_KERNEL_64,
} from './setup-header.ts'

const SECTOR_SIZE = 512
/** What `setup_sects` of 0 stands for. */
const DEFAULT_SETUP_SECTS = 4
/** The header's end is the target of the jump over it: the byte at 0x201, counted from 0x202. */
const JUMP_OFFSET = 0x201
const JUMP_END = 0x202
/** `syssize` counts in these. */
const PARAGRAPH_SIZE = 16
/** The 64-bit entry point, from the start of the protected-mode part. */
const ENTRY_64_OFFSET = 0x200
const PROBE_SIZE = SETUP_HEADER_OFFSET + SETUP_HEADER_SIZE

/** Where the parts of a bzImage lie in the file. */
export interface BzImageLayout {
  /** The setup header. */
  readonly header: SetupHeader
  /** File offset of the protected-mode part. */
  readonly offset: number
  /** Its bytes. */
  readonly size: number
}

/** Options of {@link loadBzImage}. */
export interface LoadBzImageOptions {
  /**
   * Where the protected-mode part goes, guest-physical, a multiple of the kernel's alignment; only a relocatable
   * kernel can be moved. Default: what the header prefers, usually 16 MiB.
   */
  readonly address?: number
  /** Lowest address that it may load to; default 1 MiB. */
  readonly highmemStart?: number
}

/** Whether an image begins as a bzImage does. */
export const isBzImage = (source: ImageSource): boolean => {
  if (source.size < PROBE_SIZE) return false
  const view = viewOf(source.read(0, PROBE_SIZE))
  return (
    SETUP_HEADER.boot_flag.get(view, SETUP_HEADER_OFFSET) === BOOT_FLAG &&
    SETUP_HEADER.header.get(view, SETUP_HEADER_OFFSET) === SETUP_HEADER_MAGIC
  )
}

/**
 * Finds the parts of a bzImage for x86-64.
 * @throws {LoaderError} `ERR_KERNEL_UNKNOWN`, `ERR_KERNEL_INVALID`, `ERR_KERNEL_32BIT`, `ERR_KERNEL_TRUNCATED`
 */
export const parseBzImage = (image: Image): BzImageLayout => {
  const source = imageSource(image)
  if (!isBzImage(source)) throw new LoaderError('ERR_KERNEL_UNKNOWN', 'the image is not a bzImage')
  const header = readHeader(source)
  const version = header.get('version')
  if ((header.get('loadflags') & LOADED_HIGH) === 0)
    throw new LoaderError(
      'ERR_KERNEL_INVALID',
      'the kernel is a zImage, which loads below 1 MiB: expected a bzImage',
    )
  if (version < BOOT_PROTOCOL_2_12)
    throw new LoaderError(
      'ERR_KERNEL_32BIT',
      `the bzImage has boot protocol ${hex(version)}: the 64-bit entry point came with ${hex(BOOT_PROTOCOL_2_12)}`,
      { version },
    )
  if ((header.get('xloadflags') & XLF_KERNEL_64) === 0)
    throw new LoaderError('ERR_KERNEL_32BIT', 'the bzImage holds a 32-bit kernel: expected one for x86-64')
  const offset = ((header.get('setup_sects') || DEFAULT_SETUP_SECTS) + 1) * SECTOR_SIZE
  const declared = header.get('syssize') * PARAGRAPH_SIZE
  // Not every build pads the file to the paragraph that syssize counts.
  if (declared <= ENTRY_64_OFFSET || offset + declared - PARAGRAPH_SIZE >= source.size)
    throw new LoaderError(
      'ERR_KERNEL_TRUNCATED',
      `the bzImage is cut short: its kernel takes ${declared} bytes from ${offset} on, the file has ${source.size}`,
      { offset, declared, size: source.size },
    )
  return { header, offset, size: Math.min(declared, source.size - offset) }
}

/**
 * Loads the protected-mode part of a bzImage. The kernel decompresses itself, within `kernelStart` to `kernelEnd`.
 * @throws {LoaderError} `ERR_KERNEL_*`; everything is checked before the first byte is written
 */
export const loadBzImage = (
  memory: GuestMemory,
  image: Image,
  options: LoadBzImageOptions = {},
): LoadedKernel => {
  const { highmemStart = HIMEM_START } = options
  const source = imageSource(image)
  const { header, offset, size } = parseBzImage(source)
  const address = loadAddress(header, options.address)
  if (address < highmemStart)
    throw new LoaderError(
      'ERR_KERNEL_TOO_LOW',
      `the bzImage would load at ${hex(address)}, below ${hex(highmemStart)}`,
      { address, highmemStart },
    )
  // It moves itself up to the address that it prefers before it decompresses itself (boot.rst, `init_size`).
  const runtimeStart = Math.max(address, header.get('pref_address'))
  const memorySize = Math.max(size, runtimeStart - address + header.get('init_size'))
  if (address + memorySize > 2 ** 32 && (header.get('xloadflags') & XLF_CAN_BE_LOADED_ABOVE_4G) === 0)
    throw new LoaderError(
      'ERR_LOADER_ARGUMENT',
      `the kernel must load below 4 GiB, not at ${formatRange(address, memorySize)}`,
      { address, memorySize },
    )
  requireRam(memory, 'the kernel', address, memorySize, 'ERR_KERNEL_DOES_NOT_FIT')
  copyToGuest(memory, source, offset, size, address)
  const setupHeader = new SetupHeader(header.bytes)
  setupHeader.set('code32_start', address)
  return {
    kind: 'bzimage',
    protocol: 'linux-bzimage',
    entry: address + ENTRY_64_OFFSET,
    kernelStart: address,
    kernelEnd: address + memorySize,
    pvhEntry: undefined,
    setupHeader,
  }
}

const readHeader = (source: ImageSource): SetupHeader => {
  const bytes = source.read(0, PROBE_SIZE)
  const end = JUMP_END + (bytes[JUMP_OFFSET] ?? 0)
  return new SetupHeader(bytes.subarray(SETUP_HEADER_OFFSET, Math.min(end, PROBE_SIZE)))
}

const loadAddress = (header: SetupHeader, wanted: number | undefined): number => {
  const preferred = header.get('pref_address')
  if (wanted === undefined || wanted === preferred) return preferred
  const alignment = header.get('kernel_alignment')
  if (header.get('relocatable_kernel') === 0 || alignment === 0)
    throw new LoaderError(
      'ERR_LOADER_ARGUMENT',
      `the kernel is not relocatable: it loads at ${hex(preferred)}, not at ${hex(wanted)}`,
      { wanted, preferred },
    )
  if (!Number.isSafeInteger(wanted) || wanted < 0 || wanted % alignment !== 0)
    throw new LoaderError(
      'ERR_LOADER_ARGUMENT',
      `the kernel cannot load at ${hex(wanted)}: it is aligned to ${hex(alignment)}`,
      { wanted, alignment },
    )
  return wanted
}
