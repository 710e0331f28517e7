/**
 * Why KVM_RUN came back, and what the exits carry: `<linux/kvm.h>`.
 */

// kvm_run.exit_reason
export const KVM_EXIT_UNKNOWN = 0
export const KVM_EXIT_EXCEPTION = 1
export const KVM_EXIT_IO = 2
export const KVM_EXIT_HYPERCALL = 3
export const KVM_EXIT_DEBUG = 4
export const KVM_EXIT_HLT = 5
export const KVM_EXIT_MMIO = 6
export const KVM_EXIT_IRQ_WINDOW_OPEN = 7
export const KVM_EXIT_SHUTDOWN = 8
export const KVM_EXIT_FAIL_ENTRY = 9
export const KVM_EXIT_INTR = 10
export const KVM_EXIT_SET_TPR = 11
export const KVM_EXIT_TPR_ACCESS = 12
export const KVM_EXIT_NMI = 16
export const KVM_EXIT_INTERNAL_ERROR = 17
export const KVM_EXIT_WATCHDOG = 21
export const KVM_EXIT_SYSTEM_EVENT = 24
export const KVM_EXIT_IOAPIC_EOI = 26
export const KVM_EXIT_HYPERV = 27
export const KVM_EXIT_X86_RDMSR = 29
export const KVM_EXIT_X86_WRMSR = 30
export const KVM_EXIT_DIRTY_RING_FULL = 31
export const KVM_EXIT_AP_RESET_HOLD = 32
export const KVM_EXIT_X86_BUS_LOCK = 33
export const KVM_EXIT_XEN = 34
export const KVM_EXIT_NOTIFY = 37
export const KVM_EXIT_MEMORY_FAULT = 39
export const KVM_EXIT_TDX = 40

// kvm_run.io.direction
export const KVM_EXIT_IO_IN = 0
export const KVM_EXIT_IO_OUT = 1

// kvm_run.hyperv.type, kvm_run.xen.type
export const KVM_EXIT_HYPERV_SYNIC = 1
export const KVM_EXIT_XEN_HCALL = 1
export const KVM_EXIT_HYPERV_HCALL = 2
export const KVM_EXIT_HYPERV_SYNDBG = 3

// kvm_run.internal.suberror
export const KVM_INTERNAL_ERROR_EMULATION = 1
export const KVM_INTERNAL_ERROR_SIMUL_EX = 2
export const KVM_INTERNAL_ERROR_DELIVERY_EV = 3
export const KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON = 4

// kvm_run.emulation_failure.flags
export const KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES = 0x1

// kvm_run.system_event.type
export const KVM_SYSTEM_EVENT_SHUTDOWN = 1
export const KVM_SYSTEM_EVENT_RESET = 2
export const KVM_SYSTEM_EVENT_CRASH = 3
export const KVM_SYSTEM_EVENT_WAKEUP = 4
export const KVM_SYSTEM_EVENT_SUSPEND = 5
export const KVM_SYSTEM_EVENT_SEV_TERM = 6
export const KVM_SYSTEM_EVENT_TDX_FATAL = 7

// kvm_run.msr.reason
export const KVM_MSR_EXIT_REASON_INVAL = 0x1
export const KVM_MSR_EXIT_REASON_UNKNOWN = 0x2
export const KVM_MSR_EXIT_REASON_FILTER = 0x4

// kvm_run.notify.flags
export const KVM_NOTIFY_CONTEXT_INVALID = 0x1

// kvm_run.memory_fault.flags
export const KVM_MEMORY_EXIT_FLAG_PRIVATE = 0x8

// kvm_run.flags
export const KVM_RUN_X86_SMM = 0x1
export const KVM_RUN_X86_BUS_LOCK = 0x2
export const KVM_RUN_X86_GUEST_MODE = 0x4

// kvm_run.kvm_valid_regs, kvm_run.kvm_dirty_regs
export const KVM_SYNC_X86_REGS = 0x1
export const KVM_SYNC_X86_SREGS = 0x2
export const KVM_SYNC_X86_EVENTS = 0x4
export const KVM_SYNC_X86_VALID_FIELDS = 0x7

// Pages of the vCPU mapping, after the first
export const KVM_PIO_PAGE_OFFSET = 1
export const KVM_COALESCED_MMIO_PAGE_OFFSET = 2
export const KVM_DIRTY_LOG_PAGE_OFFSET = 64

// kvm_dirty_gfn.flags
export const KVM_DIRTY_GFN_F_DIRTY = 0x1
export const KVM_DIRTY_GFN_F_RESET = 0x2
export const KVM_DIRTY_GFN_F_MASK = 0x3
