/**
 * A KVM vCPU as @vmm/x86-completion sees it: each method is one ioctl.
 */
import { randomFillSync } from 'node:crypto'
import { kvm_regs, kvm_sregs, type Sregs, type Vcpu } from '@vmm/kvm-ioctls'
import type { GuestMemory } from '@vmm/vm-memory'
import type { CpuContext, GeneralRegisters, PhysicalMemory, SpecialRegisters } from '@vmm/x86-completion'

const XCR0 = 0
const XCR0_X87 = 1n

/** Guest memory, for a completer. */
class GuestPhysicalMemory implements PhysicalMemory {
  readonly #memory: GuestMemory

  constructor(memory: GuestMemory) {
    this.#memory = memory
  }

  read(address: number, into: Uint8Array): boolean {
    return this.#memory.read(address, into) === into.length
  }

  write(address: number, from: Uint8Array): boolean {
    if (!this.#memory.checkRange(address, from.length)) return false
    this.#memory.writeSlice(address, from)
    return true
  }

  compareExchange(address: number, expected: Uint8Array, replacement: Uint8Array): boolean {
    const aligned = address % expected.length === 0
    if (aligned && expected.length === 8) {
      const found = this.#memory.atomicCompareExchange64(address, word64(expected), word64(replacement))
      return found === word64(expected)
    }
    if (aligned && expected.length === 4) {
      const found = this.#memory.atomicCompareExchange32(address, word32(expected), word32(replacement))
      return found === word32(expected)
    }
    // JavaScript has no exchange of 16 bytes, nor of misaligned ones: right while no other vCPU is at the same place.
    // Guests of hosts that need CMPXCHG16B completed are not told of it (cpuid.ts).
    const found = new Uint8Array(expected.length)
    this.#memory.readSlice(address, found)
    if (found.some((byte, index) => byte !== expected[index])) return false
    this.#memory.writeSlice(address, replacement)
    return true
  }
}

const word32 = (bytes: Uint8Array): number =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.length).getUint32(0, true)
const word64 = (bytes: Uint8Array): bigint =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.length).getBigUint64(0, true)

/** The state of one stopped vCPU. */
export class KvmCpuContext implements CpuContext {
  readonly memory: PhysicalMemory
  readonly #vcpu: Vcpu
  // Filled anew each time: a Linux boot on a host that interprets kernels comes here by the thousand.
  readonly #regs = kvm_regs.allocate()
  readonly #sregs = kvm_sregs.allocate()

  constructor(vcpu: Vcpu, memory: GuestMemory) {
    this.#vcpu = vcpu
    this.memory = new GuestPhysicalMemory(memory)
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
