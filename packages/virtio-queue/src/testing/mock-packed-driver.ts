/**
 * The driver's side of a packed virtqueue (virtio 1.2, 2.8.21 and 2.8.22).
 */
import {
  PVIRTQ_DESC_FLAGS_OFFSET,
  PVIRTQ_DESC_ID_OFFSET,
  PVIRTQ_EVENT_DESC_OFFSET,
  PVIRTQ_EVENT_FLAGS_OFFSET,
  PVIRTQ_EVENT_SIZE,
  RING_EVENT_FLAGS_DESC,
  RING_EVENT_FLAGS_DISABLE,
  RING_EVENT_FLAGS_ENABLE,
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_USED,
  VIRTQ_DESC_LEN_OFFSET,
  VIRTQ_DESC_SIZE,
} from '../spec.ts'
import type { MockDriverOptions, MockUsed, RawDescriptor } from './mock-driver.ts'
import { MockDriver } from './mock-driver.ts'
import type { Place } from './mock-memory.ts'
import { locate } from './mock-memory.ts'

/** A place in the ring and the wrap counter there. */
interface RingPosition {
  readonly index: number
  readonly wrap: number
}

/** Tokens are buffer IDs. */
export class MockPackedDriver extends MockDriver {
  readonly #freeIds: number[]
  readonly #slots = new Map<number, number>()
  readonly #ring: Place
  readonly #driver: Place
  readonly #device: Place
  #free: number
  #nextAvail: RingPosition = { index: 0, wrap: 1 }
  #nextUsed: RingPosition = { index: 0, wrap: 1 }
  /** Heads whose flags are not written yet, in order. */
  #hidden: { readonly index: number; readonly flags: number }[] = []
  /** Places filled since the last {@link needsKick}. */
  #filled: RingPosition[] = []

  constructor(options: MockDriverOptions) {
    super(options, PVIRTQ_EVENT_SIZE, PVIRTQ_EVENT_SIZE)
    this.#free = options.size
    this.#freeIds = Array.from({ length: options.size }, (_, i) => i)
    this.#ring = locate(this.memory, this.descriptorArea)
    this.#driver = locate(this.memory, this.driverArea)
    this.#device = locate(this.memory, this.deviceArea)
  }

  get free(): number {
    return this.#free
  }

  addRaw(descriptors: readonly RawDescriptor[]): number | undefined {
    if (descriptors.length === 0 || descriptors.length > this.#free) return undefined
    const id = this.#freeIds.shift()
    if (id === undefined) return undefined
    this.#slots.set(id, descriptors.length)
    this.#free -= descriptors.length
    descriptors.forEach((descriptor, i) => {
      const { index, wrap } = this.#nextAvail
      const flags = descriptor.flags | (wrap === 1 ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED)
      if (i > 0) {
        this.writeDescriptor(index, { next: id, ...descriptor, flags })
      } else {
        // What the driver of the last turn left there keeps the descriptor hidden.
        const old = this.#ring.view.getUint16(VIRTQ_DESC_SIZE * index + PVIRTQ_DESC_FLAGS_OFFSET, true)
        this.writeDescriptor(index, { next: id, ...descriptor, flags: old })
        this.#hidden.push({ index, flags })
      }
      this.#filled.push(this.#nextAvail)
      this.#nextAvail = this.#advance(this.#nextAvail, 1)
    })
    return id
  }

  publish(): void {
    for (const { index, flags } of this.#hidden.reverse()) this.setFlags(index, flags)
    this.#hidden = []
  }

  /** Writes the flags of a descriptor, whoever it belongs to. */
  setFlags(index: number, flags: number): void {
    Atomics.store(this.#ring.u16, (VIRTQ_DESC_SIZE * index + PVIRTQ_DESC_FLAGS_OFFSET) / 2, flags)
  }

  /** Reads the flags of a descriptor. */
  flagsOf(index: number): number {
    return Atomics.load(this.#ring.u16, (VIRTQ_DESC_SIZE * index + PVIRTQ_DESC_FLAGS_OFFSET) / 2)
  }

  needsKick(): boolean {
    const filled = this.#filled
    this.#filled = []
    if (filled.length === 0) return false
    const { flags, event } = this.deviceEvent
    if (flags === RING_EVENT_FLAGS_DISABLE) return false
    if (flags !== RING_EVENT_FLAGS_DESC) return true
    return filled.some(({ index, wrap }) => index === event.index && wrap === event.wrap)
  }

  reap(): MockUsed | undefined {
    if (!this.#isUsed()) return undefined
    const { index } = this.#nextUsed
    const { view } = this.#ring
    const token = view.getUint16(VIRTQ_DESC_SIZE * index + PVIRTQ_DESC_ID_OFFSET, true)
    const length = view.getUint32(VIRTQ_DESC_SIZE * index + VIRTQ_DESC_LEN_OFFSET, true)
    const slots = this.#slots.get(token)
    if (slots === undefined) throw new Error(`the device returned buffer ${token}, which is not out`)
    this.#slots.delete(token)
    this.#freeIds.push(token)
    this.#free += slots
    this.#nextUsed = this.#advance(this.#nextUsed, slots)
    this.freeTable(token)
    return { token, length }
  }

  enableInterrupts(after = 1): boolean {
    const { u16 } = this.#driver
    if (this.features.eventIndex) {
      const { index, wrap } = this.#advance(this.#nextUsed, after - 1)
      Atomics.store(u16, PVIRTQ_EVENT_DESC_OFFSET / 2, index | (wrap << 15))
      Atomics.store(u16, PVIRTQ_EVENT_FLAGS_OFFSET / 2, RING_EVENT_FLAGS_DESC)
    } else {
      Atomics.store(u16, PVIRTQ_EVENT_FLAGS_OFFSET / 2, RING_EVENT_FLAGS_ENABLE)
    }
    return this.#isUsed()
  }

  disableInterrupts(): void {
    this.setDriverEventFlags(RING_EVENT_FLAGS_DISABLE)
  }

  /** Writes the flags of the driver's event suppression structure. */
  setDriverEventFlags(flags: number): void {
    Atomics.store(this.#driver.u16, PVIRTQ_EVENT_FLAGS_OFFSET / 2, flags)
  }

  /** The device's event suppression structure. */
  get deviceEvent(): {
    readonly flags: number
    readonly event: { readonly index: number; readonly wrap: number }
  } {
    const flags = Atomics.load(this.#device.u16, PVIRTQ_EVENT_FLAGS_OFFSET / 2)
    const event = Atomics.load(this.#device.u16, PVIRTQ_EVENT_DESC_OFFSET / 2)
    return { flags, event: { index: event & 0x7fff, wrap: event >>> 15 } }
  }

  #isUsed(): boolean {
    const { index, wrap } = this.#nextUsed
    const flags = this.flagsOf(index)
    const expected = wrap === 1 ? VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED : 0
    return (flags & (VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED)) === expected
  }

  #advance({ index, wrap }: RingPosition, by: number): RingPosition {
    const next = index + by
    return next >= this.size ? { index: next - this.size, wrap: wrap ^ 1 } : { index: next, wrap }
  }
}
