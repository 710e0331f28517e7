/**
 * Register state of a vCPU: `<asm/kvm.h>`, x86-64. Members have the kernel's names.
 */
import { array, bytes, u8, u16, u32, u64 } from '../layout/field.ts'
import { Struct } from '../layout/struct.ts'

/** General-purpose registers: KVM_GET_REGS. */
export interface Regs {
  rax: bigint
  rbx: bigint
  rcx: bigint
  rdx: bigint
  rsi: bigint
  rdi: bigint
  rsp: bigint
  rbp: bigint
  r8: bigint
  r9: bigint
  r10: bigint
  r11: bigint
  r12: bigint
  r13: bigint
  r14: bigint
  r15: bigint
  rip: bigint
  rflags: bigint
}

export const kvm_regs: Struct<Regs> = new Struct<Regs>('kvm_regs', {
  rax: u64,
  rbx: u64,
  rcx: u64,
  rdx: u64,
  rsi: u64,
  rdi: u64,
  rsp: u64,
  rbp: u64,
  r8: u64,
  r9: u64,
  r10: u64,
  r11: u64,
  r12: u64,
  r13: u64,
  r14: u64,
  r15: u64,
  rip: u64,
  rflags: u64,
})

/** A segment register with its hidden part. Flags are 0 or 1. */
export interface Segment {
  base: bigint
  /** In bytes, whatever `g` says: the limit with the granularity applied. */
  limit: number
  selector: number
  /** Bits 11:8 of the descriptor's second word. */
  type: number
  present: number
  dpl: number
  db: number
  /** 1 for code and data, 0 for system segments. */
  s: number
  l: number
  g: number
  avl: number
  /** 1 where the register holds no usable segment. */
  unusable: number
}

export const kvm_segment: Struct<Segment> = new Struct<Segment>('kvm_segment', {
  base: u64,
  limit: u32,
  selector: u16,
  type: u8,
  present: u8,
  dpl: u8,
  db: u8,
  s: u8,
  l: u8,
  g: u8,
  avl: u8,
  unusable: u8,
  _padding: u8,
})

/** GDTR or IDTR. */
export interface DescriptorTable {
  base: bigint
  limit: number
}

export const kvm_dtable: Struct<DescriptorTable> = new Struct<DescriptorTable>('kvm_dtable', {
  base: u64,
  limit: u16,
  _padding: bytes(6),
})

interface SystemRegisters {
  cs: Segment
  ds: Segment
  es: Segment
  fs: Segment
  gs: Segment
  ss: Segment
  tr: Segment
  ldt: Segment
  gdt: DescriptorTable
  idt: DescriptorTable
  cr0: bigint
  cr2: bigint
  cr3: bigint
  cr4: bigint
  cr8: bigint
  efer: bigint
  apic_base: bigint
}

/** System registers: KVM_GET_SREGS. */
export interface Sregs extends SystemRegisters {
  /** 256 bits in four words: at most one is set, the external interrupt that has been accepted and not delivered. */
  interrupt_bitmap: readonly bigint[]
}

/** System registers: KVM_GET_SREGS2. */
export interface Sregs2 extends SystemRegisters {
  /** `KVM_SREGS2_FLAGS_*` */
  flags: bigint
  /** The four page-directory-pointer entries that PAE paging has loaded. */
  pdptrs: readonly bigint[]
}

const systemRegisters = {
  cs: kvm_segment,
  ds: kvm_segment,
  es: kvm_segment,
  fs: kvm_segment,
  gs: kvm_segment,
  ss: kvm_segment,
  tr: kvm_segment,
  ldt: kvm_segment,
  gdt: kvm_dtable,
  idt: kvm_dtable,
  cr0: u64,
  cr2: u64,
  cr3: u64,
  cr4: u64,
  cr8: u64,
  efer: u64,
  apic_base: u64,
}

export const kvm_sregs: Struct<Sregs> = new Struct<Sregs>('kvm_sregs', {
  ...systemRegisters,
  interrupt_bitmap: array(u64, 4),
})

export const kvm_sregs2: Struct<Sregs2> = new Struct<Sregs2>('kvm_sregs2', {
  ...systemRegisters,
  flags: u64,
  pdptrs: array(u64, 4),
})

/** x87 and SSE state: KVM_GET_FPU. */
export interface Fpu {
  /** Eight registers of 80 bits, 16 bytes each. */
  fpr: readonly Uint8Array[]
  fcw: number
  fsw: number
  /** The tag word as FXSAVE abridges it. */
  ftwx: number
  last_opcode: number
  last_ip: bigint
  last_dp: bigint
  /** Sixteen registers of 128 bits. */
  xmm: readonly Uint8Array[]
  mxcsr: number
}

export const kvm_fpu: Struct<Fpu> = new Struct<Fpu>('kvm_fpu', {
  fpr: array(bytes(16), 8),
  fcw: u16,
  fsw: u16,
  ftwx: u8,
  _pad1: u8,
  last_opcode: u16,
  last_ip: u64,
  last_dp: u64,
  xmm: array(bytes(16), 16),
  mxcsr: u32,
  _pad2: u32,
})

/** Debug registers: KVM_GET_DEBUGREGS. */
export interface DebugRegs {
  /** DR0 to DR3. */
  db: readonly bigint[]
  dr6: bigint
  dr7: bigint
  /** None is defined: 0. */
  flags: bigint
}

export const kvm_debugregs: Struct<DebugRegs> = new Struct<DebugRegs>('kvm_debugregs', {
  db: array(u64, 4),
  dr6: u64,
  dr7: u64,
  flags: u64,
  _reserved: bytes(72),
})

/** One extended control register. */
export interface Xcr {
  /** Its number: 0 for XCR0. */
  xcr: number
  value: bigint
}

export const kvm_xcr: Struct<Xcr> = new Struct<Xcr>('kvm_xcr', {
  xcr: u32,
  _reserved: u32,
  value: u64,
})

/** Extended control registers: KVM_GET_XCRS. */
export interface Xcrs {
  /** How many of `xcrs` count. */
  nr_xcrs: number
  /** None is defined: 0. */
  flags: number
  /** Always sixteen elements. */
  xcrs: readonly Xcr[]
}

export const kvm_xcrs: Struct<Xcrs> = new Struct<Xcrs>('kvm_xcrs', {
  nr_xcrs: u32,
  flags: u32,
  xcrs: array(kvm_xcr, 16),
  _padding: bytes(128),
})
