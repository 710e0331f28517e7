/**
 * What a vCPU holds: registers, pending events, its APIC, its CPUID. Documentation/virt/kvm/api.rst, "vcpu ioctls".
 * None of it may be asked for while the vCPU runs: KVM would wait for the run to end.
 */
import { addressOf, OwnedFd } from '@vmm/sys-util'
import { Attributed } from './attributes.ts'
import { KVM_REG_SIZE_MASK, KVM_REG_SIZE_SHIFT } from './constants/flags.ts'
import { getCpuid, KVM_MAX_CPUID_ENTRIES, setCpuid } from './cpuid.ts'
import { type EnableCapOptions, encodeEnableCap } from './enable-cap.ts'
import { outOfRange } from './errors.ts'
import { getStruct, request, requestRaw, setStruct } from './handle.ts'
import { u64 } from './layout/field.ts'
import { List } from './list.ts'
import { getMsrs, setMsrs } from './msr.ts'
import { kvm_lapic_state, type LapicState } from './structs/devices.ts'
import * as events from './structs/events.ts'
import { type CpuidEntry, kvm_one_reg, kvm_reg_list, type Msr } from './structs/lists.ts'
import * as registers from './structs/registers.ts'

const E2BIG = 7
const XSAVE_SIZE = 4096
const NESTED_STATE_HEADER_SIZE = 128
const NESTED_STATE_SIZE_OFFSET = 4

/** The state of a vCPU. */
export class VcpuState extends Attributed {
  readonly #xsaveSize: number
  readonly #translation = events.kvm_translation.allocate()

  /** @param xsaveSize what KVM_CAP_XSAVE2 says of the VM; 0 where KVM lacks it */
  protected constructor(fd: number, owned: boolean, xsaveSize: number) {
    super(fd, owned)
    this.#xsaveSize = xsaveSize
  }

  // Registers

  /**
   * The general-purpose registers.
   * @param into a view that `kvm_regs.allocate()` made, to be filled instead of a new object
   */
  getRegs(into?: registers.Regs): registers.Regs {
    return getStruct(this, 'KVM_GET_REGS', registers.kvm_regs, into)
  }

  setRegs(regs: registers.Regs): void {
    setStruct(this, 'KVM_SET_REGS', registers.kvm_regs, regs)
  }

  /**
   * Segments, descriptor tables and control registers.
   * @param into a view that `kvm_sregs.allocate()` made, to be filled instead of a new object
   */
  getSregs(into?: registers.Sregs): registers.Sregs {
    return getStruct(this, 'KVM_GET_SREGS', registers.kvm_sregs, into)
  }

  setSregs(sregs: registers.Sregs): void {
    setStruct(this, 'KVM_SET_SREGS', registers.kvm_sregs, sregs)
  }

  /** As {@link getSregs}, with the entries that PAE paging has loaded. Needs KVM_CAP_SREGS2. */
  getSregs2(into?: registers.Sregs2): registers.Sregs2 {
    return getStruct(this, 'KVM_GET_SREGS2', registers.kvm_sregs2, into)
  }

  setSregs2(sregs: registers.Sregs2): void {
    setStruct(this, 'KVM_SET_SREGS2', registers.kvm_sregs2, sregs)
  }

  /** x87 and SSE registers; KVM leaves `mxcsr` out, both ways. {@link getXsave} has all. */
  getFpu(): registers.Fpu {
    return getStruct(this, 'KVM_GET_FPU', registers.kvm_fpu)
  }

  setFpu(fpu: registers.Fpu): void {
    setStruct(this, 'KVM_SET_FPU', registers.kvm_fpu, fpu)
  }

  /** The XSAVE area, laid out as the host's CPUID leaf 0xd says; 4096 bytes, or more where KVM_CAP_XSAVE2 says so. */
  getXsave(): Uint8Array<ArrayBuffer> {
    const area = new Uint8Array(Math.max(XSAVE_SIZE, this.#xsaveSize))
    request(this, this.#xsaveSize > 0 ? 'KVM_GET_XSAVE2' : 'KVM_GET_XSAVE', area)
    return area
  }

  /**
   * Sets all of the XSAVE area.
   * @param area as long as {@link getXsave} gives it
   * @throws KvmError ERR_KVM_OUT_OF_RANGE for another length
   */
  setXsave(area: Uint8Array): void {
    const size = Math.max(XSAVE_SIZE, this.#xsaveSize)
    // KVM reads that many bytes, whatever there are.
    if (area.length !== size) throw outOfRange('XSAVE area', `${size} bytes`, area.length)
    request(this, 'KVM_SET_XSAVE', area)
  }

  getXcrs(): registers.Xcrs {
    return getStruct(this, 'KVM_GET_XCRS', registers.kvm_xcrs)
  }

  setXcrs(xcrs: registers.Xcrs): void {
    setStruct(this, 'KVM_SET_XCRS', registers.kvm_xcrs, xcrs)
  }

  getDebugRegs(): registers.DebugRegs {
    return getStruct(this, 'KVM_GET_DEBUGREGS', registers.kvm_debugregs)
  }

  setDebugRegs(debugRegs: registers.DebugRegs): void {
    setStruct(this, 'KVM_SET_DEBUGREGS', registers.kvm_debugregs, debugRegs)
  }

  /**
   * Reads MSRs.
   * @param indices up to 256
   * @returns those read: where KVM refuses one, it and all after it are missing
   */
  getMsrs(indices: readonly number[]): Msr[] {
    return getMsrs(this, indices)
  }

  /**
   * Writes MSRs, in order: the TSC before what depends on it.
   * @param msrs up to 256
   * @returns how many: where KVM refuses one, it and all after it are not written
   */
  setMsrs(msrs: readonly Msr[]): number {
    return setMsrs(this, msrs)
  }

  /** A register by its id, `KVM_REG_*`, as many bytes as the id says. Needs KVM_CAP_ONE_REG. */
  getOneReg(id: bigint): Uint8Array<ArrayBuffer> {
    const value = new Uint8Array(oneRegSize(id))
    setStruct(this, 'KVM_GET_ONE_REG', kvm_one_reg, { id, addr: addressOf(value) })
    return value
  }

  /**
   * Sets a register by its id. Needs KVM_CAP_ONE_REG.
   * @param value as many bytes as the id says
   * @throws KvmError ERR_KVM_OUT_OF_RANGE for another number of bytes
   */
  setOneReg(id: bigint, value: Uint8Array): void {
    const size = oneRegSize(id)
    if (value.length !== size)
      throw outOfRange(`register 0x${id.toString(16)}`, `${size} bytes`, value.length)
    setStruct(this, 'KVM_SET_ONE_REG', kvm_one_reg, { id, addr: addressOf(value) })
  }

  /** The ids that {@link getOneReg} knows. Needs KVM_CAP_ONE_REG. */
  regList(): bigint[] {
    const header = new List(kvm_reg_list.size, u64, 0)
    if (requestRaw(this, 'KVM_GET_REG_LIST', header.bytes) !== -E2BIG) {
      request(this, 'KVM_GET_REG_LIST', header.bytes)
    }
    const list = new List(kvm_reg_list.size, u64, header.count)
    request(this, 'KVM_GET_REG_LIST', list.bytes)
    return list.elements()
  }

  // CPUID and capabilities

  /**
   * Says what the guest's CPUID instruction answers. Before the first run.
   * @param entries up to 256
   */
  setCpuid2(entries: readonly CpuidEntry[]): void {
    setCpuid(this, 'KVM_SET_CPUID2', entries)
  }

  /**
   * What CPUID answers.
   * @param max 1 to 256, the default
   * @throws SystemError E2BIG where there are more
   */
  getCpuid2(max: number = KVM_MAX_CPUID_ENTRIES): CpuidEntry[] {
    return getCpuid(this, 'KVM_GET_CPUID2', max)
  }

  /** The Hyper-V leaves that KVM supports for this vCPU. Needs KVM_CAP_HYPERV_CPUID. */
  supportedHypervCpuid(max: number = KVM_MAX_CPUID_ENTRIES): CpuidEntry[] {
    return getCpuid(this, 'KVM_GET_SUPPORTED_HV_CPUID', max)
  }

  /** As {@link Vm.enableCap}, for what is switched on by vCPU. */
  enableCap(capability: number, options: EnableCapOptions = {}): void {
    request(this, 'KVM_ENABLE_CAP', encodeEnableCap(capability, options))
  }

  /** The guest's TSC frequency in kHz. Needs KVM_CAP_GET_TSC_KHZ. */
  getTscKhz(): number {
    return request(this, 'KVM_GET_TSC_KHZ')
  }

  /** Needs KVM_CAP_TSC_CONTROL. */
  setTscKhz(khz: number): void {
    request(this, 'KVM_SET_TSC_KHZ', khz)
  }

  // Events

  getVcpuEvents(): events.VcpuEvents {
    return getStruct(this, 'KVM_GET_VCPU_EVENTS', events.kvm_vcpu_events)
  }

  /** Sets what is pending; `flags` says which of the optional members are taken. */
  setVcpuEvents(state: events.VcpuEvents): void {
    setStruct(this, 'KVM_SET_VCPU_EVENTS', events.kvm_vcpu_events, state)
  }

  /** What the vCPU is waiting for: one of `KVM_MP_STATE_*`. */
  getMpState(): number {
    return getStruct(this, 'KVM_GET_MP_STATE', events.kvm_mp_state).mp_state
  }

  setMpState(mp_state: number): void {
    setStruct(this, 'KVM_SET_MP_STATE', events.kvm_mp_state, { mp_state })
  }

  /** Puts an external interrupt in, where there is no irqchip. The guest has to be able to take it. */
  interrupt(vector: number): void {
    setStruct(this, 'KVM_INTERRUPT', events.kvm_interrupt, { irq: vector })
  }

  /** Puts a non-maskable interrupt in. */
  nmi(): void {
    request(this, 'KVM_NMI')
  }

  /** Puts a system-management interrupt in. Needs KVM_CAP_X86_SMM. */
  smi(): void {
    request(this, 'KVM_SMI')
  }

  /** How many machine-check banks there are, and what they can do: MCG_CAP. */
  setupMce(mcgCap: bigint): void {
    request(this, 'KVM_X86_SETUP_MCE', BigUint64Array.of(mcgCap))
  }

  /** Puts a machine check in. */
  setMce(mce: events.MachineCheck): void {
    setStruct(this, 'KVM_X86_SET_MCE', events.kvm_x86_mce, mce)
  }

  /** Tells the guest's clock that the vCPU was stopped, so that its watchdogs do not bark. Needs the guest to use kvm-clock. */
  kvmclockCtrl(): void {
    request(this, 'KVM_KVMCLOCK_CTRL')
  }

  // The local APIC

  getLapic(): LapicState {
    return getStruct(this, 'KVM_GET_LAPIC', kvm_lapic_state)
  }

  setLapic(lapic: LapicState): void {
    setStruct(this, 'KVM_SET_LAPIC', kvm_lapic_state, lapic)
  }

  /** Has accesses of the task priority register end the run. */
  setTprAccessReporting(enabled: boolean): void {
    const control = { enabled: enabled ? 1 : 0, flags: 0 }
    setStruct(this, 'KVM_TPR_ACCESS_REPORTING', events.kvm_tpr_access_ctl, control)
  }

  /** Where the task priority is kept in guest memory; guest-physical. */
  setVapicAddress(address: number): void {
    setStruct(this, 'KVM_SET_VAPIC_ADDR', events.kvm_vapic_addr, { vapic_addr: address })
  }

  // Debugging and memory

  /** Has breakpoints and steps end the run: `debug` exits. `control` 0 ends that. */
  setGuestDebug(debug: events.GuestDebug): void {
    setStruct(this, 'KVM_SET_GUEST_DEBUG', events.kvm_guest_debug, debug)
  }

  /**
   * Walks the guest's page tables.
   * @param address linear
   * @returns an object that the next call fills anew; its `valid` is 0 where nothing is mapped
   */
  translate(address: bigint): Readonly<events.Translation> {
    this.#translation.linear_address = address
    request(this, 'KVM_TRANSLATE', events.kvm_translation.bytesOf(this.#translation))
    return this.#translation
  }

  /** As {@link Vm.openStats}, of this vCPU. */
  openStats(): OwnedFd {
    return new OwnedFd(request(this, 'KVM_GET_STATS_FD'))
  }

  // Nested virtualization

  /** The state of a guest's own hypervisor, `struct kvm_nested_state`. Needs KVM_CAP_NESTED_STATE. */
  getNestedState(): Uint8Array<ArrayBuffer> {
    const header = nestedState(NESTED_STATE_HEADER_SIZE)
    const result = requestRaw(this, 'KVM_GET_NESTED_STATE', header)
    if (result === 0) return header.slice(0, nestedStateSize(header))
    if (result !== -E2BIG) request(this, 'KVM_GET_NESTED_STATE', header)

    const state = nestedState(nestedStateSize(header))
    request(this, 'KVM_GET_NESTED_STATE', state)
    return state
  }

  /**
   * Sets the state of a guest's own hypervisor.
   * @param state as {@link getNestedState} gave it
   * @throws KvmError ERR_KVM_OUT_OF_RANGE for fewer bytes than it says itself
   */
  setNestedState(state: Uint8Array): void {
    const size = state.length < NESTED_STATE_HEADER_SIZE ? Number.POSITIVE_INFINITY : nestedStateSize(state)
    // KVM reads as many bytes as the header says.
    if (size > state.length) throw outOfRange('nested state', 'as many bytes as it says itself', state.length)
    request(this, 'KVM_SET_NESTED_STATE', state)
  }
}

function oneRegSize(id: bigint): number {
  return 2 ** Number((id & KVM_REG_SIZE_MASK) >> KVM_REG_SIZE_SHIFT)
}

function nestedState(size: number): Uint8Array<ArrayBuffer> {
  const state = new Uint8Array(size)
  new DataView(state.buffer).setUint32(NESTED_STATE_SIZE_OFFSET, size, true)
  return state
}

function nestedStateSize(state: Uint8Array): number {
  return new DataView(state.buffer, state.byteOffset).getUint32(NESTED_STATE_SIZE_OFFSET, true)
}
