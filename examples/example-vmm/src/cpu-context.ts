/**
 * A KVM vCPU as @vmm/x86-completion sees it: each method is one ioctl.
 */
import { randomFillSync } from 'node:crypto'
import { kvm_regs, kvm_sregs, type Sregs, type Vcpu } from '@vmm/kvm-ioctls'
import type { GuestMemory } from '@vmm/vm-memory'
import type { CpuContext, GeneralRegisters, PhysicalMemory, SpecialRegisters } from '@vmm/x86-completion'

const XCR0 = 0
const XCR0_X87 = 1n

/** The state of one stopped vCPU. */
export class KvmCpuContext implements CpuContext {
  readonly memory: PhysicalMemory
  readonly #vcpu: Vcpu
  // Filled anew each time: a Linux boot on a host that interprets kernels comes here by the thousand.
  readonly #regs = kvm_regs.allocate()
  readonly #sregs = kvm_sregs.allocate()

  constructor(vcpu: Vcpu, memory: GuestMemory) {
    this.#vcpu = vcpu
    this.memory = {
      read: (address, into) => memory.read(address, into) === into.length,
      write: (address, from) => memory.checkRange(address, from.length) && memory.write(address, from) > 0,
    }
  }

  getRegisters(): GeneralRegisters {
    return this.#vcpu.getRegs(this.#regs)
  }

  setRegisters(registers: GeneralRegisters): void {
    this.#vcpu.setRegs(registers)
  }

  getSpecialRegisters(): SpecialRegisters {
    return this.#vcpu.getSregs(this.#sregs)
  }

  setSpecialRegisters(registers: SpecialRegisters): void {
    // The object that getSpecialRegisters gave, changed in place.
    this.#vcpu.setSregs(registers as Sregs)
  }

  getXsave(): Uint8Array {
    return this.#vcpu.getXsave()
  }

  setXsave(area: Uint8Array): void {
    this.#vcpu.setXsave(area)
  }

  getXcr0(): bigint {
    return this.#vcpu.getXcrs().xcrs.find(({ xcr }) => xcr === XCR0)?.value ?? XCR0_X87
  }

  setXcr0(value: bigint): void {
    const state = this.#vcpu.getXcrs()
    const xcrs = state.xcrs.map((entry) => (entry.xcr === XCR0 ? { ...entry, value } : entry))
    this.#vcpu.setXcrs({ ...state, xcrs })
  }

  fillRandom(into: Uint8Array): void {
    randomFillSync(into)
  }

  getMsr(index: number): bigint | undefined {
    return this.#vcpu.getMsrs([index])[0]?.data
  }

  setMsr(index: number, value: bigint): boolean {
    return this.#vcpu.setMsrs([{ index, data: value }]) === 1
  }
}
