/** What becomes of an instruction: the result of a completion. */

/** The instruction was carried out: registers and memory hold its results, RIP is behind it. */
export interface Completed {
  readonly kind: 'completed'
  /** Mnemonic, lower case, for statistics. */
  readonly mnemonic: string
}

/**
 * The instruction ends in an exception, which the VMM is to inject (KVM_SET_VCPU_EVENTS). For a fault the vCPU is as it
 * was before the instruction. For a trap (`#BP`, and `#DB` after a single step) the instruction was carried out.
 */
export interface RaisedException {
  readonly kind: 'exception'
  /** Mnemonic, lower case; undefined for a fault before the instruction was known (fetch, length). */
  readonly mnemonic: string | undefined
  /** Vector, one of the VECTOR_ constants. */
  readonly vector: number
  /** Error code to push; undefined for vectors that have none, and in real mode. */
  readonly errorCode: number | undefined
  /** For `#PF` the faulting linear address: to be written to CR2 (or given as KVM's exception payload). */
  readonly cr2: bigint | undefined
  /** For `#DB` the bits to be set in DR6 (KVM's exception payload): BS. */
  readonly dr6: bigint | undefined
}

/** Why an instruction was not completed. */
export type UnknownReason =
  /** No encoding in this package's table matches the bytes. */
  | 'instruction'
  /** The instruction is known, its operand is not in guest RAM: a device register, most likely. */
  | 'operand-not-memory'
  /** The instruction's bytes are not in guest RAM. */
  | 'code-not-memory'
  /** Page tables are not in guest RAM. */
  | 'page-table'
  /** Other vCPUs change the page tables or the operand faster than this one gets to it. */
  | 'contended'
  /** The instruction needs a model-specific register which the context does not have. */
  | 'msr'
  /**
   * The instruction would save or load a state component of unknown size (CPUID leaf 0xD was not given), or one that the
   * context's XSAVE area is too short for (KVM_GET_XSAVE2 was not used), or a supervisor one that is no set of registers.
   */
  | 'xsave-component'

/** The instruction can't be completed. Nothing has changed. Print `rip`, `bytes` and `mode`. */
export interface Unknown {
  readonly kind: 'unknown'
  readonly reason: UnknownReason
  /** The instruction's first bytes, at most 15: those given, and those fetched beyond. */
  readonly bytes: Uint8Array
  readonly rip: bigint
  /** What {@link describeMode} says of the vCPU, like `long mode CPL 0`. */
  readonly mode: string
}

/** The outcome of one instruction; match on `kind`. */
export type Completion = Completed | RaisedException | Unknown
