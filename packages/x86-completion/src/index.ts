/** Completes the x86 instructions that a host's KVM cannot emulate. See README.md. */

export { InstructionCompleter } from './completer.ts'
export type { Completed, Completion, RaisedException, Unknown, UnknownReason } from './completion.ts'
export type {
  CpuContext,
  DescriptorTable,
  GeneralRegisters,
  PhysicalMemory,
  SegmentRegister,
  SpecialRegisters,
} from './context.ts'
export { type CpuFeatures, type CpuidEntry, featuresFromCpuid, type XsaveComponent } from './features.ts'
export { describeMode, type OperatingMode, operatingMode } from './mode.ts'
export {
  VECTOR_AC,
  VECTOR_BP,
  VECTOR_DB,
  VECTOR_GP,
  VECTOR_MF,
  VECTOR_NM,
  VECTOR_PF,
  VECTOR_SS,
  VECTOR_UD,
} from './vectors.ts'
