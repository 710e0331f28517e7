/**
 * The registers of one queue as a transport offers them: size, ready, and the addresses of its three areas, in halves
 * (virtio 1.2, 4.1.4.3 and 4.2.2). What a driver writes is kept, and judged when the queue is activated.
 */
import { VirtqueueError } from './errors.ts'
import type { VirtqueueFeatures } from './features.ts'
import type { GuestMemory } from './guest-memory.ts'
import { addressOf } from './guest-memory.ts'
import { PackedVirtqueue } from './packed.ts'
import type { RingPart } from './ring-memory.ts'
import { findPart } from './ring-memory.ts'
import { availRingBytes, PVIRTQ_EVENT_SIZE, usedRingBytes, VIRTQ_DESC_SIZE } from './spec.ts'
import { SplitVirtqueue } from './split.ts'
import type { VirtqueueState } from './state.ts'
import { checkState, isPosition, isPowerOfTwo } from './state.ts'
import type { Virtqueue, VirtqueuePosition } from './virtqueue.ts'

const SPLIT_START: VirtqueuePosition = Object.freeze({ nextAvail: 0, nextUsed: 0, unnotified: 0 })
/** Both wrap counters begin as 1 (2.8.1). */
const PACKED_START: VirtqueuePosition = Object.freeze({ nextAvail: 0x8000, nextUsed: 0x8000, unnotified: 0 })

/** A register of 64 bits that is written in halves. */
export class AddressRegister {
  /** The lower 32 bits. */
  low = 0
  /** The upper 32 bits. */
  high = 0

  /** The address; `Infinity` for 2^53 and above. */
  get value(): number {
    return addressOf(this.low, this.high)
  }

  /** Writes the lower half; bits above 32 are dropped. */
  setLow(value: number): void {
    this.low = value >>> 0
  }

  /** Writes the upper half; bits above 32 are dropped. */
  setHigh(value: number): void {
    this.high = value >>> 0
  }

  /** Writes both halves. */
  set(address: number): void {
    this.low = address >>> 0
    this.high = Math.floor(address / 2 ** 32) >>> 0
  }
}

/** The registers of a queue. Nothing here throws for what a driver writes. */
export class VirtqueueRegisters {
  /** The most entries that the device offers. */
  readonly maxSize: number
  /** The descriptor area: descriptor table, or ring. */
  readonly descriptorArea: AddressRegister = new AddressRegister()
  /** The driver area: available ring, or driver event suppression. */
  readonly driverArea: AddressRegister = new AddressRegister()
  /** The device area: used ring, or device event suppression. */
  readonly deviceArea: AddressRegister = new AddressRegister()
  /** Whether the driver has enabled the queue. */
  ready = false
  #size: number

  /**
   * @param maxSize a power of two from 1 to 32768
   * @throws VirtqueueError ERR_VIRTQ_SIZE
   */
  constructor(maxSize: number) {
    if (!isPowerOfTwo(maxSize)) {
      throw new VirtqueueError(
        'ERR_VIRTQ_SIZE',
        `maximum size ${maxSize} is no power of two up to 32768`,
        maxSize,
      )
    }
    this.maxSize = maxSize
    this.#size = maxSize
  }

  /** Entries, as the driver chose them; default the maximum. */
  get size(): number {
    return this.#size
  }

  /**
   * Sets the number of entries.
   * @returns false, and keeps the old one, for 0 and for more than the maximum
   */
  setSize(size: number): boolean {
    if (!(Number.isInteger(size) && size > 0 && size <= this.maxSize)) return false
    this.#size = size
    return true
  }

  /** Back to the values after a reset. The maximum stays. */
  reset(): void {
    this.#size = this.maxSize
    this.ready = false
    this.descriptorArea.set(0)
    this.driverArea.set(0)
    this.deviceArea.set(0)
  }

  /**
   * Makes a queue of what the driver has written.
   * @param position where a saved queue stood, all of it checked; default the beginning
   * @returns the queue, or the error, not thrown, that keeps it from being one: ERR_VIRTQ_NOT_READY, ERR_VIRTQ_SIZE,
   * ERR_VIRTQ_ALIGNMENT, ERR_VIRTQ_RING_ADDRESS, and ERR_VIRTQ_STATE for the position
   */
  activate(
    memory: GuestMemory,
    features: VirtqueueFeatures,
    position?: VirtqueuePosition,
  ): Virtqueue | VirtqueueError {
    const size = this.#size
    if (!this.ready) return new VirtqueueError('ERR_VIRTQ_NOT_READY', 'the driver has not enabled the queue')
    if (!features.packed && !isPowerOfTwo(size)) {
      return new VirtqueueError('ERR_VIRTQ_SIZE', `size ${size} of a split queue is no power of two`, size)
    }
    if (position !== undefined && !isPosition(position, size, features.packed)) {
      return new VirtqueueError('ERR_VIRTQ_STATE', `no queue of size ${size} can stand at the saved position`)
    }
    const descriptors = partOf(memory, 'descriptor', this.descriptorArea, VIRTQ_DESC_SIZE * size, 16)
    if (descriptors instanceof VirtqueueError) return descriptors
    const driverBytes = features.packed ? PVIRTQ_EVENT_SIZE : availRingBytes(size)
    const driver = partOf(memory, 'driver', this.driverArea, driverBytes, features.packed ? 4 : 2)
    if (driver instanceof VirtqueueError) return driver
    const deviceBytes = features.packed ? PVIRTQ_EVENT_SIZE : usedRingBytes(size)
    const device = partOf(memory, 'device', this.deviceArea, deviceBytes, 4)
    if (device instanceof VirtqueueError) return device
    if (features.packed) {
      const parts = { memory, size, features, descriptors, driver, device }
      return new PackedVirtqueue(parts, position ?? PACKED_START)
    }
    const parts = { memory, size, features, descriptors, avail: driver, used: device }
    return new SplitVirtqueue(parts, position ?? SPLIT_START)
  }

  /**
   * The registers and, where there is one, the queue, to be saved.
   * @throws VirtqueueError ERR_VIRTQ_BUSY, see `Virtqueue.position`
   */
  state(queue?: Virtqueue): VirtqueueState {
    return {
      version: 1,
      maxSize: this.maxSize,
      size: this.#size,
      ready: this.ready,
      descriptorArea: [this.descriptorArea.low, this.descriptorArea.high],
      driverArea: [this.driverArea.low, this.driverArea.high],
      deviceArea: [this.deviceArea.low, this.deviceArea.high],
      position: queue === undefined ? null : queue.position(),
    }
  }

  /**
   * Registers as they were saved. The state may come from anywhere: all of it is checked. Where it has a position,
   * give that to {@link activate}.
   * @throws VirtqueueError ERR_VIRTQ_STATE
   */
  static fromState(state: VirtqueueState): VirtqueueRegisters {
    checkState(state)
    const registers = new VirtqueueRegisters(state.maxSize)
    registers.#size = state.size
    registers.ready = state.ready
    for (const area of ['descriptorArea', 'driverArea', 'deviceArea'] as const) {
      registers[area].low = state[area][0]
      registers[area].high = state[area][1]
    }
    return registers
  }
}

function partOf(
  memory: GuestMemory,
  name: string,
  register: AddressRegister,
  bytes: number,
  alignment: number,
): RingPart | VirtqueueError {
  const { low, value } = register
  const where = `the ${name} area at 0x${register.high.toString(16)}'${low.toString(16).padStart(8, '0')}`
  if (low % alignment !== 0) {
    return new VirtqueueError('ERR_VIRTQ_ALIGNMENT', `${where} is not aligned to ${alignment} bytes`, value)
  }
  const part = findPart(memory, value, bytes)
  if (part !== undefined) return part
  const message = `${where}, ${bytes} bytes, is not in one region of guest memory`
  return new VirtqueueError('ERR_VIRTQ_RING_ADDRESS', message, value)
}
