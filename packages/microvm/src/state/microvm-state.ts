/**
 * The state of a whole VM but its memory: plain data, to JSON and back. What comes back may come from anywhere.
 */
import type { CmosRtcState, I8042State, SerialState, VmGenerationIdState } from '@vmm/devices'
import type { MmioTransportState } from '@vmm/devices/virtio'
import { type Json, KvmError } from '@vmm/kvm-ioctls'
import type { GenerationIdState } from '../generation-id.ts'
import { damaged, list, object, wholeNumber } from './checks.ts'
import { type KvmVmState, kvmVmStateFromJson, kvmVmStateToJson } from './kvm-state.ts'
import { type VcpuState, vcpuStateFromJson, vcpuStateToJson } from './vcpu-state.ts'

/** The version of this format that is written, and the only one that is read. */
export const STATE_VERSION = 1

/** The interrupts of a VM. */
const IO_APIC_PINS = 24

/** States of the legacy devices. */
export interface LegacyState {
  /** COM1. */
  readonly serial: SerialState
  /** The keyboard controller. */
  readonly i8042: I8042State
  /** The CMOS clock. */
  readonly rtc: CmosRtcState
}

/** A range of guest memory. */
export interface MemoryRangeState {
  /** Guest address. */
  readonly start: number
  /** In bytes. */
  readonly size: number
}

/** A VM that is paused. */
export interface MicroVmState {
  /** In the order of their addresses. */
  readonly memory: readonly MemoryRangeState[]
  /** In the order of their indices. */
  readonly vcpus: readonly VcpuState[]
  /** Interrupt controllers, timer and clock. */
  readonly kvm: KvmVmState
  /** Serial port, keyboard controller and CMOS clock. */
  readonly legacy: LegacyState
  /** Null where the guest has no ACPI tables, and cannot find any. */
  readonly generationId: GenerationIdState | null
  /** In the order in which they were attached. */
  readonly virtio: readonly MmioTransportState[]
}

/** As JSON. */
export function stateToJson(state: MicroVmState): Json {
  return {
    version: STATE_VERSION,
    memory: state.memory.map(({ start, size }) => ({ start, size })),
    vcpus: state.vcpus.map(vcpuStateToJson),
    kvm: kvmVmStateToJson(state.kvm),
    // Plain data by contract, each with its own version.
    legacy: state.legacy as unknown as Json,
    generationId: state.generationId as unknown as Json,
    virtio: state.virtio as unknown as Json,
  }
}

/**
 * From JSON. Checked here: that all is there, and what KVM gets. What devices get they check themselves.
 * @throws MicroVmError ERR_MICROVM_STATE
 */
export function stateFromJson(json: unknown): MicroVmState {
  try {
    const state = object(json, 'state')
    if (state['version'] !== STATE_VERSION) {
      throw damaged(
        `version ${JSON.stringify(state['version'])} is not ${STATE_VERSION}, which this release reads`,
      )
    }
    const legacy = object(state['legacy'], 'legacy')
    const vcpus = list(state['vcpus'], 'vcpus').map((vcpu, i) =>
      vcpuStateFromJson(object(vcpu, `vcpus.${i}`)),
    )
    if (vcpus.length === 0) throw damaged('there is no vCPU')
    return {
      memory: list(state['memory'], 'memory').map(memoryRange),
      vcpus,
      kvm: kvmVmStateFromJson(object(state['kvm'], 'kvm')),
      legacy: {
        serial: object(legacy['serial'], 'legacy.serial') as unknown as SerialState,
        i8042: object(legacy['i8042'], 'legacy.i8042') as unknown as I8042State,
        rtc: object(legacy['rtc'], 'legacy.rtc') as unknown as CmosRtcState,
      },
      generationId: generationId(state['generationId']),
      virtio: list(state['virtio'], 'virtio').map(
        (device, i) => object(device, `virtio.${i}`) as unknown as MmioTransportState,
      ),
    }
  } catch (error) {
    if (!(error instanceof KvmError)) throw error
    throw damaged(error.message, error)
  }
}

function generationId(json: unknown): GenerationIdState | null {
  if (json === null) return null
  const { gsi, device } = object(json, 'generationId')
  return {
    gsi: wholeNumber(gsi, 'generationId.gsi', IO_APIC_PINS - 1),
    device: object(device, 'generationId.device') as unknown as VmGenerationIdState,
  }
}

function memoryRange(json: unknown, index: number): MemoryRangeState {
  const { start, size } = object(json, `memory.${index}`)
  return {
    start: wholeNumber(start, `memory.${index}.start`),
    size: wholeNumber(size, `memory.${index}.size`),
  }
}
