/**
 * All that KVM knows of a VM beside its vCPUs and its memory: the interrupt controllers, the timer, the clock.
 */
import {
  type ClockData,
  type IoapicState,
  type Json,
  KVM_CLOCK_REALTIME,
  kvm_clock_data,
  kvm_ioapic_state,
  kvm_pic_state,
  kvm_pit_state2,
  type PicState,
  type PitState2,
  type Vm,
} from '@vmm/kvm-ioctls'
import { wholeNumber } from './checks.ts'

/** The two i8259s, by the number that KVM has for each. */
const PIC_MASTER = 0
const PIC_SLAVE = 1
/** Some 100 times what CPUs have. */
const TSC_KHZ_MAX = 2 ** 29
const NS_PER_MS = 1_000_000n

/** A VM whose vCPUs do not run. */
export interface KvmVmState {
  /** The first i8259. */
  readonly picMaster: PicState
  /** The second i8259. */
  readonly picSlave: PicState
  /** The I/O APIC. */
  readonly ioapic: IoapicState
  /** The 8254 timer. */
  readonly pit: PitState2
  /** kvm-clock, with the host's wall clock at the same moment. */
  readonly clock: ClockData
  /** Frequency of the guest's TSC, in kHz. */
  readonly tscKhz: number
}

/** The state of a VM. @param tscKhz of its first vCPU */
export function saveKvmVm(vm: Vm, tscKhz: number): KvmVmState {
  const clock = vm.getClock()
  const hasRealtime = (clock.flags & KVM_CLOCK_REALTIME) !== 0
  return {
    picMaster: vm.getPic(PIC_MASTER),
    picSlave: vm.getPic(PIC_SLAVE),
    ioapic: vm.getIoapic(),
    pit: vm.getPit2(),
    clock: { ...clock, realtime: hasRealtime ? clock.realtime : wallClock() },
    tscKhz,
  }
}

/** Puts the interrupt controllers and the timer into a new VM, before its devices are made. */
export function restoreKvmVm(vm: Vm, state: KvmVmState): void {
  vm.setPic(PIC_MASTER, state.picMaster)
  vm.setPic(PIC_SLAVE, state.picSlave)
  vm.setIoapic(state.ioapic)
  vm.setPit2(state.pit)
}

/** Nanoseconds since a state was saved, by the host's wall clock; none where that was set back. */
export function elapsedSince({ clock }: KvmVmState): bigint {
  const elapsed = wallClock() - clock.realtime
  return elapsed > 0n ? elapsed : 0n
}

/** Sets kvm-clock as far on as time has gone on, when the vCPUs are there. */
export function restoreClock(vm: Vm, state: KvmVmState, elapsed: bigint): void {
  vm.setClock({ clock: state.clock.clock + elapsed, flags: 0, realtime: 0n, host_tsc: 0n })
}

/** In nanoseconds since 1970. */
function wallClock(): bigint {
  return BigInt(Date.now()) * NS_PER_MS
}

/** As JSON: wide numbers and bytes in hexadecimal. */
export function kvmVmStateToJson(state: KvmVmState): Json {
  return {
    picMaster: kvm_pic_state.toJSON(state.picMaster),
    picSlave: kvm_pic_state.toJSON(state.picSlave),
    ioapic: kvm_ioapic_state.toJSON(state.ioapic),
    pit: kvm_pit_state2.toJSON(state.pit),
    clock: kvm_clock_data.toJSON(state.clock),
    tscKhz: state.tscKhz,
  }
}

/** From JSON. @throws MicroVmError ERR_MICROVM_STATE, KvmError ERR_KVM_INVALID_STATE */
export function kvmVmStateFromJson(json: Readonly<Record<string, unknown>>): KvmVmState {
  return {
    picMaster: kvm_pic_state.fromJSON(json['picMaster']),
    picSlave: kvm_pic_state.fromJSON(json['picSlave']),
    ioapic: kvm_ioapic_state.fromJSON(json['ioapic']),
    pit: kvm_pit_state2.fromJSON(json['pit']),
    clock: kvm_clock_data.fromJSON(json['clock']),
    tscKhz: wholeNumber(json['tscKhz'], 'tscKhz', TSC_KHZ_MAX),
  }
}
