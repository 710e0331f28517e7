/**
 * The state of a queue as it is saved: plain data, versioned. A snapshot is hostile input: what is checked here is
 * all that can be checked without the guest's memory, and the rest is judged on activation as if a driver had
 * written it.
 */
import { VirtqueueError } from './errors.ts'
import { VIRTQ_SIZE_MAX } from './spec.ts'
import type { VirtqueuePosition } from './virtqueue.ts'

/** Lower and upper half of an address. */
export type SavedAddress = readonly [low: number, high: number]

/** A saved queue. Survives JSON. */
export interface VirtqueueState {
  readonly version: 1
  /** A power of two from 1 to 32768. */
  readonly maxSize: number
  /** 1 to `maxSize`. */
  readonly size: number
  readonly ready: boolean
  readonly descriptorArea: SavedAddress
  readonly driverArea: SavedAddress
  readonly deviceArea: SavedAddress
  /** Null where the queue was not in use. */
  readonly position: VirtqueuePosition | null
}

/** Whether a number is a size that a split queue may have. */
export function isPowerOfTwo(size: number): boolean {
  return Number.isInteger(size) && size > 0 && size <= VIRTQ_SIZE_MAX && (size & (size - 1)) === 0
}

/** Throws ERR_VIRTQ_STATE unless the value is a state. The types say what it should be, not what it is. */
export function checkState(state: VirtqueueState): void {
  if (typeof state !== 'object' || state === null) throw invalid('it is no object')
  if (state.version !== 1) throw invalid(`version ${state.version} is unknown`)
  const { maxSize, size, position } = state
  if (!isPowerOfTwo(maxSize))
    throw invalid(`maximum size ${maxSize} is no power of two up to ${VIRTQ_SIZE_MAX}`)
  if (!(isUint(size, maxSize) && size > 0)) throw invalid(`size ${size} is not from 1 to ${maxSize}`)
  if (typeof state.ready !== 'boolean') throw invalid('ready is no boolean')
  for (const area of ['descriptorArea', 'driverArea', 'deviceArea'] as const) {
    const words: unknown = state[area]
    const isAddress =
      Array.isArray(words) && words.length === 2 && words.every((word) => isUint(word, 2 ** 32 - 1))
    if (!isAddress) throw invalid(`${area} is not two words of 32 bits`)
  }
  if (position !== null && !isPosition(position, size, true) && !isPosition(position, size, false)) {
    throw invalid('its position is none')
  }
}

/** Whether an idle queue can stand there. */
export function isPosition(position: VirtqueuePosition, size: number, packed: boolean): boolean {
  if (typeof position !== 'object' || position === null) return false
  const { nextAvail, nextUsed, unnotified } = position
  if (!isUint(nextAvail, 0xffff) || !isUint(nextUsed, 0xffff)) return false
  if (!isUint(unnotified, Number.MAX_SAFE_INTEGER)) return false
  // Split: heads that were no descriptors were taken and could not be returned, so that used may lag.
  return packed
    ? nextAvail === nextUsed && (nextAvail & 0x7fff) < size
    : ((nextAvail - nextUsed) & 0xffff) <= size
}

function isUint(value: unknown, max: number): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= max
}

function invalid(why: string): VirtqueueError {
  return new VirtqueueError('ERR_VIRTQ_STATE', `not the state of a queue: ${why}`)
}
