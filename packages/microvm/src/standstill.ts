/**
 * How a VM comes to stand still, and goes on: its vCPUs first, then its devices. Whatever comes in between, it either stands
 * still with whoever asked for it told so, or goes on.
 */
import { MicroVmError } from './error.ts'
import type { VcpuGroup } from './vcpu-group.ts'

/** What stands still. */
export interface StandstillParts {
  readonly cpus: VcpuGroup
  /** Has the devices end what is under way. */
  pauseDevices(): Promise<void>
  /** Never throws. */
  resumeDevices(): void
}

/** A pause, from when it is asked for until the VM goes on. */
interface Pause {
  /** Settles when the VM stands still; rejects where it does not come to that. */
  readonly reached: Promise<void>
  /** Has {@link reached} reject, if it has not settled. */
  readonly giveUp: () => void
}

/** The pauses of a VM, one after another. */
export class Standstill {
  readonly #parts: StandstillParts
  #pause: Pause | undefined

  constructor(parts: StandstillParts) {
    this.#parts = parts
  }

  /** See `MicroVm.pause`. */
  pause(): Promise<void> {
    this.#pause ??= this.#begin()
    return this.#pause.reached
  }

  /** See `MicroVm.resume`. */
  resume(): void {
    const { cpus, resumeDevices } = this.#parts
    const wasHeld = cpus.isHeld
    this.end()
    if (cpus.hasEnded || !wasHeld) return
    resumeDevices()
    cpus.release()
  }

  /** Counts as paused no more. Idempotent. */
  end(): void {
    this.#pause?.giveUp()
    this.#pause = undefined
  }

  /**
   * Looks at the VM when it stands still.
   * @throws MicroVmError ERR_MICROVM_NOT_PAUSED; and where the pause under way fails what that throws
   */
  async look<T>(look: () => T): Promise<T> {
    const pause = this.#pause
    if (pause === undefined) throw notPaused('a VM is saved while it is paused: call pause first')
    await pause.reached
    // KVM would wait for a vCPU that runs, and all of this process with it.
    if (this.#pause !== pause) throw notPaused('the VM was resumed before it was saved')
    return look()
  }

  #begin(): Pause {
    let giveUp = (): void => {}
    const givenUp = new Promise<never>((_, reject) => {
      giveUp = () => reject(notPaused('the VM was resumed before it stood still'))
    })
    const standsStill = this.#standStill(() => this.#pause === pause)
    const reached = Promise.race([standsStill, givenUp]).catch((error: unknown) => {
      if (this.#pause === pause) this.resume()
      throw error
    })
    const pause: Pause = { reached, giveUp }
    return pause
  }

  async #standStill(isWanted: () => boolean): Promise<void> {
    const { cpus, pauseDevices } = this.#parts
    await cpus.hold()
    if (!isWanted()) return
    await pauseDevices()
    cpus.checkRunning()
  }
}

function notPaused(message: string): MicroVmError {
  return new MicroVmError('ERR_MICROVM_NOT_PAUSED', message)
}
