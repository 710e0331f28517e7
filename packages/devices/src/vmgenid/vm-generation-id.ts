/**
 * The VM generation ID: 16 random bytes in guest memory that are others in each VM which goes on from the same saved one, and an
 * interrupt that says so. A guest then knows that it is a clone, and takes new random numbers: Linux reseeds its generator.
 * The guest finds the place by ACPI tables, which are not here: @vmm/linux-loader has them.
 *
 * Microsoft, "Virtual Machine Generation ID"; Linux: drivers/virt/vmgenid.c.
 */
import { randomFillSync } from 'node:crypto'
import { DevicesError } from '../error.ts'
import { type Interrupt, NO_INTERRUPT } from '../host.ts'
import { StateChecker } from '../state.ts'

/** Bytes of an ID. */
export const VM_GENERATION_ID_SIZE = 16
/**
 * An interrupt for it that nothing else of a PC has: the one of the numeric coprocessor, from when it could fail apart from the
 * CPU.
 */
export const VM_GENERATION_ID_GSI = 13

/** It must not straddle what a guest may map apart. */
const ALIGNMENT = 8

/** What the device asks of guest memory. */
export interface GenerationIdMemory {
  /** Whether all of a range is there. */
  checkRange(address: number, length: number): boolean
  /** Copies bytes to an address. */
  writeSlice(address: number, bytes: Uint8Array): void
}

/** Options of {@link VmGenerationId}. */
export interface VmGenerationIdOptions {
  /** Where the ID is written. */
  readonly memory: GenerationIdMemory
  /** The event device's: one edge for each new ID. Default none. */
  readonly interrupt?: Interrupt | undefined
  /** Fills 16 bytes with what nobody can guess; default Node's generator. */
  readonly random?: ((target: Uint8Array) => void) | undefined
}

/** What {@link VmGenerationId.state} returns. The ID itself is in guest memory. */
export interface VmGenerationIdState {
  readonly version: 1
  /** Guest-physical address of the ID. */
  readonly address: number
}

/**
 * A VM's generation ID.
 *
 * @example
 * ```ts
 * const id = new VmGenerationId(VM_GENERATION_ID_START, { memory }) // of a new VM
 * const restored = VmGenerationId.fromState(state, { memory, interrupt }) // of one that was saved
 * restored.regenerate() // before its vCPUs run
 * ```
 */
export class VmGenerationId {
  /** Guest-physical address of the ID. */
  readonly address: number
  readonly #memory: GenerationIdMemory
  readonly #interrupt: Interrupt
  readonly #random: (target: Uint8Array) => void

  /**
   * Writes a first ID; no guest is there yet to be told.
   * @param address guest-physical, a multiple of 8: in memory that the guest does not take for RAM of its own
   * @throws DevicesError ERR_DEVICE_OPTION
   */
  constructor(address: number, options: VmGenerationIdOptions) {
    const problem = problemOf(address, options.memory)
    if (problem !== undefined) {
      throw new DevicesError('ERR_DEVICE_OPTION', `a VM generation ID cannot be at ${address}: ${problem}`, {
        address,
      })
    }
    this.address = address
    this.#memory = options.memory
    this.#interrupt = options.interrupt ?? NO_INTERRUPT
    this.#random = options.random ?? randomFillSync
    this.#write()
  }

  /**
   * Of a VM that is restored; guest memory must be there. It gets a new ID, but no interrupt yet: see {@link regenerate}.
   * @throws DevicesError ERR_DEVICE_STATE
   */
  static fromState(state: VmGenerationIdState, options: VmGenerationIdOptions): VmGenerationId {
    const check = new StateChecker('VM generation ID', state)
    check.version(1)
    const address = check.integer('address', 0, Number.MAX_SAFE_INTEGER)
    const problem = problemOf(address, options.memory)
    if (problem !== undefined) check.refuse('address', `where one can be (${problem})`)
    return new VmGenerationId(address, options)
  }

  /**
   * Writes a new ID, and makes the interrupt: for a VM that goes on from a saved state, when its interrupt controllers and vCPUs
   * are there, and before the vCPUs run.
   */
  regenerate(): void {
    this.#write()
    this.#interrupt.trigger()
  }

  /** Plain data that survives JSON. */
  state(): VmGenerationIdState {
    return { version: 1, address: this.address }
  }

  #write(): void {
    const id = new Uint8Array(VM_GENERATION_ID_SIZE)
    this.#random(id)
    this.#memory.writeSlice(this.address, id)
  }
}

/** Why it cannot be there. */
function problemOf(address: number, memory: GenerationIdMemory): string | undefined {
  if (!Number.isSafeInteger(address) || address < 0 || address % ALIGNMENT !== 0) {
    return `no multiple of ${ALIGNMENT}`
  }
  return memory.checkRange(address, VM_GENERATION_ID_SIZE) ? undefined : 'no guest memory'
}
