/**
 * The driver's side of a split virtqueue (virtio 1.2, 2.7.13 and 2.7.14).
 */
import {
  availRingBytes,
  usedRingBytes,
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_AVAIL_FLAGS_OFFSET,
  VIRTQ_AVAIL_IDX_OFFSET,
  VIRTQ_AVAIL_RING_OFFSET,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_USED_ELEM_LEN_OFFSET,
  VIRTQ_USED_ELEM_SIZE,
  VIRTQ_USED_F_NO_NOTIFY,
  VIRTQ_USED_FLAGS_OFFSET,
  VIRTQ_USED_IDX_OFFSET,
  VIRTQ_USED_RING_OFFSET,
} from '../spec.ts'
import type { MockDriverOptions, MockUsed, RawDescriptor } from './mock-driver.ts'
import { MockDriver } from './mock-driver.ts'
import type { Place } from './mock-memory.ts'
import { locate } from './mock-memory.ts'

/** Tokens are the indices of head descriptors. */
export class MockSplitDriver extends MockDriver {
  readonly #free: number[]
  readonly #chains = new Map<number, readonly number[]>()
  readonly #avail: Place
  readonly #used: Place
  /** What `avail.idx` becomes with the next {@link publish}, and what it was at the last {@link needsKick}. */
  #availIndex = 0
  #kickIndex = 0
  #lastUsed = 0

  constructor(options: MockDriverOptions) {
    super(options, availRingBytes(options.size), usedRingBytes(options.size))
    this.#free = Array.from({ length: options.size }, (_, i) => i)
    this.#avail = locate(this.memory, this.driverArea)
    this.#used = locate(this.memory, this.deviceArea)
  }

  get free(): number {
    return this.#free.length
  }

  addRaw(descriptors: readonly RawDescriptor[]): number | undefined {
    if (descriptors.length === 0 || descriptors.length > this.free) return undefined
    const indices = this.#free.splice(0, descriptors.length)
    descriptors.forEach((descriptor, i) => {
      const linked = (descriptor.flags & VIRTQ_DESC_F_NEXT) !== 0
      this.writeDescriptor(indices[i] as number, { next: linked ? (indices[i + 1] ?? 0) : 0, ...descriptor })
    })
    const head = indices[0] as number
    this.#chains.set(head, indices)
    this.offer(head)
    return head
  }

  /** Puts any head into the available ring, to be published. */
  offer(head: number): void {
    const slot = this.#availIndex % this.size
    this.#avail.view.setUint16(VIRTQ_AVAIL_RING_OFFSET + 2 * slot, head, true)
    this.#availIndex = (this.#availIndex + 1) & 0xffff
  }

  publish(): void {
    Atomics.store(this.#avail.u16, VIRTQ_AVAIL_IDX_OFFSET / 2, this.#availIndex)
  }

  /** Sets `avail.idx` to anything, at once; what is added later goes on from there. */
  setAvailIndex(index: number): void {
    this.#availIndex = index & 0xffff
    this.publish()
  }

  /** As if both sides had come this far: for tests of wrap-around, before anything is added. */
  startAt(index: number): void {
    this.setAvailIndex(index)
    this.#kickIndex = index & 0xffff
    this.#lastUsed = index & 0xffff
    this.#used.view.setUint16(VIRTQ_USED_IDX_OFFSET, index & 0xffff, true)
  }

  needsKick(): boolean {
    const old = this.#kickIndex
    this.#kickIndex = this.#availIndex
    if (old === this.#availIndex) return false
    if (!this.features.eventIndex) {
      const flags = Atomics.load(this.#used.u16, VIRTQ_USED_FLAGS_OFFSET / 2)
      return (flags & VIRTQ_USED_F_NO_NOTIFY) === 0
    }
    const event = Atomics.load(this.#used.u16, this.availEventOffset / 2)
    // In words: one of the buffers added since then was placed at the index that the device asked about.
    for (let index = old; index !== this.#availIndex; index = (index + 1) & 0xffff) {
      if (index === event) return true
    }
    return false
  }

  reap(): MockUsed | undefined {
    if (this.#lastUsed === this.usedIndex) return undefined
    const at = VIRTQ_USED_RING_OFFSET + VIRTQ_USED_ELEM_SIZE * (this.#lastUsed % this.size)
    const token = this.#used.view.getUint32(at, true)
    const length = this.#used.view.getUint32(at + VIRTQ_USED_ELEM_LEN_OFFSET, true)
    this.#lastUsed = (this.#lastUsed + 1) & 0xffff
    this.#free.push(...(this.#chains.get(token) ?? []))
    this.#chains.delete(token)
    this.freeTable(token)
    return { token, length }
  }

  enableInterrupts(after = 1): boolean {
    if (this.features.eventIndex) this.setUsedEvent(this.#lastUsed + after - 1)
    else Atomics.store(this.#avail.u16, VIRTQ_AVAIL_FLAGS_OFFSET / 2, 0)
    return this.usedIndex !== this.#lastUsed
  }

  disableInterrupts(): void {
    // The last index passed is the one that comes round last.
    if (this.features.eventIndex) this.setUsedEvent(this.#lastUsed - 1)
    else Atomics.store(this.#avail.u16, VIRTQ_AVAIL_FLAGS_OFFSET / 2, VIRTQ_AVAIL_F_NO_INTERRUPT)
  }

  /** Writes `used_event`. */
  setUsedEvent(event: number): void {
    const offset = VIRTQ_AVAIL_RING_OFFSET + 2 * this.size
    Atomics.store(this.#avail.u16, offset / 2, event & 0xffff)
  }

  /** `used.idx`. */
  get usedIndex(): number {
    return Atomics.load(this.#used.u16, VIRTQ_USED_IDX_OFFSET / 2)
  }

  /** `used.flags`. */
  get usedFlags(): number {
    return Atomics.load(this.#used.u16, VIRTQ_USED_FLAGS_OFFSET / 2)
  }

  /** `avail_event`. */
  get availEvent(): number {
    return Atomics.load(this.#used.u16, this.availEventOffset / 2)
  }

  private get availEventOffset(): number {
    return VIRTQ_USED_RING_OFFSET + VIRTQ_USED_ELEM_SIZE * this.size
  }
}
