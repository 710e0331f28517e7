/**
 * The vCPUs of a VM: they run together, are held together, and end together.
 */
import type { MicroVmEnd } from './end.ts'
import { MicroVmError } from './error.ts'
import { PauseGate } from './pause.ts'
import { threadsFor } from './threads.ts'
import type { GuestVcpu } from './vcpu.ts'
import { runVcpu, type VcpuHost } from './vcpu-loop.ts'

/** What the vCPUs are part of. */
export type VcpuGroupHost = Pick<VcpuHost, 'events' | 'mmio' | 'pio'>

export class VcpuGroup {
  readonly #host: VcpuGroupHost
  readonly #end: Promise<MicroVmEnd>
  #resolveEnd: (end: MicroVmEnd) => void = () => {}
  #vcpus: readonly GuestVcpu[] = []
  /** While they run. */
  #gate: PauseGate | undefined
  #hasEnded = false

  constructor(host: VcpuGroupHost) {
    this.#host = host
    this.#end = new Promise((resolve) => {
      this.#resolveEnd = resolve
    })
  }

  /** In the order of their indices. */
  get vcpus(): readonly GuestVcpu[] {
    return this.#vcpus
  }

  /** Before they run. */
  set vcpus(vcpus: readonly GuestVcpu[]) {
    this.#vcpus = vcpus
  }

  /** Whether something has ended the VM. */
  get hasEnded(): boolean {
    return this.#hasEnded
  }

  /** Ends the VM. The first call decides. */
  stop(end: MicroVmEnd): void {
    this.#hasEnded = true
    this.#resolveEnd(end)
  }

  /**
   * Runs all of them, until something ends the VM.
   * @param begin called when there is a thread for each, before any of them runs
   * @returns what ended it, when none is in the guest any more
   * @throws MicroVmError ERR_MICROVM_THREADS
   */
  async run(begin: () => void): Promise<MicroVmEnd> {
    const reserved = threadsFor(this.#vcpus)
    // At once where that is possible: whoever has called this can pause the VM in the same turn.
    const threads = reserved instanceof Promise ? await reserved : reserved
    try {
      begin()
      return await this.#runAll()
    } finally {
      threads.close()
    }
  }

  async #runAll(): Promise<MicroVmEnd> {
    const gate = new PauseGate(this.#vcpus.length)
    this.#gate = gate
    const { events, mmio, pio } = this.#host
    const host: VcpuHost = {
      ...{ events, mmio, pio, gate },
      hasEnded: () => this.#hasEnded,
      stop: (end) => this.stop(end),
    }
    const loops = this.#vcpus.map((vcpu) =>
      runVcpu(vcpu, host)
        .catch((error: Error) => this.stop({ kind: 'failed', reason: error.message, cause: error }))
        .finally(() => gate.leave()),
    )
    const end = await this.#end
    gate.open()
    await this.#kick()
    await Promise.all(loops)
    return end
  }

  /**
   * Has all of them come out of the guest, with their last exits completed.
   * @throws MicroVmError ERR_MICROVM_NOT_RUNNING before {@link run}, and where the VM ends or has ended
   */
  async hold(): Promise<void> {
    const gate = this.#gate
    if (gate === undefined || this.#hasEnded) throw notRunning()
    // In the same turn: a vCPU that is handling an exit gets no further.
    const arrived = gate.shut()
    await this.#kick()
    await arrived
    if (this.#hasEnded) throw notRunning()
  }

  /** Lets them go on. */
  release(): void {
    this.#gate?.open()
  }

  async #kick(): Promise<void> {
    await Promise.all(this.#vcpus.map((vcpu) => vcpu.kvm.kick()))
  }
}

function notRunning(): MicroVmError {
  return new MicroVmError('ERR_MICROVM_NOT_RUNNING', 'the VM does not run')
}
