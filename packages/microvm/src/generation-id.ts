/** The VM generation ID as a part of a VM: its place, its interrupt, and both of them in a saved state. */
import {
  type GenerationIdMemory,
  type Interrupt,
  VM_GENERATION_ID_GSI,
  VmGenerationId,
  type VmGenerationIdState,
} from '@vmm/devices'
import { type GenerationIdLocation, VM_GENERATION_ID_START } from '@vmm/linux-loader'
import { copyInto } from '@vmm/sys-util'
import type { GuestMemory } from '@vmm/vm-memory'

/** Where a saved VM has its ID. */
export interface GenerationIdState {
  /** The interrupt that says that it is another one. */
  readonly gsi: number
  readonly device: VmGenerationIdState
}

/** What the ID is part of. */
export interface GenerationIdHost {
  /** Mapped. */
  readonly memory: GuestMemory
  /** An interrupt line. */
  interrupt(gsi: number): Interrupt
}

/** The ID of a VM whose guest can find it. */
export class GenerationId {
  readonly #device: VmGenerationId
  readonly #gsi: number

  private constructor(device: VmGenerationId, gsi: number) {
    this.#device = device
    this.#gsi = gsi
  }

  /** Of a new VM. It keeps this one for good: there is no interrupt. */
  static create({ memory }: Pick<GenerationIdHost, 'memory'>): GenerationId {
    return new GenerationId(new VmGenerationId(VM_GENERATION_ID_START, { memory }), VM_GENERATION_ID_GSI)
  }

  /**
   * A new ID for a VM that is restored, and the interrupt that says so: when its vCPUs are there, and before they run.
   * @throws DevicesError ERR_DEVICE_STATE
   */
  static restore({ gsi, device }: GenerationIdState, host: GenerationIdHost): GenerationId {
    const memory = withoutViews(host.memory)
    const restored = VmGenerationId.fromState(device, { memory, interrupt: host.interrupt(gsi) })
    restored.regenerate()
    return new GenerationId(restored, gsi)
  }

  /** For the guest's ACPI tables. */
  get location(): GenerationIdLocation {
    return { address: this.#device.address, gsi: this.#gsi }
  }

  state(): GenerationIdState {
    return { gsi: this.#gsi, device: this.#device.state() }
  }
}

/** Writes by address, so that a restore takes no longer for a large guest: V8 is slow to make a view of its memory. */
function withoutViews(memory: GuestMemory): GenerationIdMemory {
  return {
    checkRange: (address, length) => memory.checkRange(address, length),
    writeSlice(address, bytes) {
      copyInto(memory.hostAddress(address, bytes.length), bytes)
      memory.markDirty(address, bytes.length)
    },
  }
}
