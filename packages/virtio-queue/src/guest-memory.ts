/**
 * What a queue asks of guest memory. `GuestMemory` of `@vmm/vm-memory` fits, and so does anything of this shape.
 */

/** Where writes of the device are noted, for migration and snapshots. */
export interface DirtyTracker {
  /** The bytes from `offset` in the region on have been written. */
  mark(offset: number, length: number): void
}

/**
 * One contiguous stretch of guest memory. `view` and `bytes` show the same bytes: `size` of them, the first at
 * guest address `start`. All of it stays as it is while a queue uses the memory, the bytes excepted.
 */
export interface GuestRegion {
  /** Guest address of the first byte, below 2^53. */
  readonly start: number
  /** In bytes. */
  readonly size: number
  /** The memory, for numbers. */
  readonly view: DataView
  /** The same memory, for copies. */
  readonly bytes: Uint8Array
  /** Where writes are noted; undefined when nobody asks. */
  readonly dirty?: DirtyTracker | undefined
  /** Address of the first byte in this process, where there is one: for devices that hand buffers to the kernel. */
  readonly hostAddress?: bigint | undefined
}

/** Finds regions. Two regions may be adjacent: a buffer may run on from one into the next. */
export interface GuestMemory {
  /** The region that holds the address, undefined where there is no memory. Must not throw for any number. */
  findRegion(address: number): GuestRegion | undefined
}

/**
 * Stands in a chain for a part of a buffer that is not in guest memory. It has no bytes: an access through its
 * views is a `RangeError`, so ask before (`region === UNMAPPED`), or use a `Reader` or `Writer`, which stop here.
 */
export const UNMAPPED: GuestRegion = Object.freeze({
  start: 0,
  size: 0,
  view: new DataView(new ArrayBuffer(0)),
  bytes: new Uint8Array(0),
  dirty: undefined,
  hostAddress: undefined,
})

/** The highest high word of an address below 2^53; above it a number would be rounded to another address. */
export const ADDRESS_HIGH_MAX = 0x1f_ffff

/** A 64-bit address of two words; `Infinity`, which no region holds, for 2^53 and above. */
export function addressOf(low: number, high: number): number {
  return high > ADDRESS_HIGH_MAX ? Number.POSITIVE_INFINITY : high * 2 ** 32 + low
}

/**
 * The same integer, as a small one where it is below 2^31. Sums and products of addresses are doubles to V8, even when
 * they are small, and an access at a double costs a conversion: 8.7 instead of 5.3 ns a descriptor of an indirect
 * table (bench/virtio-queue.mjs, Node 20.20).
 */
export function smallInteger(value: number): number {
  return value < 2 ** 31 ? value | 0 : value
}
