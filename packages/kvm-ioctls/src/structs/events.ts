/**
 * What a vCPU is about to do besides its next instruction, and how it is debugged: `<asm/kvm.h>`, `<linux/kvm.h>`.
 */
import { array, bytes, size64, u8, u32, u64 } from '../layout/field.ts'
import { Struct } from '../layout/struct.ts'

/** Events pending or in delivery: KVM_GET_VCPU_EVENTS. Flags are 0 or 1. */
export interface VcpuEvents {
  exception: {
    injected: number
    /** The vector. */
    nr: number
    has_error_code: number
    pending: number
    error_code: number
  }
  interrupt: {
    injected: number
    /** The vector. */
    nr: number
    /** 1 for `int n`. */
    soft: number
    /** `KVM_X86_SHADOW_INT_*` */
    shadow: number
  }
  nmi: { injected: number; pending: number; masked: number }
  sipi_vector: number
  /** `KVM_VCPUEVENT_VALID_*`: which of the optional members count. */
  flags: number
  smi: { smm: number; pending: number; smm_inside_nmi: number; latched_init: number }
  triple_fault: { pending: number }
  exception_has_payload: number
  /** What the exception will leave in DR6 or CR2. */
  exception_payload: bigint
}

export const kvm_vcpu_events: Struct<VcpuEvents> = new Struct<VcpuEvents>('kvm_vcpu_events', {
  exception: new Struct('kvm_vcpu_events.exception', {
    injected: u8,
    nr: u8,
    has_error_code: u8,
    pending: u8,
    error_code: u32,
  }),
  interrupt: new Struct('kvm_vcpu_events.interrupt', {
    injected: u8,
    nr: u8,
    soft: u8,
    shadow: u8,
  }),
  nmi: new Struct('kvm_vcpu_events.nmi', { injected: u8, pending: u8, masked: u8, _pad: u8 }),
  sipi_vector: u32,
  flags: u32,
  smi: new Struct('kvm_vcpu_events.smi', {
    smm: u8,
    pending: u8,
    smm_inside_nmi: u8,
    latched_init: u8,
  }),
  triple_fault: new Struct('kvm_vcpu_events.triple_fault', { pending: u8 }),
  _reserved: bytes(26),
  exception_has_payload: u8,
  exception_payload: u64,
})

/** KVM_GET_MP_STATE */
export interface MpState {
  /** `KVM_MP_STATE_*` */
  mp_state: number
}

export const kvm_mp_state: Struct<MpState> = new Struct<MpState>('kvm_mp_state', {
  mp_state: u32,
})

/** How a guest is debugged from outside: KVM_SET_GUEST_DEBUG. */
export interface GuestDebug {
  /** `KVM_GUESTDBG_*`; 0 ends it. */
  control: number
  arch: {
    /** DR0 to DR7 for KVM_GUESTDBG_USE_HW_BP. */
    debugreg: readonly bigint[]
  }
}

export const kvm_guest_debug: Struct<GuestDebug> = new Struct<GuestDebug>('kvm_guest_debug', {
  control: u32,
  _pad: u32,
  arch: new Struct('kvm_guest_debug_arch', { debugreg: array(u64, 8) }),
})

/** What an address means to the guest now: KVM_TRANSLATE. */
export interface Translation {
  linear_address: bigint
  /** Where it lies in guest memory; meaningless where `valid` is 0. */
  physical_address: bigint
  /** 1 where there is a mapping. */
  valid: number
  /** The kernel gives 1 or nothing of meaning: it does not walk the permissions. */
  writeable: number
  /** As `writeable`. */
  usermode: number
}

export const kvm_translation: Struct<Translation> = new Struct<Translation>('kvm_translation', {
  linear_address: u64,
  physical_address: u64,
  valid: u8,
  writeable: u8,
  usermode: u8,
  _pad: bytes(5),
})

/** A machine check to inject: KVM_X86_SET_MCE. */
export interface MachineCheck {
  /** MCi_STATUS */
  status: bigint
  /** MCi_ADDR */
  addr: bigint
  /** MCi_MISC */
  misc: bigint
  /** MCG_STATUS */
  mcg_status: bigint
  bank: number
}

export const kvm_x86_mce: Struct<MachineCheck> = new Struct<MachineCheck>('kvm_x86_mce', {
  status: u64,
  addr: u64,
  misc: u64,
  mcg_status: u64,
  bank: u8,
  _pad1: bytes(7),
  _pad2: bytes(24),
})

/** KVM_TPR_ACCESS_REPORTING */
export interface TprAccessControl {
  enabled: number
  flags: number
}

export const kvm_tpr_access_ctl: Struct<TprAccessControl> = new Struct<TprAccessControl>(
  'kvm_tpr_access_ctl',
  { enabled: u32, flags: u32, _reserved: bytes(32) },
)

/** KVM_INTERRUPT */
export const kvm_interrupt: Struct<{ irq: number }> = new Struct('kvm_interrupt', { irq: u32 })

/** KVM_SET_VAPIC_ADDR */
export const kvm_vapic_addr: Struct<{ vapic_addr: number }> = new Struct('kvm_vapic_addr', {
  vapic_addr: size64,
})

/** KVM_SET_SIGNAL_MASK; the set of `len` bytes is behind it. */
export const kvm_signal_mask: Struct<{ len: number }> = new Struct('kvm_signal_mask', { len: u32 })
