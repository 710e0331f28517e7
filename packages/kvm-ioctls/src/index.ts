/**
 * The Linux KVM API.
 * @packageDocumentation
 */
export type { CoalescedRing } from './coalesced-ring.ts'
// The kernel's constants, under the kernel's names: KVM_CAP_*, KVM_EXIT_* and so on, MSR_*, *_VECTOR.
export * from './constants/capabilities.ts'
export * from './constants/exits.ts'
export * from './constants/flags.ts'
export * from './constants/msr-index.ts'
export * from './constants/requests.ts'
export { KVM_MAX_CPUID_ENTRIES } from './cpuid.ts'
export type { Device } from './device.ts'
export { DirtyBitmap } from './dirty-bitmap.ts'
export type { DirtyRing } from './dirty-ring.ts'
export type { EnableCapOptions } from './enable-cap.ts'
export { KvmError, type KvmErrorCode } from './errors.ts'
export type * from './exits.ts'
export { type GsiRoute, KVM_MAX_IRQ_ROUTES, type Msi } from './gsi-routing.ts'
export type { IoEvent } from './ioevent.ts'
export { Kvm, type KvmOpenOptions } from './kvm.ts'
export type { Json } from './layout/field.ts'
export type { Struct, StructView } from './layout/struct.ts'
export { KVM_MAX_IO_MSRS } from './msr.ts'
export type { MsrFilter, MsrFilterRange } from './msr-filter.ts'
export type { PmuEventFilter } from './pmu-filter.ts'
export type {
  ClockData,
  IoapicState,
  LapicState,
  PicState,
  PitChannelState,
  PitState2,
} from './structs/devices.ts'
export {
  kvm_clock_data,
  kvm_ioapic_state,
  kvm_lapic_state,
  kvm_pic_state,
  kvm_pit_state2,
} from './structs/devices.ts'
export type { GuestDebug, MachineCheck, Translation, VcpuEvents } from './structs/events.ts'
export { kvm_guest_debug, kvm_vcpu_events } from './structs/events.ts'
export { type CpuidEntry, kvm_cpuid_entry2, kvm_msr_entry, type Msr } from './structs/lists.ts'
export type {
  DebugRegs,
  DescriptorTable,
  Fpu,
  Regs,
  Segment,
  Sregs,
  Sregs2,
  Xcr,
  Xcrs,
} from './structs/registers.ts'
export { kvm_debugregs, kvm_fpu, kvm_regs, kvm_sregs, kvm_sregs2, kvm_xcrs } from './structs/registers.ts'
export type { SyncRegs } from './structs/run.ts'
export { reserveThreads, SPARE_THREADS, ThreadReservation } from './thread-pool.ts'
export { Vcpu, type VcpuDescriptor, type VcpuOptions } from './vcpu.ts'
export { type CoalescedZone, type MemoryRegion, type MemoryRegion2, Vm } from './vm.ts'
