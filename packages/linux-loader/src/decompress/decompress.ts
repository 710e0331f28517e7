/**
 * Decompresses the payload of a bzImage. The codecs are libraries, loaded when a kernel needs them; this finds out which,
 * and holds them to the size that the kernel's build wrote down.
 *
 * Linux: scripts/Makefile.lib (how payloads are made), lib/decompress.c (how they are told apart).
 */

import { promisify } from 'node:util'
import { gunzip } from 'node:zlib'
import { formatSize, LoaderError } from '../loader-error.ts'
import { decompressBzip2 } from './bzip2.ts'
import { decompressLz4Legacy } from './lz4-legacy.ts'
import { decompressLzop } from './lzop.ts'
import { decompressLzma, decompressXz } from './xz.ts'

/** How a kernel is compressed. */
export type Compression = 'gzip' | 'xz' | 'zstd' | 'lz4' | 'lzo' | 'bzip2' | 'lzma'

/** Decompresses to exactly `size` bytes, or throws whatever its library throws. Never holds much more than that. */
type Codec = (input: Uint8Array, size: number) => Promise<Uint8Array>

/** The uncompressed size, as a 32-bit number: the last field of a gzip file, appended by the build to the others. */
const SIZE_TRAILER = 4

const MAGIC: readonly (readonly [Compression, readonly number[]])[] = [
  ['gzip', [0x1f, 0x8b]],
  ['xz', [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
  ['zstd', [0x28, 0xb5, 0x2f, 0xfd]],
  ['lz4', [0x02, 0x21, 0x4c, 0x18]],
  ['lzo', [0x89, 0x4c, 0x5a, 0x4f]],
  ['bzip2', [0x42, 0x5a, 0x68]],
  ['lzma', [0x5d, 0x00, 0x00]],
]

const CODECS: Readonly<Record<Compression, Codec>> = {
  gzip: (input, size) => promisify(gunzip)(input, { maxOutputLength: size }),
  xz: decompressXz,
  zstd: async (input, size) => {
    const { ZSTDDecoder } = await import('zstddec')
    const decoder = new ZSTDDecoder()
    await decoder.init()
    return decoder.decode(input, size)
  },
  lz4: decompressLz4Legacy,
  lzo: decompressLzop,
  bzip2: decompressBzip2,
  lzma: decompressLzma,
}

/** What a payload is compressed with, by its first bytes. */
export const detectCompression = (payload: Uint8Array): Compression | undefined =>
  MAGIC.find(([, magic]) => magic.every((byte, i) => payload[i] === byte))?.[0]

/**
 * Decompresses a payload, whose last four bytes say how large it becomes.
 *
 * @param maxSize most bytes to decompress to
 * @throws {LoaderError} `ERR_PAYLOAD_UNKNOWN`, `ERR_PAYLOAD_TOO_LARGE`, `ERR_PAYLOAD_CORRUPT` or
 *   `ERR_PAYLOAD_LIBRARY` with the library's error as `cause`
 */
export const decompressPayload = async (
  payload: Uint8Array,
  maxSize: number,
): Promise<{ compression: Compression; bytes: Uint8Array }> => {
  const compression = detectCompression(payload)
  if (compression === undefined || payload.length <= SIZE_TRAILER) {
    const start = Array.from(payload.subarray(0, 6), (byte) => byte.toString(16).padStart(2, '0')).join(' ')
    throw new LoaderError(
      'ERR_PAYLOAD_UNKNOWN',
      `the kernel's payload is compressed in an unknown way (${start})`,
    )
  }
  const trailer = payload.length - SIZE_TRAILER
  const size = new DataView(payload.buffer, payload.byteOffset + trailer).getUint32(0, true)
  if (size > maxSize)
    throw new LoaderError(
      'ERR_PAYLOAD_TOO_LARGE',
      `the kernel's ${compression} payload becomes ${formatSize(size)}, but at most ${formatSize(maxSize)} are allowed`,
      { size, maxSize },
    )
  const input = compression === 'gzip' ? payload : payload.subarray(0, trailer)
  return { compression, bytes: await run(compression, input, size) }
}

const run = async (compression: Compression, input: Uint8Array, size: number): Promise<Uint8Array> => {
  const fail = (reason: string, cause?: unknown): LoaderError =>
    new LoaderError(
      'ERR_PAYLOAD_CORRUPT',
      `the kernel's ${compression} payload does not decompress to the ${size} bytes that it promises: ${reason}`,
      { size },
      { cause },
    )
  let bytes: Uint8Array
  try {
    bytes = await CODECS[compression](input, size)
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    if (code === 'ERR_MODULE_NOT_FOUND' || code === 'MODULE_NOT_FOUND' || code === 'ERR_DLOPEN_FAILED')
      throw new LoaderError(
        'ERR_PAYLOAD_LIBRARY',
        `the kernel is compressed with ${compression}, and the optional library for that does not load`,
        {},
        { cause },
      )
    // WebAssembly libraries throw strings too.
    throw fail(cause instanceof Error ? cause.message : String(cause), cause)
  }
  if (bytes.length !== size) throw fail(`there are ${bytes.length}`)
  return bytes
}
