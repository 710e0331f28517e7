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
  type KernelEntry,
  MEMORY_MIN,
  type MicroVmEvents,
  type MicroVmOptions,
} from './options.ts'

// The parts, for those who wire a VM themselves

export { type CpuidOptions, vcpuCpuid } from './cpuid.ts'
export { GuestVcpu, type VcpuConfig } from './vcpu.ts'
export { VirtioBus, type VirtioHost } from './virtio-bus.ts'
