/**
 * bzip2, through a library that reads and writes byte by byte: the ends are ours, so both are bounded.
 */

/** Decompresses one bzip2 stream. */
export const decompressBzip2 = async (input: Uint8Array, size: number): Promise<Uint8Array> => {
  const { default: Bunzip } = await import('seek-bzip')
  const output = new Uint8Array(size)
  let read = 0
  let done = 0
  Bunzip.decode(
    {
      readByte: () => {
        const byte = input[read++]
        if (byte === undefined) throw new Error('it is cut short')
        return byte
      },
      read: (target, offset, length) => {
        const bytes = input.subarray(read, read + length)
        target.set(bytes, offset)
        read += bytes.length
        return bytes.length
      },
    },
    {
      writeByte: (byte) => {
        if (done === size) throw new Error('there are more')
        output[done++] = byte
      },
    },
  )
  return output.subarray(0, done)
}
