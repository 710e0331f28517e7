/**
 * All that KVM knows of a vCPU, as plain data, and back in the order that works: Documentation/virt/kvm/api.rst, and what
 * each ioctl reads of the state that others have set.
 */
import {
  type CpuidEntry,
  type DebugRegs,
  type Json,
  KVM_MP_STATE_SUSPENDED,
  kvm_cpuid_entry2,
  kvm_debugregs,
  kvm_lapic_state,
  kvm_msr_entry,
  kvm_regs,
  kvm_sregs,
  kvm_vcpu_events,
  kvm_xcrs,
  type LapicState,
  MSR_IA32_TSC,
  type Msr,
  type Regs,
  type Sregs,
  type Vcpu,
  type VcpuEvents,
  type Xcrs,
} from '@vmm/kvm-ioctls'
import { MicroVmError } from '../error.ts'
import { bytes, list, wholeNumber } from './checks.ts'

/** A vCPU that does not run. */
export interface VcpuState {
  /** What it shows the guest. */
  readonly cpuid: readonly CpuidEntry[]
  /** `KVM_MP_STATE_*` */
  readonly mpState: number
  /** General registers. */
  readonly regs: Regs
  /** Segment, control and descriptor table registers. */
  readonly sregs: Sregs
  /** The XSAVE area: x87, SSE and what came later. */
  readonly xsave: Uint8Array
  /** Extended control registers: XCR0. */
  readonly xcrs: Xcrs
  /** DR0 to DR3, DR6 and DR7. */
  readonly debugRegs: DebugRegs
  /** The registers of its local APIC. */
  readonly lapic: LapicState
  /** Those of the host's list that can be read, in its order. */
  readonly msrs: readonly Msr[]
  /** Exceptions, interrupts, NMIs and SMIs that are on their way. */
  readonly events: VcpuEvents
}

/** The state of a vCPU whose last exit has been completed. @param msrs indices, as the host lists them */
export function saveVcpu(vcpu: Vcpu, msrs: readonly number[]): VcpuState {
  return {
    cpuid: vcpu.getCpuid2(),
    // First: KVM takes a pending INIT or SIPI into account here.
    mpState: vcpu.getMpState(),
    regs: { ...vcpu.getRegs() },
    sregs: { ...vcpu.getSregs() },
    xsave: vcpu.getXsave(),
    xcrs: vcpu.getXcrs(),
    debugRegs: vcpu.getDebugRegs(),
    lapic: vcpu.getLapic(),
    msrs: readMsrs(vcpu, msrs),
    events: vcpu.getVcpuEvents(),
  }
}

/**
 * Puts a state into a new vCPU.
 * @param tscTicks how far the TSC has come meanwhile
 * @throws MicroVmError ERR_MICROVM_STATE for what this host's KVM does not take
 */
export function restoreVcpu(vcpu: Vcpu, state: VcpuState, tscTicks: bigint): void {
  vcpu.setCpuid2(state.cpuid)
  // All but the first are made waiting for INIT.
  vcpu.setMpState(state.mpState)
  vcpu.setRegs(state.regs)
  // The APIC's base and mode, which the APIC's registers are read by.
  vcpu.setSregs(state.sregs)
  vcpu.setXcrs(state.xcrs)
  vcpu.setXsave(state.xsave)
  vcpu.setDebugRegs(state.debugRegs)
  // The timer's mode, without which a TSC deadline is none.
  vcpu.setLapic(state.lapic)
  writeMsrs(
    vcpu,
    state.msrs.map((msr) =>
      msr.index === MSR_IA32_TSC ? { ...msr, data: BigInt.asUintN(64, msr.data + tscTicks) } : msr,
    ),
  )
  // Last: what is pending is taken back by other ioctls.
  vcpu.setVcpuEvents(state.events)
}

function readMsrs(vcpu: Vcpu, indices: readonly number[]): Msr[] {
  const found: Msr[] = []
  for (let at = 0; at < indices.length; at++) {
    const read = vcpu.getMsrs(indices.slice(at))
    found.push(...read)
    // KVM stops at one that this vCPU has not.
    at += read.length
  }
  return found
}

function writeMsrs(vcpu: Vcpu, msrs: readonly Msr[]): void {
  for (let at = 0; at < msrs.length; at++) {
    at += vcpu.setMsrs(msrs.slice(at))
    const refused = msrs[at]
    if (refused === undefined) return
    // Some can be read and not be written: what matters is what they are.
    const found = vcpu.getMsrs([refused.index])[0]?.data
    if (found === refused.data) continue
    throw new MicroVmError(
      'ERR_MICROVM_STATE',
      `this host's KVM does not take 0x${refused.data.toString(16)} for the MSR 0x${refused.index.toString(16)}`,
    )
  }
}

/** As JSON: wide numbers and bytes in hexadecimal. */
export function vcpuStateToJson(state: VcpuState): Json {
  return {
    cpuid: state.cpuid.map((entry) => kvm_cpuid_entry2.toJSON(entry)),
    mpState: state.mpState,
    regs: kvm_regs.toJSON(state.regs),
    sregs: kvm_sregs.toJSON(state.sregs),
    xsave: Buffer.from(state.xsave).toString('base64'),
    xcrs: kvm_xcrs.toJSON(state.xcrs),
    debugRegs: kvm_debugregs.toJSON(state.debugRegs),
    lapic: kvm_lapic_state.toJSON(state.lapic),
    msrs: state.msrs.map((msr) => kvm_msr_entry.toJSON(msr)),
    events: kvm_vcpu_events.toJSON(state.events),
  }
}

/** From JSON. @throws MicroVmError ERR_MICROVM_STATE, KvmError ERR_KVM_INVALID_STATE */
export function vcpuStateFromJson(json: Readonly<Record<string, unknown>>): VcpuState {
  return {
    cpuid: list(json['cpuid'], 'cpuid').map((entry) => kvm_cpuid_entry2.fromJSON(entry)),
    mpState: wholeNumber(json['mpState'], 'mpState', KVM_MP_STATE_SUSPENDED),
    regs: kvm_regs.fromJSON(json['regs']),
    sregs: kvm_sregs.fromJSON(json['sregs']),
    xsave: bytes(json['xsave'], 'xsave'),
    xcrs: kvm_xcrs.fromJSON(json['xcrs']),
    debugRegs: kvm_debugregs.fromJSON(json['debugRegs']),
    lapic: kvm_lapic_state.fromJSON(json['lapic']),
    msrs: list(json['msrs'], 'msrs').map((msr) => kvm_msr_entry.fromJSON(msr)),
    events: kvm_vcpu_events.fromJSON(json['events']),
  }
}
