/**
 * The vCPUs of a VM: they run together, are held together, and end together.
 */
import { failedEnd, type MicroVmEnd } from './end.ts'
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

  /** Whether they are held, or about to be. */
  get isHeld(): boolean {
    return this.#gate?.isShut ?? false
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
        .catch((error: unknown) => this.stop(failedEnd(error)))
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
   * @returns settles when that is so, or when {@link release} was called before that
   * @throws MicroVmError ERR_MICROVM_NOT_RUNNING before {@link run}, and where the VM ends or has ended
   */
  async hold(): Promise<void> {
    const gate = this.#gate
    if (gate === undefined) throw notRunning()
    this.checkRunning()
    // In the same turn: a vCPU that is handling an exit gets no further.
    const arrived = gate.shut()
    await this.#kick()
    await arrived
    this.checkRunning()
  }

  /** @throws MicroVmError ERR_MICROVM_NOT_RUNNING where something has ended the VM */
  checkRunning(): void {
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
