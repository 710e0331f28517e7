/**
 * The page that a vCPU shares with the kernel, and the rings behind it: `struct kvm_run` and others of `<linux/kvm.h>`.
 */
import { array, bytes, size64, u8, u16, u32, u64 } from '../layout/field.ts'
import { Struct, type StructMembers } from '../layout/struct.ts'
import { kvm_vcpu_events, type VcpuEvents } from './events.ts'
import { kvm_regs, kvm_sregs, type Regs, type Sregs } from './registers.ts'

/** Registers that travel in the run page: `kvm_sync_regs`. */
export interface SyncRegs {
  regs: Regs
  sregs: Sregs
  events: VcpuEvents
}

export const kvm_sync_regs: Struct<SyncRegs> = new Struct<SyncRegs>('kvm_sync_regs', {
  regs: kvm_regs,
  sregs: kvm_sregs,
  events: kvm_vcpu_events,
})

/** Where the union of exits begins, and how long it is. */
const EXIT_OFFSET = 32
const EXIT_SIZE = 256

/** `SYNC_REGS_SIZE_BYTES` */
const SYNC_REGS_SIZE = 2048

interface RunHeader {
  request_interrupt_window: number
  immediate_exit: number
  exit_reason: number
  ready_for_interrupt_injection: number
  if_flag: number
  flags: number
  cr8: bigint
  apic_base: bigint
  kvm_valid_regs: bigint
  kvm_dirty_regs: bigint
  s: { regs: SyncRegs }
}

/** `struct kvm_run` but for the union of exits. */
export const kvm_run: Struct<RunHeader> = new Struct<RunHeader>('kvm_run', {
  request_interrupt_window: u8,
  immediate_exit: u8,
  _padding1: bytes(6),
  exit_reason: u32,
  ready_for_interrupt_injection: u8,
  if_flag: u8,
  flags: u16,
  cr8: u64,
  apic_base: u64,
  _exit: bytes(EXIT_SIZE),
  kvm_valid_regs: u64,
  kvm_dirty_regs: u64,
  s: new Struct('kvm_run.s', { regs: kvm_sync_regs, _padding: bytes(SYNC_REGS_SIZE - kvm_sync_regs.size) }),
})

/** A member of the union of exits: its offsets are those within `struct kvm_run`. */
function exit<T extends object>(name: string, members: StructMembers<T>): Struct<T> {
  return new Struct<T>(`kvm_run.${name}`, { _head: bytes(EXIT_OFFSET), ...members })
}

export const kvm_run_hw: Struct<{ hardware_exit_reason: bigint }> = exit('hw', { hardware_exit_reason: u64 })

export const kvm_run_fail_entry: Struct<{ hardware_entry_failure_reason: bigint; cpu: number }> = exit(
  'fail_entry',
  { hardware_entry_failure_reason: u64, cpu: u32 },
)

export const kvm_run_ex: Struct<{ exception: number; error_code: number }> = exit('ex', {
  exception: u32,
  error_code: u32,
})

export const kvm_run_io: Struct<{
  direction: number
  size: number
  port: number
  count: number
  data_offset: number
}> = exit('io', { direction: u8, size: u8, port: u16, count: u32, data_offset: size64 })

export const kvm_run_debug: Struct<{
  arch: { exception: number; pc: bigint; dr6: bigint; dr7: bigint }
}> = exit('debug', {
  arch: new Struct('kvm_debug_exit_arch', { exception: u32, _pad: u32, pc: u64, dr6: u64, dr7: u64 }),
})

export const kvm_run_mmio: Struct<{ phys_addr: number; data: Uint8Array; len: number; is_write: number }> =
  exit('mmio', { phys_addr: size64, data: bytes(8), len: u32, is_write: u8 })

export const kvm_run_hypercall: Struct<{
  nr: bigint
  args: readonly bigint[]
  ret: bigint
  longmode: number
}> = exit('hypercall', { nr: u64, args: array(u64, 6), ret: u64, longmode: u32 })

export const kvm_run_tpr_access: Struct<{ rip: bigint; is_write: number }> = exit('tpr_access', {
  rip: u64,
  is_write: u32,
})

export const kvm_run_internal: Struct<{ suberror: number; ndata: number; data: readonly bigint[] }> = exit(
  'internal',
  { suberror: u32, ndata: u32, data: array(u64, 16) },
)

export const kvm_run_emulation_failure: Struct<{
  suberror: number
  ndata: number
  flags: bigint
  insn_size: number
  insn_bytes: Uint8Array
}> = exit('emulation_failure', {
  suberror: u32,
  ndata: u32,
  flags: u64,
  insn_size: u8,
  insn_bytes: bytes(15),
})

export const kvm_run_system_event: Struct<{ type: number; ndata: number; data: readonly bigint[] }> = exit(
  'system_event',
  { type: u32, ndata: u32, data: array(u64, 16) },
)

export const kvm_run_eoi: Struct<{ vector: number }> = exit('eoi', { vector: u8 })

export const kvm_run_msr: Struct<{ error: number; reason: number; index: number; data: bigint }> = exit(
  'msr',
  {
    error: u8,
    _pad: bytes(7),
    reason: u32,
    index: u32,
    data: u64,
  },
)

export const kvm_run_notify: Struct<{ flags: number }> = exit('notify', { flags: u32 })

export const kvm_run_memory_fault: Struct<{ flags: bigint; gpa: number; size: number }> = exit(
  'memory_fault',
  {
    flags: u64,
    gpa: size64,
    size: size64,
  },
)

/** `struct kvm_hyperv_exit`; the union behind `type` as one run of words. */
export const kvm_run_hyperv: Struct<{ type: number; u: readonly bigint[] }> = exit('hyperv', {
  type: u32,
  u: array(u64, 6),
})

/** `struct kvm_xen_exit` with its one kind. */
export const kvm_run_xen: Struct<{
  type: number
  u: {
    hcall: { longmode: number; cpl: number; input: bigint; result: bigint; params: readonly bigint[] }
  }
}> = exit('xen', {
  type: u32,
  u: new Struct('kvm_xen_exit.u', {
    hcall: new Struct('kvm_xen_exit.u.hcall', {
      longmode: u32,
      cpl: u32,
      input: u64,
      result: u64,
      params: array(u64, 6),
    }),
  }),
})

/** One write in the ring of coalesced ones. */
export const kvm_coalesced_mmio: Struct<{ phys_addr: number; len: number; pio: number; data: Uint8Array }> =
  new Struct('kvm_coalesced_mmio', { phys_addr: size64, len: u32, pio: u32, data: bytes(8) })

export const kvm_coalesced_mmio_ring: Struct<{ first: number; last: number }> = new Struct(
  'kvm_coalesced_mmio_ring',
  { first: u32, last: u32 },
)

/** One page in the ring of dirty ones. */
export const kvm_dirty_gfn: Struct<{ flags: number; slot: number; offset: number }> = new Struct(
  'kvm_dirty_gfn',
  {
    flags: u32,
    slot: u32,
    offset: size64,
  },
)
