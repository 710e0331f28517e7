/**
 * What a completer needs of a virtual CPU, as interfaces that a VMM implements.
 *
 * The field names and units are those of the KVM UAPI (struct kvm_regs, kvm_segment, kvm_sregs; arch/x86's
 * <asm/kvm.h>), so that a wrapper of those structs fits as it is. Nothing here knows of ioctls.
 */

/** The general registers, unsigned, as in struct kvm_regs. Plain objects and accessor views both fit. */
export interface GeneralRegisters {
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

/** A segment register with its hidden part, as in struct kvm_segment. `limit` is in bytes, already scaled. */
export interface SegmentRegister {
  base: bigint
  limit: number
  selector: number
  type: number
  dpl: number
  db: number
  l: number
  unusable: number
}

/** The base and limit of a descriptor table, as in struct kvm_dtable. */
export interface DescriptorTable {
  base: bigint
  limit: number
}

/** The part of struct kvm_sregs that completion reads. It writes `fs.base`, `gs.base` and nothing else. */
export interface SpecialRegisters {
  cs: SegmentRegister
  ds: SegmentRegister
  es: SegmentRegister
  fs: SegmentRegister
  gs: SegmentRegister
  ss: SegmentRegister
  ldt: SegmentRegister
  gdt: DescriptorTable
  cr0: bigint
  cr3: bigint
  cr4: bigint
  efer: bigint
}

/** Guest memory by physical address. Both calls answer false, and change nothing, if any byte is not RAM. */
export interface PhysicalMemory {
  /** Fills `into` with guest memory at `address` (bytes). */
  read(address: number, into: Uint8Array): boolean
  /** Writes `from` to guest memory at `address` (bytes), and marks it dirty where that is tracked. */
  write(address: number, from: Uint8Array): boolean
  /**
   * Writes `replacement` where `expected` is, in one atomic step; false if something else was there. 4 and 8 bytes
   * (page-table entries, CMPXCHG8B) and 16 (CMPXCHG16B), naturally aligned. Without it completion compares and
   * writes in two steps, which is right only while no other vCPU and no device thread runs.
   */
  compareExchange?(address: number, expected: Uint8Array, replacement: Uint8Array): boolean
}

/**
 * One virtual CPU, stopped at the instruction to complete.
 *
 * Each getter is called at most once per completion and only if the instruction needs that state, so each may
 * be an ioctl. Each setter is called at most once, after the last point at which the instruction can fault.
 */
export interface CpuContext {
  /** General registers. The returned object is changed in place and handed to `setRegisters`. */
  getRegisters(): GeneralRegisters
  setRegisters(registers: GeneralRegisters): void
  /** Segment and control registers. Changed in place and set by WRFSBASE, WRGSBASE and SWAPGS alone. */
  getSpecialRegisters(): SpecialRegisters
  setSpecialRegisters(registers: SpecialRegisters): void
  /**
   * The XSAVE area in the standard format, as KVM_GET_XSAVE (or KVM_GET_XSAVE2) fills it: 4096 bytes or more. Changed
   * in place and handed to `setXsave`.
   */
  getXsave(): Uint8Array
  setXsave(area: Uint8Array): void
  /** Extended control register 0 (KVM_GET_XCRS). */
  getXcr0(): bigint
  setXcr0(value: bigint): void
  /** A model-specific register; undefined if the vCPU has none of that index. */
  getMsr(index: number): bigint | undefined
  /** Sets a model-specific register; false if the vCPU refuses the value or has none of that index. */
  setMsr(index: number, value: bigint): boolean
  /** Fills `into` with random bytes fit for keys: what RDRAND and RDSEED give. */
  fillRandom(into: Uint8Array): void
  /** Guest physical memory. */
  readonly memory: PhysicalMemory
}
