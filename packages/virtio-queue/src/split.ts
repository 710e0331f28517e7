/**
 * The split virtqueue: virtio 1.2 section 2.7.
 *
 * Order of accesses: `avail.idx` is read and `used.idx` written by sequentially consistent atomics, so that what the
 * driver wrote before its index is seen, and what we write before ours. The same atomics order "publish, then look
 * whether to notify" against the other side's "ask, then look again": no notification is lost.
 */
import type { DescriptorChain, Mutable } from './chain.ts'
import { clearSegments } from './chain.ts'
import { VirtqueueError } from './errors.ts'
import type { PopResult } from './faults.ts'
import { POP_AVAIL_INDEX, POP_BUFFER_ADDRESS, POP_EMPTY, POP_HEAD_INDEX, POP_OK } from './faults.ts'
import type { VirtqueueFeatures } from './features.ts'
import type { GuestMemory } from './guest-memory.ts'
import { needEvent } from './need-event.ts'
import type { RingPart } from './ring-memory.ts'
import { markPart } from './ring-memory.ts'
import {
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_USED_ELEM_ID_OFFSET,
  VIRTQ_USED_ELEM_LEN_OFFSET,
  VIRTQ_USED_ELEM_SIZE,
  VIRTQ_USED_F_NO_NOTIFY,
  VIRTQ_USED_RING_OFFSET,
} from './spec.ts'
import { SplitWalk } from './split-walk.ts'
import type { Virtqueue, VirtqueuePosition } from './virtqueue.ts'
import { newTicket } from './virtqueue.ts'

/** Indices of the 16-bit fields of both rings. */
const FLAGS = 0
const IDX = 1
const RING = 2

/** What a split queue is made of. The parts are checked. */
export interface SplitParts {
  readonly memory: GuestMemory
  readonly size: number
  readonly features: VirtqueueFeatures
  readonly descriptors: RingPart
  readonly avail: RingPart
  readonly used: RingPart
}

export class SplitVirtqueue implements Virtqueue {
  readonly size: number
  readonly features: VirtqueueFeatures
  readonly #walk: SplitWalk
  readonly #mask: number
  readonly #eventIndex: boolean
  readonly #avail: Uint16Array
  readonly #usedPart: RingPart
  readonly #used: DataView
  readonly #used16: Uint16Array
  /** 0 after a reset. */
  #ticket: number = newTicket()
  #fault: PopResult = POP_EMPTY
  #nextAvail: number
  /** `avail.idx` as last read; entries up to it are taken without reading it again. */
  #availIndex: number
  #nextUsed: number
  #inFlight = 0
  /** Pushed and not published. */
  #unpublished = 0
  #unnotified: number
  /** The index at which the driver was asked for a notification; -1 where it was not. */
  #armed = -1

  constructor(parts: SplitParts, position: VirtqueuePosition) {
    this.size = parts.size
    this.features = parts.features
    this.#walk = new SplitWalk(parts.memory, parts.descriptors.view, parts.size, parts.features.indirect)
    this.#mask = parts.size - 1
    this.#eventIndex = parts.features.eventIndex
    this.#avail = parts.avail.u16
    this.#usedPart = parts.used
    this.#used = parts.used.view
    this.#used16 = parts.used.u16
    this.#nextAvail = position.nextAvail
    this.#availIndex = position.nextAvail
    this.#nextUsed = position.nextUsed
    this.#unnotified = position.unnotified
  }

  get fault(): PopResult {
    return this.#fault
  }

  get inFlight(): number {
    return this.#inFlight
  }

  pop(chain: DescriptorChain): PopResult {
    const next = this.#nextAvail
    if (next === this.#availIndex) {
      const found = this.#look()
      if (found !== POP_OK) {
        if (found !== POP_EMPTY && chain.ticket !== this.#ticket) clearSegments(chain)
        return found
      }
    }
    if (chain.ticket === this.#ticket) {
      throw new VirtqueueError(
        'ERR_VIRTQ_CHAIN_IN_FLIGHT',
        'pop into a chain that holds a request of this queue',
      )
    }
    const head = this.#avail[RING + (next & this.#mask)] as number
    const after = (next + 1) & 0xffff
    this.#nextAvail = after
    const target = chain as Mutable<DescriptorChain>
    target.head = head
    if (head >= this.size) {
      clearSegments(target)
      target.ticket = 0
      return POP_HEAD_INDEX
    }
    target.ticket = this.#ticket
    target.position = after
    this.#inFlight += 1
    const result = this.#walk.walk(chain, head)
    if (result > POP_BUFFER_ADDRESS) clearSegments(target)
    return result
  }

  unpop(chain: DescriptorChain): boolean {
    if (chain.ticket !== this.#ticket || chain.ticket === 0 || chain.position !== this.#nextAvail)
      return false
    chain.ticket = 0
    this.#nextAvail = (this.#nextAvail - 1) & 0xffff
    this.#inFlight -= 1
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
    this.#inFlight -= 1
    if (length > 0 && chain.tracked) chain.markWritten(0, length)
    const next = this.#nextUsed
    const at = VIRTQ_USED_RING_OFFSET + VIRTQ_USED_ELEM_SIZE * (next & this.#mask)
    this.#used.setUint32(at + VIRTQ_USED_ELEM_ID_OFFSET, chain.head, true)
    this.#used.setUint32(at + VIRTQ_USED_ELEM_LEN_OFFSET, length, true)
    markPart(this.#usedPart, at, VIRTQ_USED_ELEM_SIZE)
    this.#nextUsed = (next + 1) & 0xffff
    this.#unpublished += 1
    return true
  }

  publishUsed(): void {
    if (this.#unpublished === 0) return
    Atomics.store(this.#used16, IDX, this.#nextUsed)
    markPart(this.#usedPart, 2 * IDX, 2)
    this.#unnotified += this.#unpublished
    this.#unpublished = 0
  }

  needsNotification(): boolean {
    const added = this.#unnotified
    if (added === 0) return false
    this.#unnotified = 0
    if (!this.#eventIndex) return (Atomics.load(this.#avail, FLAGS) & VIRTQ_AVAIL_F_NO_INTERRUPT) === 0
    const event = Atomics.load(this.#avail, RING + this.size)
    return needEvent(event, (this.#nextUsed - this.#unpublished) & 0xffff, added)
  }

  disableNotification(): void {
    if (this.#ticket === 0) return
    if (this.#eventIndex) {
      // The flags stay 0 (2.7.10.2). An event index that has been passed asks for nothing: one that has not been is moved
      // behind, where the driver passes it when it has been around.
      if (this.#armed === this.#nextAvail) this.#setEvent((this.#nextAvail - 1) & 0xffff)
      this.#armed = -1
      return
    }
    this.#used16[FLAGS] = VIRTQ_USED_F_NO_NOTIFY
    markPart(this.#usedPart, 2 * FLAGS, 2)
  }

  enableNotification(): boolean {
    if (this.#ticket === 0 || this.#fault !== POP_EMPTY) return false
    const next = this.#nextAvail
    if (this.#eventIndex) {
      this.#armed = next
      this.#setEvent(next)
    } else {
      Atomics.store(this.#used16, FLAGS, 0)
      markPart(this.#usedPart, 2 * FLAGS, 2)
    }
    return Atomics.load(this.#avail, IDX) !== next
  }

  reset(): void {
    this.#ticket = 0
    this.#availIndex = this.#nextAvail
    this.#inFlight = 0
    this.#unpublished = 0
    this.#unnotified = 0
  }

  position(): VirtqueuePosition {
    if (this.#inFlight > 0 || this.#unpublished > 0) {
      throw new VirtqueueError(
        'ERR_VIRTQ_BUSY',
        `${this.#inFlight} chains in flight and ${this.#unpublished} used buffers not published`,
        this.#inFlight,
      )
    }
    return { nextAvail: this.#nextAvail, nextUsed: this.#nextUsed, unnotified: this.#unnotified }
  }

  #setEvent(index: number): void {
    const field = RING + (VIRTQ_USED_ELEM_SIZE / 2) * this.size
    Atomics.store(this.#used16, field, index)
    markPart(this.#usedPart, 2 * field, 2)
  }

  /** Reads `avail.idx`. A driver cannot have more buffers out than the queue has entries, nor take one back. */
  #look(): PopResult {
    if (this.#ticket === 0 || this.#fault !== POP_EMPTY) return POP_EMPTY
    const index = Atomics.load(this.#avail, IDX)
    if (index === this.#nextAvail) return POP_EMPTY
    const news = (index - this.#nextAvail) & 0xffff
    const owed = (this.#nextAvail - this.#nextUsed) & 0xffff
    if (news + owed > this.size) {
      this.#fault = POP_AVAIL_INDEX
      return POP_AVAIL_INDEX
    }
    this.#availIndex = index
    return POP_OK
  }
}
