/**
 * xz (with the x86 filter that kernels use) and the older .lzma, both through liblzma.
 */

/** A kernel needs a dictionary of 32 MiB at most, or 64 MiB in .lzma files; xz -9 asks for 65 MiB in all. */
const MEMORY_LIMIT = 256 * 2 ** 20

/** Decompresses an .xz file. */
export const decompressXz = (input: Uint8Array, size: number): Promise<Uint8Array> =>
  decode('streamDecoder', input, size)

/** Decompresses an .lzma file. */
export const decompressLzma = (input: Uint8Array, size: number): Promise<Uint8Array> =>
  decode('aloneDecoder', input, size)

const decode = async (
  decoder: 'streamDecoder' | 'aloneDecoder',
  input: Uint8Array,
  size: number,
): Promise<Uint8Array> => {
  const { default: lzma } = await import('lzma-native')
  const stream = lzma.createStream(decoder, { memlimit: MEMORY_LIMIT })
  stream.end(input)
  const output = new Uint8Array(size)
  let done = 0
  // Leaving the loop destroys the stream: nothing is decompressed beyond the size.
  for await (const chunk of stream as AsyncIterable<Uint8Array>) {
    if (done + chunk.length > size) throw new Error('there are more')
    output.set(chunk, done)
    done += chunk.length
  }
  return output.subarray(0, done)
}
