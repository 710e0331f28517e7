/**
 * The legacy LZ4 frame, which kernels and `lz4 -l` use: blocks of 8 MiB, each behind its compressed size. The blocks
 * themselves are the library's.
 *
 * LZ4 Frame Format Description 1.6, "Legacy frame".
 */

import { viewOf } from '../fields.ts'

const LEGACY_MAGIC = 0x184c2102
const MAGIC_SIZE = 4
const BLOCK_SIZE = 8 * 2 ** 20
const LENGTH_SIZE = 4

/** Decompresses legacy frames, one or several. */
export const decompressLz4Legacy = async (input: Uint8Array, size: number): Promise<Uint8Array> => {
  const { decompress } = (await import('lz4-wasm-nodejs')).default
  const view = viewOf(input)
  const output = new Uint8Array(size)
  let done = 0
  for (let offset = MAGIC_SIZE; offset + LENGTH_SIZE <= input.length; ) {
    const length = view.getUint32(offset, true)
    offset += LENGTH_SIZE
    // Another frame may follow.
    if (length === LEGACY_MAGIC) continue
    if (offset + length > input.length)
      throw new Error(`the block at ${offset} has ${length} bytes, the payload ends at ${input.length}`)
    // The library wants the block behind its uncompressed size, which is whole for all but the last.
    const block = new Uint8Array(LENGTH_SIZE + length)
    viewOf(block).setUint32(0, Math.min(BLOCK_SIZE, size - done), true)
    block.set(input.subarray(offset, offset + length), LENGTH_SIZE)
    const bytes = decompress(block)
    if (bytes.length === 0) throw new Error(`the block at ${offset} is one too many`)
    output.set(bytes, done)
    done += bytes.length
    offset += length
  }
  return output.subarray(0, done)
}
