/** Builds small ELF and bzImage files, right by default and wrong where a test says so. */

import { SETUP_HEADER_OFFSET, SetupHeader, type SetupHeaderField } from '../src/setup-header.ts'

export interface ElfSegment {
  readonly type?: number
  readonly paddr?: number
  readonly bytes?: Uint8Array
  /** Default: as many as `bytes`. */
  readonly memsz?: number
  /** Default: where `bytes` are. */
  readonly offset?: number
  /** Default: as many as `bytes`. */
  readonly filesz?: number
}

export const PT_LOAD = 1
export const PT_NOTE = 4
export const EHDR_SIZE = 64
export const PHDR_SIZE = 56

export const elfImage = (entry: number, segments: readonly ElfSegment[]): Uint8Array => {
  const dataStart = EHDR_SIZE + segments.length * PHDR_SIZE
  const total = segments.reduce((sum, { bytes }) => sum + (bytes?.length ?? 0), dataStart)
  const image = new Uint8Array(total)
  const view = new DataView(image.buffer)
  image.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1])
  view.setUint16(16, 2, true)
  view.setUint16(18, 62, true)
  view.setUint32(20, 1, true)
  view.setBigUint64(24, BigInt(entry), true)
  view.setBigUint64(32, BigInt(EHDR_SIZE), true)
  view.setUint16(52, EHDR_SIZE, true)
  view.setUint16(54, PHDR_SIZE, true)
  view.setUint16(56, segments.length, true)
  let data = dataStart
  for (const [i, segment] of segments.entries()) {
    const { type = PT_LOAD, paddr = 0, bytes = new Uint8Array(0) } = segment
    const { memsz = bytes.length, offset = data, filesz = bytes.length } = segment
    const base = EHDR_SIZE + i * PHDR_SIZE
    view.setUint32(base, type, true)
    view.setBigUint64(base + 8, BigInt(offset), true)
    view.setBigUint64(base + 16, 0xffffffff80000000n + BigInt(paddr), true)
    view.setBigUint64(base + 24, BigInt(paddr), true)
    view.setBigUint64(base + 32, BigInt(filesz), true)
    view.setBigUint64(base + 40, BigInt(memsz), true)
    image.set(bytes, data)
    data += bytes.length
  }
  return image
}

export const elfNote = (name: string, type: number, descriptor: Uint8Array): Uint8Array => {
  const pad = (size: number): number => Math.ceil(size / 4) * 4
  const note = new Uint8Array(12 + pad(name.length) + pad(descriptor.length))
  const view = new DataView(note.buffer)
  view.setUint32(0, name.length, true)
  view.setUint32(4, descriptor.length, true)
  view.setUint32(8, type, true)
  note.set(new TextEncoder().encode(name), 12)
  note.set(descriptor, 12 + pad(name.length))
  return note
}

export const concat = (...parts: readonly Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(parts))

/** Bytes that do not repeat at any power of 2. */
export const pattern = (length: number, seed = 1): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 31 + (i >> 8) * 7 + (i >> 16) * 13 + seed) & 0xff)

/** Bytes that no tool can compress, always the same. */
export const noise = (length: number): Uint8Array => {
  let state = 12345
  return Uint8Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state >>> 24
  })
}

const SETUP_SECTS = 2

/** A bzImage of a relocatable 64-bit kernel; its protected-mode part is `kernel`, with the payload at `payloadOffset`. */
export const bzImage = (
  kernel: Uint8Array,
  fields: Readonly<Partial<Record<SetupHeaderField, number>>> = {},
): Uint8Array => {
  const header = new SetupHeader()
  const defaults: Partial<Record<SetupHeaderField, number>> = {
    setup_sects: SETUP_SECTS,
    syssize: Math.ceil(kernel.length / 16),
    boot_flag: 0xaa55,
    // A jump over the header, which ends at 0x26c.
    jump: 0x6aeb,
    header: 0x53726448,
    version: 0x20f,
    loadflags: 1,
    code32_start: 0x100000,
    initrd_addr_max: 0x7fffffff,
    kernel_alignment: 0x200000,
    relocatable_kernel: 1,
    min_alignment: 21,
    xloadflags: 0b11,
    cmdline_size: 2047,
    pref_address: 0x1000000,
    init_size: 0x100000,
  }
  for (const [field, value] of Object.entries({ ...defaults, ...fields }))
    header.set(field as SetupHeaderField, value)
  const setup = new Uint8Array(((header.get('setup_sects') || 4) + 1) * 512)
  setup.set(header.bytes, SETUP_HEADER_OFFSET)
  return concat(setup, kernel)
}
