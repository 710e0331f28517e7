/**
 * The walk from a head through its descriptors to a checked chain: what both kinds of ring have in common. This is
 * where a driver is believed or not: every field of the guest's is read once, and judged as it was read.
 *
 * The loops over descriptors, in split-walk.ts and packed-walk.ts, make no call: V8 then keeps what does not change
 * (views, arrays, bounds) in registers: 5 ns a descriptor, and 9 with calls inside (bench/virtio-queue.mjs, Node
 * 20.20). What is rare leaves the loop with an event, is handled here, and the loop goes on. Each kind has a loop of
 * its own: one loop for both would take the type feedback of both, and twice the time in a process that has both.
 */
import type { DescriptorChain } from './chain.ts'
import type { PopResult } from './faults.ts'
import {
  POP_BUFFER_ADDRESS,
  POP_INDIRECT_ADDRESS,
  POP_INDIRECT_LENGTH,
  POP_INDIRECT_UNNEGOTIATED,
  POP_OK,
} from './faults.ts'
import type { GuestMemory, GuestRegion } from './guest-memory.ts'
import { addressOf, smallInteger, UNMAPPED } from './guest-memory.ts'
import { VIRTQ_DESC_SIZE } from './spec.ts'

/** More bytes than any chain may have (2.7.5.2). */
export const CHAIN_BYTES_MAX = 4294967296

/** Leaves the loop: a buffer that the region at hand does not hold, or that has no place in the chain's arrays. */
export const EVENT_BUFFER = -1
/** Leaves the loop: an indirect descriptor. */
export const EVENT_INDIRECT = -2
/** What a loop ends with: a result or an event. */
export type ScanResult = PopResult | typeof EVENT_BUFFER | typeof EVENT_INDIRECT

/** Walks the chains of one queue, one after the other. */
export abstract class ChainWalk {
  protected readonly memory: GuestMemory
  /** The descriptor table, or the packed ring. */
  protected readonly ring: DataView
  protected readonly size: number
  /** The region of the last buffer: the next one is likely in it. */
  protected region: GuestRegion = UNMAPPED
  /** Its start and size; in an array of doubles, which keeps V8 from converting them for every descriptor. */
  protected readonly bounds: Float64Array = new Float64Array(2)
  /** Whether it tracks writes. */
  protected isTracked = false

  // Where the loop was left, and the descriptor that made it so.
  protected table: DataView
  protected base = 0
  protected entries = 0
  protected isTable = false
  protected index = 0
  protected budget = 0
  protected count = 0
  protected total = 0
  protected readableCount = -1
  protected readableBytes = 0
  protected low = 0
  protected high = 0
  protected length = 0
  /** Its last 32 bits: `flags` and `next`, or `id` and `flags`. */
  protected tail = 0

  readonly #indirect: boolean

  /** @param indirect whether indirect descriptors were negotiated */
  constructor(memory: GuestMemory, ring: DataView, size: number, indirect: boolean) {
    this.memory = memory
    this.ring = ring
    this.table = ring
    this.size = size
    this.#indirect = indirect
  }

  /** Goes on where the loop was left, behind the descriptor in `tail`. */
  protected abstract resume(chain: DescriptorChain): ScanResult

  /** Makes `table`, which is checked, the one to go on in. A fault where this kind of ring does not allow that. */
  protected abstract enter(): PopResult

  /** Handles events until there is a result. */
  protected settle(chain: DescriptorChain, first: ScanResult): PopResult {
    let found = first
    let isMapped = true
    this.isTable = false
    for (;;) {
      if (found === EVENT_BUFFER) {
        if (!this.#addBuffer(chain)) isMapped = false
      } else if (found === EVENT_INDIRECT) {
        const fault = this.#enterTable()
        if (fault !== POP_OK) return fault
      } else {
        return found === POP_OK && !isMapped ? POP_BUFFER_ADDRESS : found
      }
      found = this.resume(chain)
    }
  }

  #addBuffer(chain: DescriptorChain): boolean {
    const address = addressOf(this.low, this.high)
    const count = chain.addBuffer(this.memory, this.count, address, this.length)
    this.count = count < 0 ? ~count : count
    this.region = chain.regions[this.count - 1] as GuestRegion
    this.bounds[0] = this.region.start
    this.bounds[1] = this.region.size
    this.isTracked = this.region.dirty !== undefined
    return count >= 0
  }

  #enterTable(): PopResult {
    const { length } = this
    if (!this.#indirect) return POP_INDIRECT_UNNEGOTIATED
    const fault = this.enter()
    if (fault !== POP_OK) return fault
    if (length === 0 || length % VIRTQ_DESC_SIZE !== 0) return POP_INDIRECT_LENGTH
    const address = addressOf(this.low, this.high)
    const region = this.memory.findRegion(address)
    if (region === undefined || address - region.start + length > region.size) return POP_INDIRECT_ADDRESS
    this.table = region.view
    this.base = smallInteger(address - region.start)
    this.entries = length / VIRTQ_DESC_SIZE
    this.isTable = true
    return POP_OK
  }
}
