/**
 * Takes the kernel proper, an ELF file, out of a bzImage on the host, so that the guest need not decompress it itself.
 * The kernel then starts at its linked address: there is no KASLR.
 *
 * Linux: Documentation/arch/x86/boot.rst, `payload_offset` and `payload_length`.
 */

import { parseBzImage } from './bzimage.ts'
import type { Compression } from './decompress/decompress.ts'
import { type Image, imageSource } from './image-source.ts'
import { LoaderError } from './loader-error.ts'
import type { SetupHeader } from './setup-header.ts'

/** Far above any kernel, and what libraries with 32-bit addresses can hold. */
const MAX_SIZE = 2 ** 30

/** Options of {@link unpackBzImage}. */
export interface UnpackBzImageOptions {
  /** Most bytes to unpack to, up to 1 GiB, the default. `loadKernel` allows as many as the guest has RAM. */
  readonly maxSize?: number
}

/** The kernel of a bzImage. */
export interface UnpackedBzImage {
  /** What it was compressed with. */
  readonly compression: Compression
  /** The ELF file; relocations may follow it, which a kernel at its linked address does not need. */
  readonly elf: Uint8Array
  /** The bzImage's setup header. */
  readonly setupHeader: SetupHeader
}

/**
 * Decompresses the payload of a bzImage.
 * @throws {LoaderError} `ERR_KERNEL_*` for a file that is no whole bzImage, `ERR_PAYLOAD_*` for its payload
 */
export const unpackBzImage = async (
  image: Image,
  options: UnpackBzImageOptions = {},
): Promise<UnpackedBzImage> => {
  const source = imageSource(image)
  const { header, offset, size } = parseBzImage(source)
  const payloadOffset = header.get('payload_offset')
  const payloadLength = header.get('payload_length')
  if (payloadLength === 0 || payloadOffset + payloadLength > size)
    throw new LoaderError(
      'ERR_KERNEL_INVALID',
      `the bzImage has its payload of ${payloadLength} bytes at ${payloadOffset}, but its kernel has ${size} bytes`,
      { payloadOffset, payloadLength, size },
    )
  const payload = source.read(offset + payloadOffset, payloadLength)
  // What most kernels do not need should not cost every start: it brings node:zlib.
  const { decompressPayload } = await import('./decompress/decompress.ts')
  const { compression, bytes } = await decompressPayload(
    payload,
    Math.min(options.maxSize ?? MAX_SIZE, MAX_SIZE),
  )
  return { compression, elf: bytes, setupHeader: header }
}
