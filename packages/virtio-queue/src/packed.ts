/**
 * The packed virtqueue: virtio 1.2 section 2.8.
 *
 * Order of accesses: a chain becomes ours, and goes back, with the flags of its first descriptor, read and written
 * by sequentially consistent atomics. Within a batch of used descriptors the first one's flags are written last, so
 * that the driver, who looks at one place alone, sees all or nothing.
 */
import type { DescriptorChain, Mutable } from './chain.ts'
import { clearSegments } from './chain.ts'
import { VirtqueueError } from './errors.ts'
import type { PopResult } from './faults.ts'
import { POP_AVAIL_INDEX, POP_BUFFER_ADDRESS, POP_EMPTY, POP_UNAVAILABLE } from './faults.ts'
import type { VirtqueueFeatures } from './features.ts'
import type { GuestMemory } from './guest-memory.ts'
import { needPackedEvent } from './need-event.ts'
import { OWNER_MASK, PackedWalk } from './packed-walk.ts'
import type { RingPart } from './ring-memory.ts'
import { markPart } from './ring-memory.ts'
import {
  PVIRTQ_DESC_FLAGS_OFFSET,
  PVIRTQ_DESC_ID_OFFSET,
  PVIRTQ_EVENT_DESC_OFFSET,
  PVIRTQ_EVENT_FLAGS_OFFSET,
  PVIRTQ_EVENT_SIZE,
  RING_EVENT_FLAGS_DESC,
  RING_EVENT_FLAGS_DISABLE,
  RING_EVENT_FLAGS_ENABLE,
  RING_EVENT_WRAP_SHIFT,
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_USED,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_LEN_OFFSET,
  VIRTQ_DESC_SIZE,
} from './spec.ts'
import type { Virtqueue, VirtqueuePosition } from './virtqueue.ts'
import { newTicket } from './virtqueue.ts'

/** Indices of 16-bit fields. */
const EVENT_DESC = PVIRTQ_EVENT_DESC_OFFSET / 2
const EVENT_FLAGS = PVIRTQ_EVENT_FLAGS_OFFSET / 2
const DESC_FLAGS = PVIRTQ_DESC_FLAGS_OFFSET / 2
const DESC_WORDS = VIRTQ_DESC_SIZE / 2

/** The other bits of an event suppression structure's flags are reserved. */
const EVENT_FLAGS_MASK = 0b11
const INDEX_MASK = 0x7fff

/** What a packed queue is made of. The parts are checked. */
export interface PackedParts {
  readonly memory: GuestMemory
  readonly size: number
  readonly features: VirtqueueFeatures
  readonly descriptors: RingPart
  /** The driver's event suppression structure. */
  readonly driver: RingPart
  /** The device's event suppression structure. */
  readonly device: RingPart
}

export class PackedVirtqueue implements Virtqueue {
  readonly size: number
  readonly features: VirtqueueFeatures
  readonly #walk: PackedWalk
  readonly #eventIndex: boolean
  readonly #ring: RingPart
  readonly #descriptors: DataView
  readonly #words: Uint16Array
  readonly #driver: Uint16Array
  readonly #devicePart: RingPart
  /** 0 after a reset. */
  #ticket: number = newTicket()
  #fault: PopResult = POP_EMPTY
  /** After a reset or a fault of the ring. */
  #closed = false
  #nextAvail: number
  /** The owner bits that make the descriptor at `nextAvail` available: AVAIL when the wrap counter is 1, or USED. */
  #availableBits: number
  #nextUsed: number
  /** The owner bits that make the descriptor at `nextUsed` used: both when the wrap counter is 1, or none. */
  #usedBits: number
  #inFlight = 0
  /** Descriptors of the ring that are popped and not returned. */
  #taken = 0
  /** Descriptors of the ring that are pushed and not published. */
  #unpublished = 0
  /** The flags that publish them, and where they go. */
  #firstWord = 0
  #firstFlags = 0
  #unnotified: number

  constructor(parts: PackedParts, position: VirtqueuePosition) {
    this.size = parts.size
    this.features = parts.features
    this.#walk = new PackedWalk(parts.memory, parts.descriptors.view, parts.size, parts.features.indirect)
    this.#eventIndex = parts.features.eventIndex
    this.#ring = parts.descriptors
    this.#descriptors = parts.descriptors.view
    this.#words = parts.descriptors.u16
    this.#driver = parts.driver.u16
    this.#devicePart = parts.device
    this.#nextAvail = position.nextAvail & INDEX_MASK
    this.#availableBits =
      position.nextAvail >>> RING_EVENT_WRAP_SHIFT === 1 ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED
    this.#nextUsed = position.nextUsed & INDEX_MASK
    this.#usedBits = position.nextUsed >>> RING_EVENT_WRAP_SHIFT === 1 ? OWNER_MASK : 0
    this.#unnotified = position.unnotified
  }

  get fault(): PopResult {
    return this.#fault
  }

  get inFlight(): number {
    return this.#inFlight
  }

  pop(chain: DescriptorChain): PopResult {
    if (this.#closed) return POP_EMPTY
    const flags = Atomics.load(this.#words, this.#nextAvail * DESC_WORDS + DESC_FLAGS)
    if ((flags & OWNER_MASK) !== this.#availableBits) return POP_EMPTY
    if (chain.ticket === this.#ticket) {
      throw new VirtqueueError(
        'ERR_VIRTQ_CHAIN_IN_FLIGHT',
        'pop into a chain that holds a request of this queue',
      )
    }
    // All descriptors are with the device, yet the driver has made one available again.
    if (this.#taken === this.size) return this.#break(chain, POP_AVAIL_INDEX)
    const target = chain as Mutable<DescriptorChain>
    const walk = this.#walk
    const result = walk.walk(chain, this.#nextAvail, this.#availableBits, this.size - this.#taken)
    if (result === POP_UNAVAILABLE) return this.#break(chain, result)
    if (result > POP_BUFFER_ADDRESS) clearSegments(target)
    const { slots } = walk
    target.head = walk.id
    target.slots = slots
    target.ticket = this.#ticket
    this.#inFlight += 1
    this.#taken += slots
    this.#nextAvail += slots
    if (this.#nextAvail >= this.size) {
      this.#nextAvail -= this.size
      this.#availableBits ^= OWNER_MASK
    }
    target.position = this.#nextAvail
    return result
  }

  unpop(chain: DescriptorChain): boolean {
    if (chain.ticket !== this.#ticket || chain.ticket === 0 || chain.position !== this.#nextAvail)
      return false
    chain.ticket = 0
    this.#inFlight -= 1
    this.#taken -= chain.slots
    this.#nextAvail -= chain.slots
    if (this.#nextAvail < 0) {
      this.#nextAvail += this.size
      this.#availableBits ^= OWNER_MASK
    }
    return true
  }

  addUsed(chain: DescriptorChain, length = 0): boolean {
    if (!this.pushUsed(chain, length)) return false
    this.publishUsed()
    return true
  }

  pushUsed(chain: DescriptorChain, length = 0): boolean {
    if (chain.ticket !== this.#ticket || chain.ticket === 0) return false
    chain.ticket = 0
    if (length > 0 && chain.tracked) chain.markWritten(0, length)
    const next = this.#nextUsed
    const at = next * VIRTQ_DESC_SIZE
    const word = next * DESC_WORDS + DESC_FLAGS
    const flags = this.#usedBits | (length > 0 ? VIRTQ_DESC_F_WRITE : 0)
    this.#descriptors.setUint32(at + VIRTQ_DESC_LEN_OFFSET, length, true)
    this.#descriptors.setUint16(at + PVIRTQ_DESC_ID_OFFSET, chain.head, true)
    if (this.#unpublished === 0) {
      this.#firstWord = word
      this.#firstFlags = flags
    } else {
      this.#words[word] = flags
    }
    markPart(this.#ring, at + VIRTQ_DESC_LEN_OFFSET, VIRTQ_DESC_SIZE - VIRTQ_DESC_LEN_OFFSET)
    this.#inFlight -= 1
    this.#taken -= chain.slots
    this.#unpublished += chain.slots
    this.#nextUsed = next + chain.slots
    if (this.#nextUsed >= this.size) {
      this.#nextUsed -= this.size
      this.#usedBits ^= OWNER_MASK
    }
    return true
  }

  publishUsed(): void {
    if (this.#unpublished === 0) return
    Atomics.store(this.#words, this.#firstWord, this.#firstFlags)
    markPart(this.#ring, 2 * this.#firstWord, 2)
    this.#unnotified += this.#unpublished
    this.#unpublished = 0
  }

  needsNotification(): boolean {
    const added = this.#unnotified
    if (added === 0) return false
    this.#unnotified = 0
    const flags = Atomics.load(this.#driver, EVENT_FLAGS) & EVENT_FLAGS_MASK
    if (flags === RING_EVENT_FLAGS_DISABLE) return false
    // The reserved value, and DESC without EVENT_IDX, are taken for ENABLE: a spurious notification is harmless.
    if (flags !== RING_EVENT_FLAGS_DESC || !this.#eventIndex) return true
    const event = Atomics.load(this.#driver, EVENT_DESC)
    // Where the published part ends: as seen from there an event lies in this turn of the ring or in the last.
    let index = this.#nextUsed - this.#unpublished
    let wrap = this.#usedBits === 0 ? 0 : 1
    if (index < 0) {
      index += this.size
      wrap ^= 1
    }
    return needPackedEvent(event, index, wrap, added, this.size)
  }

  disableNotification(): void {
    if (this.#ticket === 0) return
    this.#devicePart.u16[EVENT_FLAGS] = RING_EVENT_FLAGS_DISABLE
    markPart(this.#devicePart, 0, PVIRTQ_EVENT_SIZE)
  }

  enableNotification(): boolean {
    if (this.#closed) return false
    const device = this.#devicePart.u16
    if (this.#eventIndex) {
      Atomics.store(device, EVENT_DESC, this.#nextAvail | (this.#availWrap() << RING_EVENT_WRAP_SHIFT))
    }
    Atomics.store(device, EVENT_FLAGS, this.#eventIndex ? RING_EVENT_FLAGS_DESC : RING_EVENT_FLAGS_ENABLE)
    markPart(this.#devicePart, 0, PVIRTQ_EVENT_SIZE)
    const flags = Atomics.load(this.#words, this.#nextAvail * DESC_WORDS + DESC_FLAGS)
    return (flags & OWNER_MASK) === this.#availableBits
  }

  reset(): void {
    this.#closed = true
    this.#ticket = 0
    this.#inFlight = 0
    this.#taken = 0
    this.#unpublished = 0
    this.#unnotified = 0
  }

  position(): VirtqueuePosition {
    if (this.#inFlight > 0 || this.#unpublished > 0) {
      throw new VirtqueueError(
        'ERR_VIRTQ_BUSY',
        `${this.#inFlight} chains in flight and ${this.#unpublished} used descriptors not published`,
        this.#inFlight,
      )
    }
    const usedWrap = this.#usedBits === 0 ? 0 : 1
    return {
      nextAvail: this.#nextAvail | (this.#availWrap() << RING_EVENT_WRAP_SHIFT),
      nextUsed: this.#nextUsed | (usedWrap << RING_EVENT_WRAP_SHIFT),
      unnotified: this.#unnotified,
    }
  }

  #availWrap(): number {
    return this.#availableBits === VIRTQ_DESC_F_AVAIL ? 1 : 0
  }

  /** The ring itself is at fault: nobody knows where the next chain begins. */
  #break(chain: Mutable<DescriptorChain>, result: PopResult): PopResult {
    clearSegments(chain)
    chain.ticket = 0
    this.#fault = result
    this.#closed = true
    return result
  }
}
