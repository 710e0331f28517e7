/**
 * `@vmm/microvm`: KVM, guest memory, the kernel loader and devices as one object that runs Linux.
 * @packageDocumentation
 */

export type { AttachDevice, DeviceHost } from './device.ts'
export type { MicroVmEnd, MicroVmEndKind } from './end.ts'
export { MicroVmError, type MicroVmErrorCode } from './error.ts'
export { isInterpretingKvm } from './interpreting.ts'
export { MicroVm } from './microvm.ts'
export {
  DEFAULT_CMDLINE,
  type Discovery,
  type KernelEntry,
  MEMORY_MIN,
  type MicroVmEvents,
  type MicroVmOptions,
  type RestoreOptions,
} from './options.ts'
export type { VmRam } from './ram.ts'

// A VM that was saved

export type { GenerationIdState } from './generation-id.ts'
export type { KvmVmState } from './state/kvm-state.ts'
export {
  type LegacyState,
  type MemoryRangeState,
  type MicroVmState,
  STATE_VERSION,
  stateFromJson,
  stateToJson,
} from './state/microvm-state.ts'
export type { VcpuState } from './state/vcpu-state.ts'

// The parts, for those who wire a VM themselves

export { type CpuidOptions, vcpuCpuid } from './cpuid.ts'
export { GuestVcpu, type SavedVcpuConfig, type VcpuConfig } from './vcpu.ts'
export { VirtioBus, type VirtioHost } from './virtio-bus.ts'
