/**
 * The walk of a packed virtqueue: virtio 1.2 sections 2.8.4 to 2.8.7.
 */
import type { DescriptorChain, Mutable } from './chain.ts'
import type { PopResult } from './faults.ts'
import {
  POP_BUFFER_ADDRESS,
  POP_CHAIN_LENGTH,
  POP_DIRECTION,
  POP_INDIRECT_LINKED,
  POP_OK,
  POP_TOTAL_LENGTH,
  POP_UNAVAILABLE,
} from './faults.ts'
import {
  PVIRTQ_DESC_ID_OFFSET,
  VIRTQ_DESC_ADDR_OFFSET,
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_USED,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_LEN_OFFSET,
  VIRTQ_DESC_SIZE,
} from './spec.ts'
import type { ScanResult } from './walk.ts'
import { CHAIN_BYTES_MAX, ChainWalk, EVENT_BUFFER, EVENT_INDIRECT } from './walk.ts'

/** The bits that say whose a descriptor is: different in an available one, equal in a used one. */
export const OWNER_MASK: number = VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED

const FLAGS_SHIFT = 16
const ID_MASK = 0xffff

export class PackedWalk extends ChainWalk {
  /** Descriptors of the ring that the last walk has passed. */
  slots = 0
  /** The buffer ID that the last walk has found. */
  id = 0
  #owner = 0
  #limit = 0

  /**
   * Fills the segments of a chain from the list at `index`. The flags of its first descriptor are read again here,
   * after the atomic access that found it available: whatever they are by now, they alone count.
   *
   * A fault of a descriptor does not hide where the list ends: `slots` and `id` are right with every result but
   * `POP_UNAVAILABLE`.
   * @param owner owner bits of an available descriptor there
   * @param limit descriptors of the ring that can be available at all, above 0
   */
  walk(chain: DescriptorChain, index: number, owner: number, limit: number): PopResult {
    this.#owner = owner
    this.#limit = limit
    this.index = index
    const found = this.scan(chain, VIRTQ_DESC_F_NEXT << FLAGS_SHIFT, false)
    if (found === POP_OK) return POP_OK
    const result = this.settle(chain, found)
    if (result <= POP_BUFFER_ADDRESS || result === POP_UNAVAILABLE || this.isTable) return result
    return this.#skip() ? result : POP_UNAVAILABLE
  }

  protected resume(chain: DescriptorChain): ScanResult {
    return this.scan(chain, this.tail, true)
  }

  protected enter(): PopResult {
    // All of a list are of one kind (2.8.5), and a table is linked to nothing (2.8.19).
    const isLinked = ((this.tail >>> FLAGS_SHIFT) & VIRTQ_DESC_F_NEXT) !== 0
    if (isLinked || this.budget + 1 !== this.#limit) return POP_INDIRECT_LINKED
    if (this.length > VIRTQ_DESC_SIZE * this.size) return POP_CHAIN_LENGTH
    this.id = this.tail & ID_MASK
    this.slots = 1
    this.index = 0
    return POP_OK
  }

  /**
   * Goes on behind a descriptor to the end of the list, an event or a fault.
   * @param last its last word: `id` and `flags`
   * @param resumed whether to go on where the loop was left, or to begin a chain
   */
  private scan(chain: Mutable<DescriptorChain>, last: number, resumed: boolean): ScanResult {
    const isTable = resumed && this.isTable
    const table = resumed ? this.table : this.ring
    const base = resumed ? this.base : 0
    const entries = resumed ? this.entries : this.size
    const { region, bounds } = this
    const start = bounds[0] as number
    const size = bounds[1] as number
    const { regions, offsets, lengths } = chain
    if (this.isTracked) chain.tracked = true
    let tail = last
    let owner = this.#owner
    let { index } = this
    let budget = resumed ? this.budget : this.#limit
    let count = resumed ? this.count : 0
    let total = resumed ? this.total : 0
    let readableCount = resumed ? this.readableCount : -1
    let readableBytes = resumed ? this.readableBytes : 0
    // In a table order is the only link (2.8.7).
    while (isTable ? index < entries : (tail & (VIRTQ_DESC_F_NEXT << FLAGS_SHIFT)) !== 0) {
      const at = base + VIRTQ_DESC_SIZE * index
      const low = table.getUint32(at + VIRTQ_DESC_ADDR_OFFSET, true)
      const high = table.getUint32(at + VIRTQ_DESC_ADDR_OFFSET + 4, true)
      const length = table.getUint32(at + VIRTQ_DESC_LEN_OFFSET, true)
      // `id` and `flags` in one access.
      tail = table.getInt32(at + PVIRTQ_DESC_ID_OFFSET, true)
      const flags = tail >>> FLAGS_SHIFT
      index += 1
      if (!isTable) {
        if (budget === 0 || (flags & OWNER_MASK) !== owner) return POP_UNAVAILABLE
        budget -= 1
        if (index === entries) {
          index = 0
          owner ^= OWNER_MASK
        }
      }
      let event: ScanResult = POP_OK
      if (!isTable && (flags & VIRTQ_DESC_F_INDIRECT) !== 0) {
        event = EVENT_INDIRECT
      } else if ((flags & VIRTQ_DESC_F_WRITE) === 0 && readableCount >= 0) {
        event = POP_DIRECTION
      } else {
        if ((flags & VIRTQ_DESC_F_WRITE) !== 0 && readableCount < 0) {
          readableCount = count
          readableBytes = total
        }
        if (length === 0) continue
        total += length
        const offset = high * 4294967296 + low - start
        // An address of 2^53 and above, however rounded, is in no region.
        if (offset >= 0 && offset + length <= size && count < lengths.length && total <= CHAIN_BYTES_MAX) {
          if (regions[count] !== region) regions[count] = region
          offsets[count] = offset
          lengths[count] = length
          count += 1
          continue
        }
        event = total > CHAIN_BYTES_MAX ? POP_TOTAL_LENGTH : EVENT_BUFFER
      }
      this.table = table
      this.base = base
      this.entries = entries
      this.tail = tail
      this.index = index
      this.#owner = owner
      this.budget = budget
      this.count = count
      this.total = total
      this.readableCount = readableCount
      this.readableBytes = readableBytes
      this.low = low
      this.high = high
      this.length = length
      return event
    }
    if (!isTable) {
      this.slots = this.#limit - budget
      this.id = tail & ID_MASK
    }
    chain.segmentCount = count
    if (readableCount < 0) {
      chain.readableCount = count
      chain.readableBytes = total
      chain.writableBytes = 0
    } else {
      chain.readableCount = readableCount
      chain.readableBytes = readableBytes
      chain.writableBytes = total - readableBytes
    }
    return POP_OK
  }

  /** Goes to the end of a list whose buffers do not matter any more. */
  #skip(): boolean {
    while ((this.tail & (VIRTQ_DESC_F_NEXT << FLAGS_SHIFT)) !== 0) {
      if (this.budget === 0) return false
      this.budget -= 1
      this.tail = this.ring.getInt32(VIRTQ_DESC_SIZE * this.index + PVIRTQ_DESC_ID_OFFSET, true)
      if (((this.tail >>> FLAGS_SHIFT) & OWNER_MASK) !== this.#owner) return false
      this.index += 1
      if (this.index === this.size) {
        this.index = 0
        this.#owner ^= OWNER_MASK
      }
    }
    this.slots = this.#limit - this.budget
    this.id = this.tail & ID_MASK
    return true
  }
}
