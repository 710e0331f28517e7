/**
 * The walk of a split virtqueue: virtio 1.2 section 2.7.5.
 */
import type { DescriptorChain, Mutable } from './chain.ts'
import type { PopResult } from './faults.ts'
import {
  POP_CHAIN_LENGTH,
  POP_DIRECTION,
  POP_INDIRECT_LENGTH,
  POP_INDIRECT_LINKED,
  POP_INDIRECT_NESTED,
  POP_NEXT_INDEX,
  POP_OK,
  POP_TOTAL_LENGTH,
} from './faults.ts'
import {
  VIRTQ_DESC_ADDR_OFFSET,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_FLAGS_OFFSET,
  VIRTQ_DESC_LEN_OFFSET,
  VIRTQ_DESC_SIZE,
} from './spec.ts'
import type { ScanResult } from './walk.ts'
import { CHAIN_BYTES_MAX, ChainWalk, EVENT_BUFFER, EVENT_INDIRECT } from './walk.ts'

const NEXT_SHIFT = 16
/** `next` has 16 bits: a longer table has descriptors that nothing can name. */
const INDIRECT_BYTES_MAX = 65535 * VIRTQ_DESC_SIZE

export class SplitWalk extends ChainWalk {
  /** Fills the segments of a chain from the descriptors at `head`, which is in the table. */
  walk(chain: DescriptorChain, head: number): PopResult {
    // As if a descriptor before it had linked to the head.
    const found = this.scan(chain, VIRTQ_DESC_F_NEXT | (head << NEXT_SHIFT), false)
    return found === POP_OK ? POP_OK : this.settle(chain, found)
  }

  protected resume(chain: DescriptorChain): ScanResult {
    return this.scan(chain, this.tail, true)
  }

  protected enter(): PopResult {
    if (this.isTable) return POP_INDIRECT_NESTED
    // Buffers may come before a table (2.7.5.3.2), nothing after it.
    if ((this.tail & VIRTQ_DESC_F_NEXT) !== 0) return POP_INDIRECT_LINKED
    if (this.length > INDIRECT_BYTES_MAX) return POP_INDIRECT_LENGTH
    // As if it had linked to the first one in the table. It is none of the chain's own descriptors.
    this.tail = VIRTQ_DESC_F_NEXT
    this.budget += 1
    return POP_OK
  }

  /**
   * Follows a link to the end of the chain, an event or a fault.
   * @param link the last word of the descriptor before: `flags` and `next`
   * @param resumed whether to go on where the loop was left, or to begin a chain
   */
  private scan(chain: Mutable<DescriptorChain>, link: number, resumed: boolean): ScanResult {
    const table = resumed ? this.table : this.ring
    const base = resumed ? this.base : 0
    const entries = resumed ? this.entries : this.size
    const { region, bounds } = this
    const start = bounds[0] as number
    const size = bounds[1] as number
    const { regions, offsets, lengths } = chain
    if (this.isTracked) chain.tracked = true
    let tail = link
    let budget = resumed ? this.budget : this.size
    let count = resumed ? this.count : 0
    let total = resumed ? this.total : 0
    let readableCount = resumed ? this.readableCount : -1
    let readableBytes = resumed ? this.readableBytes : 0
    while ((tail & VIRTQ_DESC_F_NEXT) !== 0) {
      const index = tail >>> NEXT_SHIFT
      if (index >= entries) return POP_NEXT_INDEX
      if (budget === 0) return POP_CHAIN_LENGTH
      budget -= 1
      const at = base + VIRTQ_DESC_SIZE * index
      const low = table.getUint32(at + VIRTQ_DESC_ADDR_OFFSET, true)
      const high = table.getUint32(at + VIRTQ_DESC_ADDR_OFFSET + 4, true)
      const length = table.getUint32(at + VIRTQ_DESC_LEN_OFFSET, true)
      // `flags` and `next` in one access.
      tail = table.getInt32(at + VIRTQ_DESC_FLAGS_OFFSET, true)
      let event: ScanResult = POP_OK
      if ((tail & VIRTQ_DESC_F_INDIRECT) !== 0) {
        event = EVENT_INDIRECT
      } else {
        if ((tail & VIRTQ_DESC_F_WRITE) === 0) {
          if (readableCount >= 0) return POP_DIRECTION
        } else if (readableCount < 0) {
          readableCount = count
          readableBytes = total
        }
        if (length === 0) continue
        total += length
        if (total > CHAIN_BYTES_MAX) return POP_TOTAL_LENGTH
        const offset = high * 4294967296 + low - start
        // An address of 2^53 and above, however rounded, is in no region.
        if (offset >= 0 && offset + length <= size && count < lengths.length) {
          if (regions[count] !== region) regions[count] = region
          offsets[count] = offset
          lengths[count] = length
          count += 1
          continue
        }
        event = EVENT_BUFFER
      }
      this.table = table
      this.base = base
      this.entries = entries
      this.tail = tail
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
}
