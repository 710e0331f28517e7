/** The checksum of the Internet protocols: RFC 1071. */

/**
 * The sum of 16-bit words in network order, not folded.
 * @param length in bytes; an odd one counts as if a zero followed
 */
export function sumWords(view: DataView, start: number, length: number): number {
  const end = start + length
  let sum = 0
  let at = start
  // Words of 32 bits: two of 16 each, of which the upper one folds down. No frame is long enough to leave 53 bits.
  for (; at + 4 <= end; at += 4) sum += view.getUint32(at)
  if (at + 2 <= end) {
    sum += view.getUint16(at)
    at += 2
  }
  return at < end ? sum + view.getUint8(at) * 256 : sum
}

/** Folds a sum into 16 bits. */
export function fold(sum: number): number {
  let folded = sum
  while (folded > 0xffff) folded = Math.floor(folded / 0x1_0000) + (folded % 0x1_0000)
  return folded
}

/** The checksum of a sum: its complement. */
export function checksum(sum: number): number {
  return ~fold(sum) & 0xffff
}
