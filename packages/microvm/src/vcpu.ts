/**
 * A vCPU of this VMM: KVM's, set up for the boot, and able to complete what KVM cannot emulate.
 */
import type { CpuidEntry, Vcpu, Vm } from '@vmm/kvm-ioctls'
import type { BootState } from '@vmm/linux-loader'
import type { GuestMemory } from '@vmm/vm-memory'
import {
  type Completion,
  describeMode,
  featuresFromCpuid,
  InstructionCompleter,
  type RaisedException,
} from '@vmm/x86-completion'
import { KvmCpuContext } from './cpu-context.ts'
import { vcpuCpuid } from './cpuid.ts'
import { isInterpretingKvm } from './interpreting.ts'
import { restoreVcpu, type VcpuState } from './state/vcpu-state.ts'

/** What a vCPU is made from that boots. */
export interface VcpuConfig {
  /** 0 for the boot CPU; the APIC id. */
  readonly index: number
  /** How many vCPUs the VM has. */
  readonly cpus: number
  /** What the host's KVM supports. */
  readonly cpuid: readonly CpuidEntry[]
  /** Where the boot CPU begins; the others wait for INIT and SIPI. */
  readonly bootState: BootState | undefined
  /** Where instructions that are completed read and write. */
  readonly memory: GuestMemory
}

/** What a vCPU is made from that was saved. */
export interface SavedVcpuConfig {
  /** As it was. */
  readonly index: number
  /** What was saved of it. */
  readonly state: VcpuState
  /** How far the TSC has come meanwhile, in ticks. */
  readonly tscTicks: bigint
  /** Where instructions that are completed read and write. */
  readonly memory: GuestMemory
}

/** A number in hexadecimal, for a person. */
export function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`
}

/** A vCPU and its completer. */
export class GuestVcpu {
  /** KVM's part. */
  readonly kvm: Vcpu
  readonly #index: number
  readonly #completer: InstructionCompleter

  private constructor(kvm: Vcpu, index: number, cpuid: readonly CpuidEntry[], memory: GuestMemory) {
    this.kvm = kvm
    this.#index = index
    this.#completer = new InstructionCompleter(new KvmCpuContext(kvm, memory), featuresFromCpuid(cpuid))
  }

  /**
   * A vCPU before its first instruction.
   * @throws KvmError, SystemError for what this host's KVM does not take
   */
  static boot(vm: Vm, { index, cpus, cpuid, bootState, memory }: VcpuConfig): GuestVcpu {
    const shown = vcpuCpuid(cpuid, { index, cpus, interpreted: isInterpretingKvm() })
    const kvm = vm.createVcpu(index)
    kvm.setCpuid2(shown)
    if (bootState !== undefined) {
      kvm.setRegs(bootState.regs)
      kvm.setSregs({ ...kvm.getSregs(), ...bootState.sregs })
      kvm.setMsrs(bootState.msrs.map(({ index, value }) => ({ index, data: value })))
    }
    return new GuestVcpu(kvm, index, shown, memory)
  }

  /**
   * A vCPU as it was saved.
   * @throws MicroVmError ERR_MICROVM_STATE, KvmError, SystemError for what this host's KVM does not take
   */
  static restore(vm: Vm, { index, state, tscTicks, memory }: SavedVcpuConfig): GuestVcpu {
    const kvm = vm.createVcpu(index)
    restoreVcpu(kvm, state, tscTicks)
    return new GuestVcpu(kvm, index, state.cpuid, memory)
  }

  /** Does what KVM could not: the instruction is done, or its exception raised, when the vCPU runs on. */
  completeInstruction(bytes: Uint8Array): Completion {
    const completion = this.#completer.complete(bytes)
    if (completion.kind === 'exception') this.#inject(completion)
    if (completion.kind === 'completed') this.#endInterruptShadow()
    return completion
  }

  /** Where the vCPU is, for a person. */
  describe(): string {
    const regs = this.kvm.getRegs()
    return `vCPU ${this.#index} at RIP ${hex(regs.rip)} in ${describeMode(this.kvm.getSregs(), regs)}`
  }

  /** An STI before the instruction holds interrupts back no longer than that. */
  #endInterruptShadow(): void {
    const events = this.kvm.getVcpuEvents()
    if (events.interrupt.shadow === 0) return
    this.kvm.setVcpuEvents({ ...events, interrupt: { ...events.interrupt, shadow: 0 } })
  }

  #inject({ vector, errorCode, cr2, dr6 }: RaisedException): void {
    if (cr2 !== undefined) this.kvm.setSregs({ ...this.kvm.getSregs(), cr2 })
    if (dr6 !== undefined) {
      const debug = this.kvm.getDebugRegs()
      this.kvm.setDebugRegs({ ...debug, dr6: debug.dr6 | dr6 })
    }
    const events = this.kvm.getVcpuEvents()
    this.kvm.setVcpuEvents({
      ...events,
      exception: {
        ...events.exception,
        injected: 1,
        nr: vector,
        has_error_code: errorCode === undefined ? 0 : 1,
        error_code: errorCode ?? 0,
      },
    })
  }
}
