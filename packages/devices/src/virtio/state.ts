/** The state that every transport saves of a device and its queues, and what must hold of one that comes from a file. */
import type { VirtqueueState } from '@vmm/virtio-queue'
import { VirtqueueError, VirtqueueRegisters } from '@vmm/virtio-queue'
import { DevicesError } from '../error.ts'
import { StateChecker } from '../state.ts'
import type { VirtioDevice } from './device.ts'
import {
  VIRTIO_CONFIG_S_ACKNOWLEDGE as ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER as DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK as DRIVER_OK,
  VIRTIO_CONFIG_S_FAILED as FAILED,
  VIRTIO_CONFIG_S_FEATURES_OK as FEATURES_OK,
  featureBit,
  VIRTIO_CONFIG_S_NEEDS_RESET as NEEDS_RESET,
  VIRTIO_F_VERSION_1,
} from './spec.ts'

/** Bits 0 to 31 and bits 32 to 63. */
export type FeatureWords = readonly [low: number, high: number]

/** A device and its queues. Plain data that survives JSON. */
export interface VirtioCoreState {
  /** The device's type: a state fits no other. */
  readonly type: number
  /** The status byte. */
  readonly status: number
  /** What was offered: a guest that has negotiated must find it again. */
  readonly offeredFeatures: FeatureWords
  /** What the driver has written. */
  readonly driverFeatures: FeatureWords
  /** The driver asked for features above 63. */
  readonly undefinedFeatures: boolean
  readonly queues: readonly VirtqueueState[]
  /** For each queue, whether it was given a size that it cannot have. */
  readonly sizeRefused: readonly boolean[]
  /** The device's own; null for devices without any. */
  readonly device: unknown
}

/** What a state has to fit. */
export interface StateTarget {
  readonly device: VirtioDevice
  readonly offeredLow: number
  readonly offeredHigh: number
}

const STEPS = [0, ACKNOWLEDGE, ACKNOWLEDGE | DRIVER, ACKNOWLEDGE | DRIVER | FEATURES_OK]
const LEGAL_STEPS: readonly number[] = [...STEPS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK]

/**
 * Checks all that can be checked without guest memory.
 * @returns the status, and the registers of the queues
 * @throws DevicesError ERR_DEVICE_STATE
 */
export function checkCoreState(
  state: VirtioCoreState,
  target: StateTarget,
): { readonly status: number; readonly registers: readonly VirtqueueRegisters[] } {
  const check = new StateChecker('virtio', state)
  const { device } = target
  if (state.type !== device.type) check.refuse('type', `${device.type}, as this device's is`)
  const status = check.bits('status', 0xff)
  if (!LEGAL_STEPS.includes(status & ~(NEEDS_RESET | FAILED))) check.refuse('status', 'a status')
  const offered = check.bitsArray('offeredFeatures', 2, 2, 0xffff_ffff)
  const driver = check.bitsArray('driverFeatures', 2, 2, 0xffff_ffff)
  const isUndefined = check.boolean('undefinedFeatures')
  const [low = 0, high = 0] = driver
  if ((status & FEATURES_OK) !== 0) {
    // What nobody negotiated may come and go with the VMM's version; what the driver uses may not.
    const isOffered = (low & ~target.offeredLow) === 0 && (high & ~target.offeredHigh) === 0
    const wasOffered = (low & ~(offered[0] ?? 0)) === 0 && (high & ~(offered[1] ?? 0)) === 0
    const isModern = (high & featureBit(VIRTIO_F_VERSION_1)) !== 0
    if (
      !isOffered ||
      !wasOffered ||
      !isModern ||
      isUndefined ||
      device.acceptsFeatures?.(low, high) === false
    ) {
      check.refuse('driverFeatures', 'features that this device offers, VIRTIO_F_VERSION_1 among them')
    }
  }
  if ((status & DRIVER) === 0 && (low !== 0 || high !== 0 || isUndefined)) {
    check.refuse('driverFeatures', 'none before there is a driver')
  }
  return { status, registers: checkQueues(state, check, device, status) }
}

function checkQueues(
  state: VirtioCoreState,
  check: StateChecker,
  device: VirtioDevice,
  status: number,
): VirtqueueRegisters[] {
  const count = device.queueSizes.length
  const queues: unknown = state.queues
  if (!Array.isArray(queues) || queues.length !== count) check.refuse('queues', `${count} queues`)
  const refused: unknown = state.sizeRefused
  if (
    !Array.isArray(refused) ||
    refused.length !== count ||
    refused.some((one) => typeof one !== 'boolean')
  ) {
    check.refuse('sizeRefused', `${count} booleans`)
  }
  const isRunning = (status & (DRIVER_OK | NEEDS_RESET | FAILED)) === DRIVER_OK
  return state.queues.map((saved, i) => {
    const registers = registersFrom(saved, i)
    if (registers.maxSize !== device.queueSizes[i]) {
      check.refuse(`queues[${i}].maxSize`, String(device.queueSizes[i]), registers.maxSize)
    }
    if (registers.ready && (status & FEATURES_OK) === 0) {
      check.refuse(`queues[${i}].ready`, 'false before FEATURES_OK', true)
    }
    if ((saved.position !== null) !== (isRunning && registers.ready)) {
      check.refuse(`queues[${i}].position`, 'there for queues in use and no others', saved.position)
    }
    return registers
  })
}

function registersFrom(saved: VirtqueueState, index: number): VirtqueueRegisters {
  try {
    return VirtqueueRegisters.fromState(saved)
  } catch (cause) {
    if (!(cause instanceof VirtqueueError)) throw cause
    throw new DevicesError('ERR_DEVICE_STATE', `virtio state: queue ${index}: ${cause.message}`, { cause })
  }
}
