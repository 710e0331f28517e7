/**
 * The numbers of KVM's requests: `<linux/kvm.h>`, those that x86-64 has and that are not deprecated. Useful by
 * themselves for seccomp filters and traces.
 */
import { _IO, _IOR, _IOW, _IOWR } from '@vmm/sys-util'
import * as devices from '../structs/devices.ts'
import * as events from '../structs/events.ts'
import * as lists from '../structs/lists.ts'
import * as registers from '../structs/registers.ts'
import * as vm from '../structs/vm.ts'

/** `KVMIO` */
const TYPE = 0xae
const SIZEOF_U64 = 8
/** `sizeof(struct kvm_xsave)`, `sizeof(struct kvm_nested_state)`: without what follows them. */
const SIZEOF_XSAVE = 4096
const SIZEOF_NESTED_STATE = 128

// Of /dev/kvm
export const KVM_GET_API_VERSION: number = _IO(TYPE, 0x00)
export const KVM_CREATE_VM: number = _IO(TYPE, 0x01)
export const KVM_GET_MSR_INDEX_LIST: number = _IOWR(TYPE, 0x02, lists.kvm_msr_list.size)
export const KVM_CHECK_EXTENSION: number = _IO(TYPE, 0x03)
export const KVM_GET_VCPU_MMAP_SIZE: number = _IO(TYPE, 0x04)
export const KVM_GET_SUPPORTED_CPUID: number = _IOWR(TYPE, 0x05, lists.kvm_cpuid2.size)
export const KVM_GET_EMULATED_CPUID: number = _IOWR(TYPE, 0x09, lists.kvm_cpuid2.size)
export const KVM_GET_MSR_FEATURE_INDEX_LIST: number = _IOWR(TYPE, 0x0a, lists.kvm_msr_list.size)
export const KVM_X86_GET_MCE_CAP_SUPPORTED: number = _IOR(TYPE, 0x9d, SIZEOF_U64)
export const KVM_GET_SUPPORTED_HV_CPUID: number = _IOWR(TYPE, 0xc1, lists.kvm_cpuid2.size)

// Of a VM
export const KVM_CREATE_VCPU: number = _IO(TYPE, 0x41)
export const KVM_GET_DIRTY_LOG: number = _IOW(TYPE, 0x42, vm.kvm_dirty_log.size)
export const KVM_SET_USER_MEMORY_REGION: number = _IOW(TYPE, 0x46, vm.kvm_userspace_memory_region.size)
export const KVM_SET_TSS_ADDR: number = _IO(TYPE, 0x47)
export const KVM_SET_IDENTITY_MAP_ADDR: number = _IOW(TYPE, 0x48, SIZEOF_U64)
export const KVM_SET_USER_MEMORY_REGION2: number = _IOW(TYPE, 0x49, vm.kvm_userspace_memory_region2.size)
export const KVM_CREATE_IRQCHIP: number = _IO(TYPE, 0x60)
export const KVM_IRQ_LINE: number = _IOW(TYPE, 0x61, vm.kvm_irq_level.size)
export const KVM_GET_IRQCHIP: number = _IOWR(TYPE, 0x62, devices.kvm_irqchip.size)
export const KVM_SET_IRQCHIP: number = _IOR(TYPE, 0x63, devices.kvm_irqchip.size)
export const KVM_IRQ_LINE_STATUS: number = _IOWR(TYPE, 0x67, vm.kvm_irq_level.size)
export const KVM_REGISTER_COALESCED_MMIO: number = _IOW(TYPE, 0x67, vm.kvm_coalesced_mmio_zone.size)
export const KVM_UNREGISTER_COALESCED_MMIO: number = _IOW(TYPE, 0x68, vm.kvm_coalesced_mmio_zone.size)
export const KVM_SET_GSI_ROUTING: number = _IOW(TYPE, 0x6a, vm.kvm_irq_routing.size)
export const KVM_REINJECT_CONTROL: number = _IO(TYPE, 0x71)
export const KVM_IRQFD: number = _IOW(TYPE, 0x76, vm.kvm_irqfd.size)
export const KVM_CREATE_PIT2: number = _IOW(TYPE, 0x77, devices.kvm_pit_config.size)
export const KVM_SET_BOOT_CPU_ID: number = _IO(TYPE, 0x78)
export const KVM_IOEVENTFD: number = _IOW(TYPE, 0x79, vm.kvm_ioeventfd.size)
export const KVM_XEN_HVM_CONFIG: number = _IOW(TYPE, 0x7a, vm.kvm_xen_hvm_config.size)
export const KVM_SET_CLOCK: number = _IOW(TYPE, 0x7b, devices.kvm_clock_data.size)
export const KVM_GET_CLOCK: number = _IOR(TYPE, 0x7c, devices.kvm_clock_data.size)
export const KVM_GET_PIT2: number = _IOR(TYPE, 0x9f, devices.kvm_pit_state2.size)
export const KVM_SET_PIT2: number = _IOW(TYPE, 0xa0, devices.kvm_pit_state2.size)
export const KVM_SIGNAL_MSI: number = _IOW(TYPE, 0xa5, vm.kvm_msi.size)
export const KVM_SET_PMU_EVENT_FILTER: number = _IOW(TYPE, 0xb2, lists.kvm_pmu_event_filter.size)
export const KVM_MEMORY_ENCRYPT_OP: number = _IOWR(TYPE, 0xba, SIZEOF_U64)
export const KVM_MEMORY_ENCRYPT_REG_REGION: number = _IOR(TYPE, 0xbb, vm.kvm_enc_region.size)
export const KVM_MEMORY_ENCRYPT_UNREG_REGION: number = _IOR(TYPE, 0xbc, vm.kvm_enc_region.size)
export const KVM_HYPERV_EVENTFD: number = _IOW(TYPE, 0xbd, devices.kvm_hyperv_eventfd.size)
export const KVM_CLEAR_DIRTY_LOG: number = _IOWR(TYPE, 0xc0, vm.kvm_clear_dirty_log.size)
export const KVM_X86_SET_MSR_FILTER: number = _IOW(TYPE, 0xc6, lists.kvm_msr_filter.size)
export const KVM_RESET_DIRTY_RINGS: number = _IO(TYPE, 0xc7)
export const KVM_SET_MEMORY_ATTRIBUTES: number = _IOW(TYPE, 0xd2, vm.kvm_memory_attributes.size)
export const KVM_CREATE_GUEST_MEMFD: number = _IOWR(TYPE, 0xd4, vm.kvm_create_guest_memfd.size)
export const KVM_CREATE_DEVICE: number = _IOWR(TYPE, 0xe0, devices.kvm_create_device.size)

// Of a vCPU
export const KVM_RUN: number = _IO(TYPE, 0x80)
export const KVM_GET_REGS: number = _IOR(TYPE, 0x81, registers.kvm_regs.size)
export const KVM_SET_REGS: number = _IOW(TYPE, 0x82, registers.kvm_regs.size)
export const KVM_GET_SREGS: number = _IOR(TYPE, 0x83, registers.kvm_sregs.size)
export const KVM_SET_SREGS: number = _IOW(TYPE, 0x84, registers.kvm_sregs.size)
export const KVM_TRANSLATE: number = _IOWR(TYPE, 0x85, events.kvm_translation.size)
export const KVM_INTERRUPT: number = _IOW(TYPE, 0x86, events.kvm_interrupt.size)
export const KVM_GET_MSRS: number = _IOWR(TYPE, 0x88, lists.kvm_msrs.size)
export const KVM_SET_MSRS: number = _IOW(TYPE, 0x89, lists.kvm_msrs.size)
export const KVM_SET_SIGNAL_MASK: number = _IOW(TYPE, 0x8b, events.kvm_signal_mask.size)
export const KVM_GET_FPU: number = _IOR(TYPE, 0x8c, registers.kvm_fpu.size)
export const KVM_SET_FPU: number = _IOW(TYPE, 0x8d, registers.kvm_fpu.size)
export const KVM_GET_LAPIC: number = _IOR(TYPE, 0x8e, devices.kvm_lapic_state.size)
export const KVM_SET_LAPIC: number = _IOW(TYPE, 0x8f, devices.kvm_lapic_state.size)
export const KVM_SET_CPUID2: number = _IOW(TYPE, 0x90, lists.kvm_cpuid2.size)
export const KVM_GET_CPUID2: number = _IOWR(TYPE, 0x91, lists.kvm_cpuid2.size)
export const KVM_TPR_ACCESS_REPORTING: number = _IOWR(TYPE, 0x92, events.kvm_tpr_access_ctl.size)
export const KVM_SET_VAPIC_ADDR: number = _IOW(TYPE, 0x93, events.kvm_vapic_addr.size)
export const KVM_GET_MP_STATE: number = _IOR(TYPE, 0x98, events.kvm_mp_state.size)
export const KVM_SET_MP_STATE: number = _IOW(TYPE, 0x99, events.kvm_mp_state.size)
export const KVM_NMI: number = _IO(TYPE, 0x9a)
export const KVM_SET_GUEST_DEBUG: number = _IOW(TYPE, 0x9b, events.kvm_guest_debug.size)
export const KVM_X86_SETUP_MCE: number = _IOW(TYPE, 0x9c, SIZEOF_U64)
export const KVM_X86_SET_MCE: number = _IOW(TYPE, 0x9e, events.kvm_x86_mce.size)
export const KVM_GET_VCPU_EVENTS: number = _IOR(TYPE, 0x9f, events.kvm_vcpu_events.size)
export const KVM_SET_VCPU_EVENTS: number = _IOW(TYPE, 0xa0, events.kvm_vcpu_events.size)
export const KVM_GET_DEBUGREGS: number = _IOR(TYPE, 0xa1, registers.kvm_debugregs.size)
export const KVM_SET_DEBUGREGS: number = _IOW(TYPE, 0xa2, registers.kvm_debugregs.size)
export const KVM_SET_TSC_KHZ: number = _IO(TYPE, 0xa2)
export const KVM_GET_TSC_KHZ: number = _IO(TYPE, 0xa3)
export const KVM_GET_XSAVE: number = _IOR(TYPE, 0xa4, SIZEOF_XSAVE)
export const KVM_SET_XSAVE: number = _IOW(TYPE, 0xa5, SIZEOF_XSAVE)
export const KVM_GET_XCRS: number = _IOR(TYPE, 0xa6, registers.kvm_xcrs.size)
export const KVM_SET_XCRS: number = _IOW(TYPE, 0xa7, registers.kvm_xcrs.size)
export const KVM_GET_ONE_REG: number = _IOW(TYPE, 0xab, lists.kvm_one_reg.size)
export const KVM_SET_ONE_REG: number = _IOW(TYPE, 0xac, lists.kvm_one_reg.size)
export const KVM_KVMCLOCK_CTRL: number = _IO(TYPE, 0xad)
export const KVM_GET_REG_LIST: number = _IOWR(TYPE, 0xb0, lists.kvm_reg_list.size)
export const KVM_SMI: number = _IO(TYPE, 0xb7)
export const KVM_GET_NESTED_STATE: number = _IOWR(TYPE, 0xbe, SIZEOF_NESTED_STATE)
export const KVM_SET_NESTED_STATE: number = _IOW(TYPE, 0xbf, SIZEOF_NESTED_STATE)
export const KVM_GET_SREGS2: number = _IOR(TYPE, 0xcc, registers.kvm_sregs2.size)
export const KVM_SET_SREGS2: number = _IOW(TYPE, 0xcd, registers.kvm_sregs2.size)
export const KVM_GET_STATS_FD: number = _IO(TYPE, 0xce)
export const KVM_GET_XSAVE2: number = _IOR(TYPE, 0xcf, SIZEOF_XSAVE)

// Of a VM or a vCPU
export const KVM_ENABLE_CAP: number = _IOW(TYPE, 0xa3, vm.kvm_enable_cap.size)

// Of a device, and of others with attributes
export const KVM_SET_DEVICE_ATTR: number = _IOW(TYPE, 0xe1, devices.kvm_device_attr.size)
export const KVM_GET_DEVICE_ATTR: number = _IOW(TYPE, 0xe2, devices.kvm_device_attr.size)
export const KVM_HAS_DEVICE_ATTR: number = _IOW(TYPE, 0xe3, devices.kvm_device_attr.size)
