/**
 * Small ELF images for tests: what a linker would make, and what none would.
 */

export const EM_386 = 3
export const EM_X86_64 = 62
export const PT_LOAD = 1
/** Where {@link kernelImage} is loaded and entered, unless told otherwise. */
export const LOAD_ADDRESS = 0x100_0000

const EHDR_SIZE = 64
const PHDR_SIZE = 56

/** One program header and what it loads. */
export interface Segment {
  readonly type: number
  /** Physical (and virtual) address. */
  readonly address: number
  readonly data: Uint8Array
  /** p_memsz; default the data's length. */
  readonly memorySize?: number
}

/** A little-endian ELF64 executable that is entered at its first segment. */
export function elf64(image: { machine: number; segments: readonly Segment[] }): Buffer {
  const { machine, segments } = image
  const headers = EHDR_SIZE + PHDR_SIZE * segments.length
  const out = Buffer.alloc(headers + segments.reduce((sum, { data }) => sum + data.length, 0))
  out.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1])
  out.writeUInt16LE(2, 16)
  out.writeUInt16LE(machine, 18)
  out.writeUInt32LE(1, 20)
  out.writeBigUInt64LE(BigInt(segments[0]?.address ?? 0), 24)
  out.writeBigUInt64LE(BigInt(EHDR_SIZE), 32)
  out.writeUInt16LE(EHDR_SIZE, 52)
  out.writeUInt16LE(PHDR_SIZE, 54)
  out.writeUInt16LE(segments.length, 56)
  let offset = headers
  segments.forEach(({ type, address, data, memorySize }, index) => {
    const at = EHDR_SIZE + PHDR_SIZE * index
    out.writeUInt32LE(type, at)
    out.writeUInt32LE(7, at + 4)
    out.writeBigUInt64LE(BigInt(offset), at + 8)
    out.writeBigUInt64LE(BigInt(address), at + 16)
    out.writeBigUInt64LE(BigInt(address), at + 24)
    out.writeBigUInt64LE(BigInt(data.length), at + 32)
    out.writeBigUInt64LE(BigInt(memorySize ?? data.length), at + 40)
    out.set(data, offset)
    offset += data.length
  })
  return out
}

/** A 64-bit kernel that is nothing but some machine code (guest-code.ts). */
export function kernelImage(code: readonly number[], address: number = LOAD_ADDRESS): Buffer {
  const segments = [{ type: PT_LOAD, address, data: Uint8Array.from(code) }]
  return elf64({ machine: EM_X86_64, segments })
}

/** The header of a 32-bit x86 executable. */
export function elf32(): Buffer {
  const out = Buffer.alloc(4096)
  out.set([0x7f, 0x45, 0x4c, 0x46, 1, 1, 1])
  out.writeUInt16LE(2, 16)
  out.writeUInt16LE(EM_386, 18)
  out.writeUInt32LE(1, 20)
  return out
}
