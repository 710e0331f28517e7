/**
 * The lzop container, in which kernels keep LZO: a header, then blocks behind their sizes and checksums. The blocks
 * themselves are the library's.
 *
 * Linux: lib/decompress_unlzo.c. LZO, as lzop writes it, is LZO1X.
 */

import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { viewOf } from '../fields.ts'

const MAGIC_SIZE = 9
/** Versions: of lzop, of the library, needed to extract; then method and level. Present since version 0.940. */
const VERSIONS_SIZE = 8
const VERSION_0_940 = 0x0940
const FLAGS_SIZE = 4
/** Mode and the two halves of the modification time. */
const FILE_INFO_SIZE = 12
const FILTER_SIZE = 4
const CHECKSUM_SIZE = 4

const F_ADLER32_D = 0x0000_0001
const F_ADLER32_C = 0x0000_0002
const F_CRC32_D = 0x0000_0100
const F_CRC32_C = 0x0000_0200
const F_H_FILTER = 0x0000_0800
/** lzop's MAX_BLOCK_SIZE is larger, but it never writes blocks above 256 KiB, and the library has 32 MiB in all. */
const BLOCK_MAX = 2 ** 20
/** FFmpeg's decoder reads and writes a little past the ends. */
const PADDING = 16

type BlockDecoder = (block: Uint8Array, size: number) => Uint8Array

/** Decompresses one lzop file. */
export const decompressLzop = async (input: Uint8Array, size: number): Promise<Uint8Array> => {
  const decode = await blockDecoder()
  const view = viewOf(input)
  const { flags, end } = readHeader(view)
  const output = new Uint8Array(size)
  let done = 0
  let offset = end
  for (;;) {
    const blockSize = view.getUint32(offset)
    if (blockSize === 0) return output.subarray(0, done)
    const length = view.getUint32(offset + 4)
    offset += 8
    offset += (isSet(flags, F_ADLER32_D) + isSet(flags, F_CRC32_D)) * CHECKSUM_SIZE
    // A block that did not shrink is stored, without a checksum of its own.
    const stored = length >= blockSize
    if (!stored) offset += (isSet(flags, F_ADLER32_C) + isSet(flags, F_CRC32_C)) * CHECKSUM_SIZE
    if (
      length > blockSize ||
      blockSize > BLOCK_MAX ||
      done + blockSize > size ||
      offset + length > input.length
    )
      throw new Error(
        `the block at ${offset} turns ${length} bytes into ${blockSize}, after ${done} of ${size}`,
      )
    const block = input.subarray(offset, offset + length)
    output.set(stored ? block : decode(block, blockSize), done)
    done += blockSize
    offset += length
  }
}

const isSet = (flags: number, bit: number): 0 | 1 => ((flags & bit) !== 0 ? 1 : 0)

const readHeader = (view: DataView): { flags: number; end: number } => {
  let offset = MAGIC_SIZE
  if (view.getUint16(offset) < VERSION_0_940) throw new Error('the file is of an lzop before 0.940')
  offset += VERSIONS_SIZE
  const flags = view.getUint32(offset)
  offset += FLAGS_SIZE
  if (isSet(flags, F_H_FILTER) === 1) offset += FILTER_SIZE
  offset += FILE_INFO_SIZE
  const nameLength = view.getUint8(offset)
  return { flags, end: offset + 1 + nameLength + CHECKSUM_SIZE }
}

/** The library is made for browsers: it is given the module that it would fetch. */
const blockDecoder = async (): Promise<BlockDecoder> => {
  const { default: createModule } = await import('lzo-wasm/lzo-wasm.js')
  const wasmBinary = await readFile(createRequire(import.meta.url).resolve('lzo-wasm/lzo-wasm.wasm'))
  const library = await createModule({ wasmBinary, printErr: () => {} })
  const input = library._malloc(BLOCK_MAX + PADDING)
  return (block, size) => {
    library.HEAPU8.set(block, input)
    const output = library._decompress(input, block.length, size)
    try {
      return library.HEAPU8.slice(output, output + size)
    } finally {
      library._free(output)
    }
  }
}
