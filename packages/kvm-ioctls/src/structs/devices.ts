/**
 * State of the devices that KVM has in the kernel: interrupt controllers, timer, clock.
 */
import { array, bytes, s32, u8, u16, u32, u64 } from '../layout/field.ts'
import { Struct } from '../layout/struct.ts'

/** One 8259A. */
export interface PicState {
  last_irr: number
  irr: number
  imr: number
  isr: number
  priority_add: number
  irq_base: number
  read_reg_select: number
  poll: number
  special_mask: number
  init_state: number
  auto_eoi: number
  rotate_on_auto_eoi: number
  special_fully_nested_mode: number
  init4: number
  elcr: number
  elcr_mask: number
}

export const kvm_pic_state: Struct<PicState> = new Struct<PicState>('kvm_pic_state', {
  last_irr: u8,
  irr: u8,
  imr: u8,
  isr: u8,
  priority_add: u8,
  irq_base: u8,
  read_reg_select: u8,
  poll: u8,
  special_mask: u8,
  init_state: u8,
  auto_eoi: u8,
  rotate_on_auto_eoi: u8,
  special_fully_nested_mode: u8,
  init4: u8,
  elcr: u8,
  elcr_mask: u8,
})

/** The I/O APIC. */
export interface IoapicState {
  /** Guest-physical. */
  base_address: bigint
  ioregsel: number
  id: number
  irr: number
  /** The 24 redirection entries, as the hardware has them. */
  redirtbl: readonly bigint[]
}

export const kvm_ioapic_state: Struct<IoapicState> = new Struct<IoapicState>('kvm_ioapic_state', {
  base_address: u64,
  ioregsel: u32,
  id: u32,
  irr: u32,
  _pad: u32,
  redirtbl: array(u64, 24),
})

/** One interrupt controller, behind its number: KVM_GET_IRQCHIP. */
export const kvm_irqchip: Struct<{ chip_id: number; chip: Uint8Array }> = new Struct('kvm_irqchip', {
  chip_id: u32,
  _pad: u32,
  chip: bytes(512),
})

/** KVM_CREATE_PIT2 */
export const kvm_pit_config: Struct<{ flags: number }> = new Struct('kvm_pit_config', {
  flags: u32,
  _pad: bytes(60),
})

/** One of the 8254's counters. */
export interface PitChannelState {
  /** Up to 65536. */
  count: number
  latched_count: number
  count_latched: number
  status_latched: number
  status: number
  read_state: number
  write_state: number
  write_latch: number
  rw_mode: number
  mode: number
  bcd: number
  gate: number
  /** When the count was loaded, in the host's monotonic nanoseconds; two's complement. */
  count_load_time: bigint
}

export const kvm_pit_channel_state: Struct<PitChannelState> = new Struct<PitChannelState>(
  'kvm_pit_channel_state',
  {
    count: u32,
    latched_count: u16,
    count_latched: u8,
    status_latched: u8,
    status: u8,
    read_state: u8,
    write_state: u8,
    write_latch: u8,
    rw_mode: u8,
    mode: u8,
    bcd: u8,
    gate: u8,
    count_load_time: u64,
  },
)

/** The 8254: KVM_GET_PIT2. */
export interface PitState2 {
  channels: readonly PitChannelState[]
  /** `KVM_PIT_FLAGS_*` */
  flags: number
}

export const kvm_pit_state2: Struct<PitState2> = new Struct<PitState2>('kvm_pit_state2', {
  channels: array(kvm_pit_channel_state, 3),
  flags: u32,
  _reserved: bytes(36),
})

/** KVM_REINJECT_CONTROL */
export const kvm_reinject_control: Struct<{ pit_reinject: number }> = new Struct('kvm_reinject_control', {
  pit_reinject: u8,
  _reserved: bytes(31),
})

/** The guest's clock: KVM_GET_CLOCK. */
export interface ClockData {
  /** Nanoseconds of kvm-clock. */
  clock: bigint
  /** `KVM_CLOCK_*`: which of the members below count. */
  flags: number
  /** The host's wall clock at the same moment, in nanoseconds since 1970. */
  realtime: bigint
  /** The host's TSC at the same moment. */
  host_tsc: bigint
}

export const kvm_clock_data: Struct<ClockData> = new Struct<ClockData>('kvm_clock_data', {
  clock: u64,
  flags: u32,
  _pad0: u32,
  realtime: u64,
  host_tsc: u64,
  _pad: bytes(16),
})

/** The local APIC's registers: KVM_GET_LAPIC. */
export interface LapicState {
  /** The first KiB of its register page. */
  regs: Uint8Array
}

export const kvm_lapic_state: Struct<LapicState> = new Struct<LapicState>('kvm_lapic_state', {
  regs: bytes(0x400),
})

/** KVM_CREATE_DEVICE */
export const kvm_create_device: Struct<{ type: number; fd: number; flags: number }> = new Struct(
  'kvm_create_device',
  { type: u32, fd: u32, flags: u32 },
)

/** KVM_SET_DEVICE_ATTR and its like. */
export const kvm_device_attr: Struct<{ flags: number; group: number; attr: bigint; addr: bigint }> =
  new Struct('kvm_device_attr', { flags: u32, group: u32, attr: u64, addr: u64 })

/** KVM_HYPERV_EVENTFD */
export const kvm_hyperv_eventfd: Struct<{ conn_id: number; fd: number; flags: number }> = new Struct(
  'kvm_hyperv_eventfd',
  { conn_id: u32, fd: s32, flags: u32, _padding: bytes(12) },
)
