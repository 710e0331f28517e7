/**
 * Loads an ELF64 image, such as an uncompressed `vmlinux`, segment by segment to its physical addresses. Knows program
 * headers and notes only: no sections, no relocations, no 32-bit and no big-endian files.
 *
 * ELF-64 Object File Format 1.5; System V ABI, AMD64 supplement.
 */

import { HIMEM_START } from './boot-layout.ts'
import { findPvhEntry } from './elf-notes.ts'
import { u8, u16, u32, u64, viewOf } from './fields.ts'
import { type GuestMemory, requireRam } from './guest-memory.ts'
import { copyToGuest, type Image, type ImageSource, imageSource } from './image-source.ts'
import type { LoadedKernel } from './loaded-kernel.ts'
import { formatRange, hex, LoaderError } from './loader-error.ts'

const ELF_MAGIC = 0x464c457f
const ELFCLASS32 = 1
const ELFCLASS64 = 2
const ELFDATA2LSB = 1
const ELFDATA2MSB = 2
const ET_EXEC = 2
const ET_DYN = 3
const EM_X86_64 = 62
const PT_LOAD = 1
const PT_NOTE = 4
const EHDR_SIZE = 64
const PHDR_SIZE = 56
// The kernel's own ELF loader takes program headers of up to 64 KiB (fs/binfmt_elf.c); a vmlinux has about five.
const PHDRS_MAX_SIZE = 0x10000
// The notes of a vmlinux take some 500 bytes. The bound keeps overlapping hostile segments cheap.
const NOTES_MAX_SIZE = 0x10000

const MACHINE_NAMES: ReadonlyMap<number, string> = new Map([
  [2, 'SPARC'],
  [3, '32-bit x86'],
  [8, 'MIPS'],
  [20, 'PowerPC'],
  [21, '64-bit PowerPC'],
  [22, 'S/390'],
  [40, '32-bit ARM'],
  [183, 'AArch64'],
  [243, 'RISC-V'],
  [258, 'LoongArch'],
])

const EHDR = {
  magic: u32(0),
  class: u8(4),
  data: u8(5),
  type: u16(16),
  machine: u16(18),
  entry: u64(24),
  phoff: u64(32),
  phentsize: u16(54),
  phnum: u16(56),
} as const

const PHDR = { type: u32(0), offset: u64(8), paddr: u64(24), filesz: u64(32), memsz: u64(40) } as const

interface Segment {
  readonly offset: number
  readonly fileSize: number
  readonly memorySize: number
  readonly address: number
}

/** Options of {@link loadElf}. */
export interface LoadElfOptions {
  /**
   * Added to every physical address and to the entry point, in bytes; default 0. Only a position-independent image
   * can use it. A PVH entry is absolute, and ignored when this is not 0.
   */
  readonly offset?: number
  /** How the kernel is to be entered; default `linux64`, at the ELF entry point. */
  readonly protocol?: 'linux64' | 'pvh'
  /** Lowest address that the image may load to; default 1 MiB. */
  readonly highmemStart?: number
}

/** Whether an image begins as an ELF file does. */
export const isElf = (source: ImageSource): boolean =>
  source.size >= 4 && EHDR.magic.get(viewOf(source.read(0, 4))) === ELF_MAGIC

/**
 * Loads the PT_LOAD segments of an ELF64 image at their physical addresses and zeroes what the file leaves out (.bss).
 *
 * @throws {LoaderError} `ERR_KERNEL_*`, `ERR_KERNEL_PVH_NOTE` when PVH is asked for and there is none; everything is checked before the first byte is written
 */
export const loadElf = (memory: GuestMemory, image: Image, options: LoadElfOptions = {}): LoadedKernel => {
  const { offset = 0, protocol = 'linux64', highmemStart = HIMEM_START } = options
  const source = imageSource(image)
  const { entry, programHeaders } = readHeaders(source)
  const { segments, noteRanges } = readProgramHeaders(source, programHeaders, offset)
  const first = segments[0]
  const last = segments.at(-1)
  if (first === undefined || last === undefined)
    throw new LoaderError('ERR_KERNEL_INVALID', 'the ELF file has no segment to load')
  checkPlacement(memory, segments, highmemStart)
  const entryPoint = entry + offset
  if (!segments.some(({ address, memorySize }) => entryPoint >= address && entryPoint < address + memorySize))
    throw new LoaderError(
      'ERR_KERNEL_INVALID',
      `the entry point ${hex(entryPoint)} lies in none of the segments of the ELF file`,
      { entry: entryPoint },
    )
  const pvhEntry = offset === 0 ? readPvhEntry(source, noteRanges) : undefined
  if (protocol === 'pvh' && pvhEntry === undefined)
    throw new LoaderError(
      'ERR_KERNEL_PVH_NOTE',
      `the ELF file ${offset === 0 ? 'has no PVH entry point' : 'is moved, but its PVH entry point is absolute'}`,
    )

  for (const segment of segments) {
    copyToGuest(memory, source, segment.offset, segment.fileSize, segment.address)
    if (segment.memorySize > segment.fileSize)
      memory.fill(segment.address + segment.fileSize, segment.memorySize - segment.fileSize, 0)
  }
  return {
    kind: 'elf',
    protocol,
    entry: protocol === 'pvh' && pvhEntry !== undefined ? pvhEntry : entryPoint,
    kernelStart: first.address,
    kernelEnd: last.address + last.memorySize,
    pvhEntry,
    setupHeader: undefined,
  }
}

const readHeaders = (source: ImageSource): { entry: number; programHeaders: DataView } => {
  if (!isElf(source)) throw new LoaderError('ERR_KERNEL_UNKNOWN', 'the image is not an ELF file')
  requireFile(source, 0, EHDR_SIZE, 'the ELF header')
  const view = viewOf(source.read(0, EHDR_SIZE))
  checkIdentity(view)
  const phoff = EHDR.phoff.get(view)
  const phnum = EHDR.phnum.get(view)
  const phentsize = EHDR.phentsize.get(view)
  const size = phnum * PHDR_SIZE
  if (phentsize !== PHDR_SIZE || phoff < EHDR_SIZE || size > PHDRS_MAX_SIZE)
    throw new LoaderError(
      'ERR_KERNEL_INVALID',
      `the ELF header gives ${phnum} program headers of ${phentsize} bytes at ${hex(phoff)}: ` +
        `expected at most ${Math.floor(PHDRS_MAX_SIZE / PHDR_SIZE)} of ${PHDR_SIZE} bytes at ${hex(EHDR_SIZE)} or above`,
      { phoff, phnum, phentsize },
    )
  const entry = EHDR.entry.get(view)
  requireFile(source, phoff, size, 'the program headers')
  // A copy, as the source may reuse its buffer for the next read.
  return { entry, programHeaders: viewOf(source.read(phoff, size).slice()) }
}

const checkIdentity = (view: DataView): void => {
  const elfClass = EHDR.class.get(view)
  const data = EHDR.data.get(view)
  const machine = EHDR.machine.get(view)
  const type = EHDR.type.get(view)
  if (data === ELFDATA2MSB)
    throw new LoaderError('ERR_KERNEL_BIG_ENDIAN', 'the ELF file is big-endian: expected one for x86-64')
  if (elfClass === ELFCLASS32)
    throw new LoaderError('ERR_KERNEL_32BIT', 'the ELF file is 32-bit: expected a 64-bit one for x86-64')
  if (elfClass !== ELFCLASS64 || data !== ELFDATA2LSB)
    throw new LoaderError(
      'ERR_KERNEL_INVALID',
      `the ELF file has class ${elfClass} and data encoding ${data}`,
      {
        class: elfClass,
        data,
      },
    )
  if (machine !== EM_X86_64)
    throw new LoaderError(
      'ERR_KERNEL_MACHINE',
      `the ELF file is for ${MACHINE_NAMES.get(machine) ?? `machine ${machine}`}: expected one for x86-64`,
      { machine },
    )
  if (type !== ET_EXEC && type !== ET_DYN)
    throw new LoaderError(
      'ERR_KERNEL_INVALID',
      `the ELF file is of type ${type} (${type === 1 ? 'an object file' : 'not executable'}): expected an executable`,
      { type },
    )
}

const readProgramHeaders = (
  source: ImageSource,
  view: DataView,
  loadOffset: number,
): { segments: Segment[]; noteRanges: { offset: number; size: number }[] } => {
  const segments: Segment[] = []
  const noteRanges: { offset: number; size: number }[] = []
  for (let base = 0; base < view.byteLength; base += PHDR_SIZE) {
    const type = PHDR.type.get(view, base)
    if (type !== PT_LOAD && type !== PT_NOTE) continue
    const index = base / PHDR_SIZE
    const offset = PHDR.offset.get(view, base)
    const fileSize = PHDR.filesz.get(view, base)
    // Linkers give a segment without bytes, a .bss of its own, an offset that may be behind the end of a stripped file.
    if (fileSize > 0) requireFile(source, offset, fileSize, `segment ${index}`)
    if (type === PT_NOTE) {
      noteRanges.push({ offset, size: fileSize })
      continue
    }
    const memorySize = PHDR.memsz.get(view, base)
    if (memorySize < fileSize)
      throw new LoaderError(
        'ERR_KERNEL_INVALID',
        `segment ${index} has ${fileSize} bytes in the file but only ${memorySize} in memory`,
        { index, fileSize, memorySize },
      )
    const address = PHDR.paddr.get(view, base) + loadOffset
    if (memorySize > 0) segments.push({ offset, fileSize, memorySize, address })
  }
  segments.sort((a, b) => a.address - b.address)
  return { segments, noteRanges }
}

/** Segments are sorted. Each must be RAM, high enough and apart from the one before; so work is bounded by RAM. */
const checkPlacement = (memory: GuestMemory, segments: readonly Segment[], highmemStart: number): void => {
  let end = 0
  for (const { address, memorySize } of segments) {
    if (address < highmemStart)
      throw new LoaderError(
        'ERR_KERNEL_TOO_LOW',
        `the ELF file would load at ${hex(address)}, below ${hex(highmemStart)}: it is hardly a kernel`,
        { address, highmemStart },
      )
    if (address < end)
      throw new LoaderError(
        'ERR_KERNEL_INVALID',
        `the segment at ${formatRange(address, memorySize)} overlaps the one that ends at ${hex(end)}`,
        { address, memorySize },
      )
    requireRam(memory, 'the kernel', address, memorySize, 'ERR_KERNEL_DOES_NOT_FIT')
    end = address + memorySize
  }
}

const readPvhEntry = (
  source: ImageSource,
  noteRanges: readonly { offset: number; size: number }[],
): number | undefined => {
  const total = noteRanges.reduce((sum, range) => sum + range.size, 0)
  if (total > NOTES_MAX_SIZE)
    throw new LoaderError(
      'ERR_KERNEL_INVALID',
      `the ELF file has ${total} bytes of notes: expected at most ${NOTES_MAX_SIZE}`,
      { total },
    )
  for (const { offset, size } of noteRanges) {
    const entry = findPvhEntry(source.read(offset, size))
    if (entry !== undefined) return entry
  }
  return undefined
}

const requireFile = (source: ImageSource, offset: number, length: number, what: string): void => {
  if (offset + length <= source.size) return
  throw new LoaderError(
    'ERR_KERNEL_TRUNCATED',
    `the ELF file is cut short: ${what} ends at byte ${offset + length}, the file at ${source.size}`,
    { offset, length, size: source.size },
  )
}
