/**
 * Flags, types and limits of requests and states: `<linux/kvm.h>`, `<asm/kvm.h>`.
 */

// The API
export const KVM_API_VERSION = 12

// Machine types, for KVM_CREATE_VM
export const KVM_X86_DEFAULT_VM = 0
export const KVM_X86_SW_PROTECTED_VM = 1
export const KVM_X86_SEV_VM = 2
export const KVM_X86_SEV_ES_VM = 3
export const KVM_X86_SNP_VM = 4
export const KVM_X86_TDX_VM = 5

// Memory slots
export const KVM_MEM_LOG_DIRTY_PAGES = 0x1
export const KVM_MEM_READONLY = 0x2
export const KVM_MEM_GUEST_MEMFD = 0x4

// Memory attributes, guest_memfd
export const KVM_MEMORY_ATTRIBUTE_PRIVATE = 0x8

// KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2
export const KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE = 0x1
export const KVM_DIRTY_LOG_INITIALLY_SET = 0x2

// Interrupt controllers
export const KVM_IRQCHIP_PIC_MASTER = 0
export const KVM_IRQCHIP_PIC_SLAVE = 1
export const KVM_IRQCHIP_IOAPIC = 2
export const KVM_NR_IRQCHIPS = 3
export const KVM_IOAPIC_NUM_PINS = 24
export const KVM_NR_INTERRUPTS = 256
export const KVM_APIC_REG_SIZE = 1024

// Routes
export const KVM_IRQ_ROUTING_IRQCHIP = 1
export const KVM_IRQ_ROUTING_MSI = 2
export const KVM_IRQ_ROUTING_HV_SINT = 4
export const KVM_IRQ_ROUTING_XEN_EVTCHN = 5
export const KVM_IRQ_ROUTING_XEN_EVTCHN_PRIO_2LEVEL = 4294967295

// KVM_IRQFD
export const KVM_IRQFD_FLAG_DEASSIGN = 0x1
export const KVM_IRQFD_FLAG_RESAMPLE = 0x2

// KVM_IOEVENTFD
export const KVM_IOEVENTFD_FLAG_DATAMATCH = 0x1
export const KVM_IOEVENTFD_FLAG_PIO = 0x2
export const KVM_IOEVENTFD_FLAG_DEASSIGN = 0x4

// KVM_SIGNAL_MSI
export const KVM_MSI_VALID_DEVID = 0x1

// PIT
export const KVM_PIT_FLAGS_HPET_LEGACY = 0x1
export const KVM_PIT_SPEAKER_DUMMY = 0x1
export const KVM_PIT_FLAGS_SPEAKER_DATA_ON = 0x2

// Clock
export const KVM_CLOCK_TSC_STABLE = 0x2
export const KVM_CLOCK_REALTIME = 0x4
export const KVM_CLOCK_HOST_TSC = 0x8

// CPUID
export const KVM_CPUID_FLAG_SIGNIFCANT_INDEX = 0x1
export const KVM_CPUID_FLAG_STATEFUL_FUNC = 0x2
export const KVM_CPUID_FLAG_STATE_READ_NEXT = 0x4

// MSR filter
export const KVM_MSR_FILTER_DEFAULT_ALLOW = 0x0
export const KVM_MSR_FILTER_DEFAULT_DENY = 0x1
export const KVM_MSR_FILTER_READ = 0x1
export const KVM_MSR_FILTER_WRITE = 0x2
export const KVM_MSR_FILTER_MAX_RANGES = 0x10
export const KVM_MSR_FILTER_MAX_BITMAP_SIZE = 0x600

// Debugging
export const KVM_GUESTDBG_ENABLE = 0x1
export const KVM_GUESTDBG_SINGLESTEP = 0x2
export const KVM_GUESTDBG_USE_SW_BP = 0x10000
export const KVM_GUESTDBG_USE_HW_BP = 0x20000
export const KVM_GUESTDBG_INJECT_DB = 0x40000
export const KVM_GUESTDBG_INJECT_BP = 0x80000
export const KVM_GUESTDBG_BLOCKIRQ = 0x100000

// kvm_vcpu_events
export const KVM_VCPUEVENT_VALID_NMI_PENDING = 0x1
export const KVM_X86_SHADOW_INT_MOV_SS = 0x1
export const KVM_VCPUEVENT_VALID_SIPI_VECTOR = 0x2
export const KVM_X86_SHADOW_INT_STI = 0x2
export const KVM_VCPUEVENT_VALID_SHADOW = 0x4
export const KVM_VCPUEVENT_VALID_SMM = 0x8
export const KVM_VCPUEVENT_VALID_PAYLOAD = 0x10
export const KVM_VCPUEVENT_VALID_TRIPLE_FAULT = 0x20

// kvm_mp_state
export const KVM_MP_STATE_RUNNABLE = 0
export const KVM_MP_STATE_UNINITIALIZED = 1
export const KVM_MP_STATE_INIT_RECEIVED = 2
export const KVM_MP_STATE_HALTED = 3
export const KVM_MP_STATE_SIPI_RECEIVED = 4
export const KVM_MP_STATE_STOPPED = 5
export const KVM_MP_STATE_CHECK_STOP = 6
export const KVM_MP_STATE_OPERATING = 7
export const KVM_MP_STATE_LOAD = 8
export const KVM_MP_STATE_AP_RESET_HOLD = 9
export const KVM_MP_STATE_SUSPENDED = 10

// kvm_sregs2.flags
export const KVM_SREGS2_FLAGS_PDPTRS_VALID = 0x1

// Nested state
export const KVM_STATE_NESTED_FORMAT_VMX = 0x0
export const KVM_STATE_NESTED_FORMAT_SVM = 0x1
export const KVM_STATE_NESTED_GUEST_MODE = 0x1
export const KVM_STATE_NESTED_SMM_GUEST_MODE = 0x1
export const KVM_STATE_VMX_PREEMPTION_TIMER_DEADLINE = 0x1
export const KVM_STATE_NESTED_RUN_PENDING = 0x2
export const KVM_STATE_NESTED_SMM_VMXON = 0x2
export const KVM_STATE_NESTED_EVMCS = 0x4
export const KVM_STATE_NESTED_MTF_PENDING = 0x8
export const KVM_STATE_NESTED_GIF_SET = 0x100
export const KVM_STATE_NESTED_SVM_VMCB_SIZE = 0x1000
export const KVM_STATE_NESTED_VMX_VMCS_SIZE = 0x1000

// KVM_CAP_X86_DISABLE_EXITS
export const KVM_X86_DISABLE_EXITS_MWAIT = 0x1
export const KVM_X86_DISABLE_EXITS_HLT = 0x2
export const KVM_X86_DISABLE_EXITS_PAUSE = 0x4
export const KVM_X86_DISABLE_EXITS_CSTATE = 0x8

// KVM_CAP_DISABLE_QUIRKS2
export const KVM_X86_QUIRK_LINT0_REENABLED = 0x1
export const KVM_X86_QUIRK_CD_NW_CLEARED = 0x2
export const KVM_X86_QUIRK_LAPIC_MMIO_HOLE = 0x4
export const KVM_X86_QUIRK_OUT_7E_INC_RIP = 0x8
export const KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT = 0x10
export const KVM_X86_QUIRK_FIX_HYPERCALL_INSN = 0x20
export const KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS = 0x40
export const KVM_X86_QUIRK_SLOT_ZAP_ALL = 0x80
export const KVM_X86_QUIRK_STUFF_FEATURE_MSRS = 0x100
export const KVM_X86_QUIRK_IGNORE_GUEST_PAT = 0x200

// KVM_CAP_X2APIC_API, KVM_CAP_X86_BUS_LOCK_EXIT, KVM_CAP_X86_NOTIFY_VMEXIT, KVM_CAP_PMU_CAPABILITY
export const KVM_BUS_LOCK_DETECTION_OFF = 0x1
export const KVM_PMU_CAP_DISABLE = 0x1
export const KVM_X2APIC_API_USE_32BIT_IDS = 0x1
export const KVM_X86_NOTIFY_VMEXIT_ENABLED = 0x1
export const KVM_BUS_LOCK_DETECTION_EXIT = 0x2
export const KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK = 0x2
export const KVM_X86_NOTIFY_VMEXIT_USER = 0x2

// KVM_SET_PMU_EVENT_FILTER
export const KVM_PMU_EVENT_ALLOW = 0
export const KVM_PMU_EVENT_DENY = 1
export const KVM_PMU_EVENT_FLAG_MASKED_EVENTS = 1

// KVM_HYPERV_EVENTFD
export const KVM_HYPERV_EVENTFD_DEASSIGN = 0x1

// KVM_XEN_HVM_CONFIG
export const KVM_XEN_HVM_CONFIG_HYPERCALL_MSR = 0x1
export const KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL = 0x2
export const KVM_XEN_HVM_CONFIG_SHARED_INFO = 0x4
export const KVM_XEN_HVM_CONFIG_RUNSTATE = 0x8
export const KVM_XEN_HVM_CONFIG_EVTCHN_2LEVEL = 0x10
export const KVM_XEN_HVM_CONFIG_EVTCHN_SEND = 0x20

// Devices
export const KVM_CREATE_DEVICE_TEST = 1
export const KVM_DEV_VFIO_GROUP = 1
export const KVM_DEV_VFIO_GROUP_ADD = 1
export const KVM_DEV_VFIO_GROUP_DEL = 2
export const KVM_DEV_TYPE_VFIO = 4

// Ids of registers
export const KVM_REG_SIZE_U8 = 0x0n
export const KVM_REG_SIZE_SHIFT = 52n
export const KVM_REG_SIZE_U16 = 0x10000000000000n
export const KVM_REG_SIZE_U32 = 0x20000000000000n
export const KVM_REG_SIZE_U64 = 0x30000000000000n
export const KVM_REG_SIZE_U128 = 0x40000000000000n
export const KVM_REG_SIZE_U256 = 0x50000000000000n
export const KVM_REG_SIZE_U512 = 0x60000000000000n
export const KVM_REG_SIZE_U1024 = 0x70000000000000n
export const KVM_REG_SIZE_U2048 = 0x80000000000000n
export const KVM_REG_SIZE_MASK = 0xf0000000000000n
export const KVM_REG_X86 = 0x2000000000000000n

// Attributes of a vCPU
export const KVM_VCPU_TSC_CTRL = 0
export const KVM_VCPU_TSC_OFFSET = 0

// Vectors of exceptions
export const DE_VECTOR = 0
export const DB_VECTOR = 1
export const BP_VECTOR = 3
export const OF_VECTOR = 4
export const BR_VECTOR = 5
export const UD_VECTOR = 6
export const NM_VECTOR = 7
export const DF_VECTOR = 8
export const TS_VECTOR = 10
export const NP_VECTOR = 11
export const SS_VECTOR = 12
export const GP_VECTOR = 13
export const PF_VECTOR = 14
export const MF_VECTOR = 16
export const AC_VECTOR = 17
export const MC_VECTOR = 18
export const XM_VECTOR = 19
export const VE_VECTOR = 20
