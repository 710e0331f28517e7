/**
 * Saves a VM while it runs: it stands still for as long as its state and its memory are read.
 */
import { MicroVmError } from '@vmm/microvm'
import { writeSnapshot } from '@vmm/snapshot'
import type { Machine } from './machine.ts'
import { inMs, type SnapshotReport } from './report.ts'
import { savedState } from './saved.ts'

/** How a VM is saved. */
export interface SaverOptions {
  readonly folder: string
  /** Whether it stands still for good when it is saved. */
  readonly thenExit: boolean
  /** Gets to know of each that was written. */
  saved(report: SnapshotReport): void
  /** Gets to know, in a sentence, why one was not. */
  failed(message: string): void
}

/** Saves one VM, as often as wanted: one snapshot after another. */
export class Saver {
  readonly #machine: Machine
  readonly #options: SaverOptions
  #last: Promise<void> = Promise.resolve()
  #isSaving = false
  #isWaiting = false

  constructor(machine: Machine, options: SaverOptions) {
    this.#machine = machine
    this.#options = options
  }

  /**
   * Saves the VM as it is now; or, where a snapshot is being taken, after that. Who asks while one waits for another gets the
   * same.
   */
  request(): void {
    if (this.#isWaiting) return
    if (!this.#isSaving) {
      // At once: a vCPU that asks, by the boot marker, gets no further than this.
      this.#last = this.#save()
      return
    }
    this.#isWaiting = true
    this.#last = this.#last.then(() => {
      this.#isWaiting = false
      return this.#save()
    })
  }

  /** Settles when none is being taken. */
  idle(): Promise<void> {
    return this.#last
  }

  async #save(): Promise<void> {
    this.#isSaving = true
    try {
      await this.#pauseAndWrite()
    } catch (error) {
      // Nothing is lost: it goes on as if nobody had asked.
      this.#machine.vm.resume()
      this.#options.failed((error as Error).message)
    } finally {
      this.#isSaving = false
    }
  }

  async #pauseAndWrite(): Promise<void> {
    const { vm, deviceArguments } = this.#machine
    const { folder, thenExit, saved } = this.#options
    const start = performance.now()
    let running = start
    try {
      await vm.pause()
    } catch (error) {
      // It ended before it could be saved, and says so itself.
      if (error instanceof MicroVmError && error.code === 'ERR_MICROVM_NOT_RUNNING') return
      throw error
    }
    const state = await savedState(vm, deviceArguments)
    const written = await writeSnapshot(folder, {
      state,
      memory: vm.memory,
      differential: true,
      copied: () => {
        running = performance.now()
        if (!thenExit) vm.resume()
      },
    })
    saved({ ...written, pauseMs: inMs(running - start), totalMs: inMs(performance.now() - start) })
    if (thenExit) vm.stop('saved')
  }
}
