/**
 * Structures that come in lists behind a count: CPUID leaves, MSRs, registers by id.
 */
import { array, bytes, size64, u32, u64 } from '../layout/field.ts'
import { Struct } from '../layout/struct.ts'

/** One CPUID leaf, or sub-leaf: KVM_GET_SUPPORTED_CPUID and others. */
export interface CpuidEntry {
  /** EAX as the guest has it. */
  function: number
  /** ECX as the guest has it, where `flags` says that it counts. */
  index: number
  /** `KVM_CPUID_FLAG_*` */
  flags: number
  eax: number
  ebx: number
  ecx: number
  edx: number
}

export const kvm_cpuid_entry2: Struct<CpuidEntry> = new Struct<CpuidEntry>('kvm_cpuid_entry2', {
  function: u32,
  index: u32,
  flags: u32,
  eax: u32,
  ebx: u32,
  ecx: u32,
  edx: u32,
  _padding0: u32,
  _padding1: u32,
  _padding2: u32,
})

export const kvm_cpuid2: Struct<{ nent: number }> = new Struct('kvm_cpuid2', {
  nent: u32,
  _padding: u32,
})

/** A model-specific register and its value. */
export interface Msr {
  index: number
  data: bigint
}

export const kvm_msr_entry: Struct<Msr> = new Struct<Msr>('kvm_msr_entry', {
  index: u32,
  _reserved: u32,
  data: u64,
})

export const kvm_msrs: Struct<{ nmsrs: number }> = new Struct('kvm_msrs', {
  nmsrs: u32,
  _pad: u32,
})

export const kvm_msr_list: Struct<{ nmsrs: number }> = new Struct('kvm_msr_list', { nmsrs: u32 })

export const kvm_reg_list: Struct<{ n: number }> = new Struct('kvm_reg_list', { n: size64 })

export const kvm_one_reg: Struct<{ id: bigint; addr: bigint }> = new Struct('kvm_one_reg', {
  id: u64,
  addr: u64,
})

/** A run of MSRs in a filter; the bitmap by its address. */
interface MsrFilterRange {
  flags: number
  nmsrs: number
  base: number
  bitmap: bigint
}

export const kvm_msr_filter_range: Struct<MsrFilterRange> = new Struct<MsrFilterRange>(
  'kvm_msr_filter_range',
  { flags: u32, nmsrs: u32, base: u32, bitmap: u64 },
)

export const kvm_msr_filter: Struct<{ flags: number; ranges: readonly MsrFilterRange[] }> = new Struct(
  'kvm_msr_filter',
  {
    flags: u32,
    ranges: array(kvm_msr_filter_range, 16),
  },
)

/** KVM_SET_PMU_EVENT_FILTER, without its events. */
export const kvm_pmu_event_filter: Struct<{
  action: number
  nevents: number
  fixed_counter_bitmap: number
  flags: number
}> = new Struct('kvm_pmu_event_filter', {
  action: u32,
  nevents: u32,
  fixed_counter_bitmap: u32,
  flags: u32,
  _pad: bytes(16),
})
