/**
 * One part of a queue in guest memory: looked up once, then only read and written. Its views cover the part and no
 * byte more, so that a mistake of ours ends in a RangeError rather than in the guest's other memory.
 */
import type { GuestMemory, GuestRegion } from './guest-memory.ts'

/** A part of a queue. */
export interface RingPart {
  readonly region: GuestRegion
  /** Offset of the part in its region, in bytes. */
  readonly offset: number
  readonly view: DataView
  /** The same bytes for 16-bit atomics. */
  readonly u16: Uint16Array
}

/**
 * Finds the memory of a part. Undefined where it does not lie in one region: the spec wants it contiguous, and no
 * driver's allocator crosses the boundary of 4 GiB that large memories are cut at.
 */
export function findPart(memory: GuestMemory, address: number, bytes: number): RingPart | undefined {
  const region = memory.findRegion(address)
  if (region === undefined) return undefined
  const offset = address - region.start
  const at = region.view.byteOffset + offset
  // An odd place in the process is a region that begins at an odd place in its buffer: no atomics there.
  if (offset + bytes > region.size || at % 2 !== 0) return undefined
  return {
    region,
    offset,
    view: new DataView(region.view.buffer, at, bytes),
    u16: new Uint16Array(region.view.buffer, at, bytes / 2),
  }
}

/** Notes bytes of a part as written, where somebody asks. */
export function markPart(part: RingPart, offset: number, length: number): void {
  const { dirty } = part.region
  if (dirty !== undefined) dirty.mark(part.offset + offset, length)
}
