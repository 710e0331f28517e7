/**
 * The state that a boot CPU starts in: register values as plain objects in the shape of `struct kvm_regs` and
 * `struct kvm_sregs`, and the page tables and descriptor table in guest memory that they refer to. Knows nothing of KVM.
 *
 * Linux: Documentation/arch/x86/boot.rst, "64-bit boot protocol". Xen: docs/misc/pvh.pandoc. Intel SDM vol. 3, 3.4.5
 * (segment descriptors), 4.5 (4-level paging).
 */

import {
  BOOT_STACK_POINTER,
  GDT_START,
  PAGE_TABLES_END,
  PAGE_TABLES_START,
  PVH_INFO_START,
  ZERO_PAGE_START,
} from './boot-layout.ts'
import { viewOf } from './fields.ts'
import { type GuestMemory, requireRam } from './guest-memory.ts'
import { formatSize, hex, LoaderError } from './loader-error.ts'

/** A segment register, as `struct kvm_segment`. */
export interface Segment {
  readonly base: bigint
  readonly limit: number
  readonly selector: number
  readonly type: number
  readonly present: number
  readonly dpl: number
  readonly db: number
  readonly s: number
  readonly l: number
  readonly g: number
  readonly avl: number
  readonly unusable: number
}

/** GDTR or IDTR, as `struct kvm_dtable`. */
export interface DescriptorTable {
  readonly base: bigint
  readonly limit: number
}

/** General registers, all of `struct kvm_regs`. */
export type BootRegs = Readonly<
  Record<
    | 'rax'
    | 'rbx'
    | 'rcx'
    | 'rdx'
    | 'rsi'
    | 'rdi'
    | 'rsp'
    | 'rbp'
    | 'r8'
    | 'r9'
    | 'r10'
    | 'r11'
    | 'r12'
    | 'r13'
    | 'r14'
    | 'r15'
    | 'rip'
    | 'rflags',
    bigint
  >
>

/** The part of `struct kvm_sregs` that a boot sets; the rest stays as the vCPU has it. */
export interface BootSregs {
  readonly cs: Segment
  readonly ds: Segment
  readonly es: Segment
  readonly fs: Segment
  readonly gs: Segment
  readonly ss: Segment
  readonly tr: Segment
  readonly ldt: Segment
  readonly gdt: DescriptorTable
  readonly idt: DescriptorTable
  readonly cr0: bigint
  readonly cr3: bigint
  readonly cr4: bigint
  readonly efer: bigint
}

/** A model-specific register. */
export interface BootMsr {
  /** Its number: what RDMSR takes in ECX. */
  readonly index: number
  /** All 64 bits. */
  readonly value: bigint
}

/** The state of a boot CPU. The other CPUs wait for INIT and SIPI in their reset state. */
export interface BootState {
  /** For KVM_SET_REGS. */
  readonly regs: BootRegs
  /** For KVM_SET_SREGS, over what KVM_GET_SREGS gives. */
  readonly sregs: BootSregs
  /** For KVM_SET_MSRS. */
  readonly msrs: readonly BootMsr[]
}

/** CR0: protected mode. */
export const CR0_PE: bigint = 1n << 0n
/** CR0: extension type, always 1. */
export const CR0_ET: bigint = 1n << 4n
/** CR0: paging. */
export const CR0_PG: bigint = 1n << 31n
/** CR4: physical address extension. */
export const CR4_PAE: bigint = 1n << 5n
/** EFER: long mode enabled. */
export const EFER_LME: bigint = 1n << 8n
/** EFER: long mode active. */
export const EFER_LMA: bigint = 1n << 10n
/** RFLAGS: bit 1 is always 1. */
export const RFLAGS_RESERVED: bigint = 1n << 1n

/** IA32_MISC_ENABLE. */
export const MSR_IA32_MISC_ENABLE = 0x1a0
/** IA32_MTRR_DEF_TYPE. */
export const MSR_MTRR_DEF_TYPE = 0x2ff
const MISC_ENABLE_FAST_STRING = 1n
const MTRR_ENABLE = 1n << 11n
const MTRR_WRITE_BACK = 6n

/** Selector of the code segment (`__BOOT_CS`). */
export const BOOT_CS = 0x10
/** Selector of the data segments (`__BOOT_DS`). */
export const BOOT_DS = 0x18
/** Selector of the task state segment. */
export const BOOT_TR = 0x20

const CODE_EXECUTE_READ_ACCESSED = 0b1011
const DATA_READ_WRITE_ACCESSED = 0b0011
const TSS_BUSY = 0b1011
const LDT_TYPE = 0b0010

const PTE_PRESENT = 1n << 0n
const PTE_WRITABLE = 1n << 1n
const PTE_PAGE_SIZE = 1n << 7n
const TABLE_SIZE = 4096
const TABLE_ENTRIES = 512
const TWO_MIB = 2 ** 21
const ONE_GIB = 2 ** 30

const flat = { base: 0n, limit: 0xffff_ffff, present: 1, dpl: 0, avl: 0, unusable: 0 } as const
const code64: Segment = {
  ...flat,
  selector: BOOT_CS,
  type: CODE_EXECUTE_READ_ACCESSED,
  s: 1,
  db: 0,
  l: 1,
  g: 1,
}
const code32: Segment = { ...code64, db: 1, l: 0 }
const data: Segment = { ...flat, selector: BOOT_DS, type: DATA_READ_WRITE_ACCESSED, s: 1, db: 1, l: 0, g: 1 }
const tss: Segment = { ...flat, limit: 0x67, selector: BOOT_TR, type: TSS_BUSY, s: 0, db: 0, l: 0, g: 0 }
const noLdt: Segment = {
  ...flat,
  limit: 0xffff,
  selector: 0,
  type: LDT_TYPE,
  present: 0,
  s: 0,
  db: 0,
  l: 0,
  g: 0,
  unusable: 1,
}
const realModeTss: Segment = { ...tss, limit: 0xffff, selector: 0 }
const emptyIdt: DescriptorTable = { base: 0n, limit: 0 }

const zeroRegs: BootRegs = {
  rax: 0n,
  rbx: 0n,
  rcx: 0n,
  rdx: 0n,
  rsi: 0n,
  rdi: 0n,
  rsp: 0n,
  rbp: 0n,
  r8: 0n,
  r9: 0n,
  r10: 0n,
  r11: 0n,
  r12: 0n,
  r13: 0n,
  r14: 0n,
  r15: 0n,
  rip: 0n,
  rflags: RFLAGS_RESERVED,
}

// Fast strings, and write-back as the default memory type: with MTRRs off Linux turns PAT off too.
const bootMsrs: readonly BootMsr[] = [
  { index: MSR_IA32_MISC_ENABLE, value: MISC_ENABLE_FAST_STRING },
  { index: MSR_MTRR_DEF_TYPE, value: MTRR_ENABLE | MTRR_WRITE_BACK },
]

/** Options of {@link longModeState}. */
export interface LongModeOptions {
  /** First instruction, guest-physical. */
  readonly entry: number
  /** RSI: the zero page; default {@link ZERO_PAGE_START}. */
  readonly bootParams?: number | undefined
  /** RSP; default {@link BOOT_STACK_POINTER}. */
  readonly stackPointer?: number | undefined
  /** Bytes from address 0 that are mapped to themselves; default 4 GiB. */
  readonly identityMapSize?: number | undefined
  /** Bytes of a page: 2 MiB, the default, or 1 GiB, which not every CPU has. */
  readonly pageSize?: 0x20_0000 | 0x4000_0000 | undefined
}

/**
 * 64-bit long mode, paging on, as Linux's 64-bit boot protocol asks for. Writes the GDT and identity-mapped page tables.
 *
 * @throws {LoaderError} `ERR_TABLE_DOES_NOT_FIT`
 * @example
 * const { regs, sregs, msrs } = longModeState(memory, { entry: kernel.entry })
 * vcpu.setSregs({ ...vcpu.getSregs(), ...sregs })
 * vcpu.setRegs(regs)
 * vcpu.setMsrs(msrs.map(({ index, value }) => ({ index, data: value })))
 */
export const longModeState = (memory: GuestMemory, options: LongModeOptions): BootState => {
  const { bootParams = ZERO_PAGE_START, stackPointer = BOOT_STACK_POINTER } = options
  const { identityMapSize = 4 * ONE_GIB, pageSize = TWO_MIB } = options
  writePageTables(memory, identityMapSize, pageSize)
  const gdt = writeGdt(memory, code64)
  return {
    regs: {
      ...zeroRegs,
      rip: BigInt(options.entry),
      rsp: BigInt(stackPointer),
      rbp: BigInt(stackPointer),
      rsi: BigInt(bootParams),
    },
    sregs: {
      ...flatSegments(code64),
      gdt,
      idt: emptyIdt,
      cr0: CR0_PE | CR0_ET | CR0_PG,
      cr3: BigInt(PAGE_TABLES_START),
      cr4: CR4_PAE,
      efer: EFER_LME | EFER_LMA,
    },
    msrs: bootMsrs,
  }
}

/** Options of {@link protectedModeState}. */
export interface ProtectedModeOptions {
  /** First instruction, guest-physical, below 4 GiB. */
  readonly entry: number
  /** EBX: the PVH start info; default {@link PVH_INFO_START}. */
  readonly startInfo?: number | undefined
}

/**
 * 32-bit protected mode with flat segments and paging off, as PVH asks for. Writes the GDT.
 *
 * @throws {LoaderError} `ERR_TABLE_DOES_NOT_FIT`, `ERR_LOADER_ARGUMENT`
 */
export const protectedModeState = (memory: GuestMemory, options: ProtectedModeOptions): BootState => {
  const { entry, startInfo = PVH_INFO_START } = options
  if (entry >= 2 ** 32 || startInfo >= 2 ** 32)
    throw new LoaderError(
      'ERR_LOADER_ARGUMENT',
      `protected mode reaches 4 GiB: the entry is ${hex(entry)}, the start info ${hex(startInfo)}`,
      { entry, startInfo },
    )
  const gdt = writeGdt(memory, code32)
  return {
    regs: { ...zeroRegs, rip: BigInt(entry), rbx: BigInt(startInfo) },
    sregs: { ...flatSegments(code32), gdt, idt: emptyIdt, cr0: CR0_PE | CR0_ET, cr3: 0n, cr4: 0n, efer: 0n },
    msrs: bootMsrs,
  }
}

/**
 * 16-bit real mode at an address below 1 MiB, for flat images. Writes nothing.
 *
 * @param entry first instruction, guest-physical, below 1 MiB; CS is `entry` >> 4, IP the rest
 * @throws {LoaderError} `ERR_LOADER_ARGUMENT`
 */
export const realModeState = (entry: number): BootState => {
  if (!Number.isInteger(entry) || entry < 0 || entry >= 0x10_0000)
    throw new LoaderError('ERR_LOADER_ARGUMENT', `real mode cannot start at ${hex(entry)}, above 1 MiB`, {
      entry,
    })
  const segment = (selector: number, type: number): Segment => ({
    ...data,
    base: BigInt(selector * 16),
    limit: 0xffff,
    selector,
    type,
    db: 0,
    g: 0,
  })
  const cs = segment(Math.floor(entry / 16), CODE_EXECUTE_READ_ACCESSED)
  const other = segment(0, DATA_READ_WRITE_ACCESSED)
  return {
    regs: { ...zeroRegs, rip: BigInt(entry % 16) },
    sregs: {
      cs,
      ds: other,
      es: other,
      fs: other,
      gs: other,
      ss: other,
      tr: realModeTss,
      ldt: noLdt,
      gdt: { base: 0n, limit: 0xffff },
      idt: { base: 0n, limit: 0xffff },
      cr0: CR0_ET,
      cr3: 0n,
      cr4: 0n,
      efer: 0n,
    },
    msrs: bootMsrs,
  }
}

const flatSegments = (cs: Segment): Omit<BootSregs, 'gdt' | 'idt' | 'cr0' | 'cr3' | 'cr4' | 'efer'> => ({
  cs,
  ds: data,
  es: data,
  fs: data,
  gs: data,
  ss: data,
  tr: tss,
  ldt: noLdt,
})

/** A segment as its 8 bytes in a descriptor table. */
export const encodeDescriptor = (segment: Segment): bigint => {
  const base = BigInt(Number(segment.base) >>> 0)
  const limit = BigInt(segment.g === 1 ? segment.limit >>> 12 : segment.limit)
  const access = BigInt((segment.present << 7) | (segment.dpl << 5) | (segment.s << 4) | segment.type)
  const flags = BigInt((segment.g << 3) | (segment.db << 2) | (segment.l << 1) | segment.avl)
  return (
    (limit & 0xffffn) |
    ((base & 0xff_ffffn) << 16n) |
    (access << 40n) |
    (((limit >> 16n) & 0xfn) << 48n) |
    (flags << 52n) |
    ((base >> 24n) << 56n)
  )
}

const writeGdt = (memory: GuestMemory, cs: Segment): DescriptorTable => {
  // Null, unused, code, data, and a TSS that takes two slots in long mode: its base is 0, so the second is too.
  const entries = [0n, 0n, encodeDescriptor(cs), encodeDescriptor(data), encodeDescriptor(tss), 0n]
  const bytes = new Uint8Array(entries.length * 8)
  const view = viewOf(bytes)
  for (const [i, entry] of entries.entries()) view.setBigUint64(i * 8, entry, true)
  requireRam(memory, 'the GDT', GDT_START, bytes.length, 'ERR_TABLE_DOES_NOT_FIT')
  memory.writeSlice(GDT_START, bytes)
  return { base: BigInt(GDT_START), limit: bytes.length - 1 }
}

/** PML4, one page-directory-pointer table, and for 2 MiB pages a page directory for each GiB. */
const writePageTables = (memory: GuestMemory, mapSize: number, pageSize: number): void => {
  const gibs = Math.ceil(mapSize / ONE_GIB)
  const directories = pageSize === TWO_MIB ? gibs : 0
  const size = (2 + directories) * TABLE_SIZE
  if (!(gibs >= 1 && gibs <= TABLE_ENTRIES) || PAGE_TABLES_START + size > PAGE_TABLES_END)
    throw new LoaderError(
      'ERR_TABLE_DOES_NOT_FIT',
      `page tables of ${formatSize(pageSize)} pages cannot map ${formatSize(mapSize)}: there is room for ` +
        `${pageSize === TWO_MIB ? (PAGE_TABLES_END - PAGE_TABLES_START) / TABLE_SIZE - 2 : TABLE_ENTRIES} GiB`,
      { mapSize, pageSize },
    )
  requireRam(memory, 'the page tables', PAGE_TABLES_START, size, 'ERR_TABLE_DOES_NOT_FIT')
  const bytes = new Uint8Array(size)
  const view = viewOf(bytes)
  const table = PTE_PRESENT | PTE_WRITABLE
  const page = table | PTE_PAGE_SIZE
  const pointers = TABLE_SIZE
  view.setBigUint64(0, BigInt(PAGE_TABLES_START + pointers) | table, true)
  for (let gib = 0; gib < gibs; gib++) {
    const directory = (2 + gib) * TABLE_SIZE
    const entry =
      pageSize === TWO_MIB ? BigInt(PAGE_TABLES_START + directory) | table : BigInt(gib * ONE_GIB) | page
    view.setBigUint64(pointers + gib * 8, entry, true)
    if (pageSize !== TWO_MIB) continue
    for (let i = 0; i < TABLE_ENTRIES; i++)
      view.setBigUint64(directory + i * 8, BigInt(gib * ONE_GIB + i * TWO_MIB) | page, true)
  }
  memory.writeSlice(PAGE_TABLES_START, bytes)
}
