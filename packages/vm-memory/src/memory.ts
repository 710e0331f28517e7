/**
 * The guest's physical memory: a map of regions, and access to them by guest address.
 *
 * Two kinds of access, by who chose the address:
 * - The host did (a loader, a snapshot): scalars and the exact forms throw a {@link MemoryError} for an address
 *   outside memory.
 * - The guest did: `regionOf`, `read`, `write`, `readFrom`, `writeTo`, `checkRange`, `slice` and `RangeCursor`
 *   never throw for any address; they give `undefined`, `false` or a short count.
 *
 * All scalars are little-endian. Other threads, and the guest above all, may write at any time: what was read twice
 * may differ, and a plain access may be torn. The atomic forms are whole and sequentially consistent.
 */
import { readSync, writeSync } from 'node:fs'
import { RangeCursor } from './cursor.ts'
import { DirtyBitmap } from './dirty.ts'
import { hex, MemoryError, partialError } from './errors.ts'
import { RegionMap } from './map.ts'
import type { MemoryRange } from './range.ts'
import { splitRange } from './range.ts'
import { GuestRegion } from './region.ts'

// Up to these lengths a loop beats `set`, and `set` from a subarray: bench/vm-memory.mjs, Node 20.20.
const LOOP_SET_MAX = 8
const LOOP_SUBARRAY_MAX = 24

/** Most bytes for one read(2) or write(2): Node.js takes a signed 32-bit length. */
const IO_SIZE_MAX = 0x4000_0000
/** Size of the bounce buffer of an overlapping copy between regions. */
const BOUNCE_SIZE = 0x1_0000

// Where a scalar is put together that lies in two regions: one thread, and never held across a call.
const scratch = new DataView(new ArrayBuffer(8))
const scratchBytes: readonly Uint8Array[] = Array.from({ length: 9 }, (_, n) => {
  return new Uint8Array(scratch.buffer, 0, n)
})

/** How {@link GuestMemory.fromRanges} makes its regions. */
export interface PlainMemoryOptions {
  /** Whether writes are noted in a {@link DirtyBitmap} of 4 KiB pages; default false. */
  readonly trackDirty?: boolean
}

function copyBytes(
  target: Uint8Array,
  targetOffset: number,
  source: Uint8Array,
  sourceOffset: number,
  length: number,
): void {
  if (length <= (length === source.length ? LOOP_SET_MAX : LOOP_SUBARRAY_MAX)) {
    for (let i = 0; i < length; i += 1) target[targetOffset + i] = source[sourceOffset + i] as number
  } else if (length === source.length) {
    target.set(source, targetOffset)
  } else {
    target.set(source.subarray(sourceOffset, sourceOffset + length), targetOffset)
  }
}

function tooLarge(value: string): MemoryError {
  return new MemoryError('ERR_MEMORY_VALUE_TOO_LARGE', `${value} is not a number from 0 to 2^53 - 1`)
}

// Small, so that V8 inlines them: a number above 2^31 that a call returns is allocated.
function readNumber(view: DataView, offset: number): number {
  const high = view.getUint32(offset + 4, true)
  if (high > 0x1f_ffff) throw tooLarge(`0x${view.getBigUint64(offset, true).toString(16)}`)
  return high * 2 ** 32 + view.getUint32(offset, true)
}

function writeNumber(view: DataView, offset: number, value: number): void {
  if (!(Number.isSafeInteger(value) && value >= 0)) throw tooLarge(String(value))
  view.setUint32(offset, value, true)
  view.setUint32(offset + 4, value / 2 ** 32, true)
}

/**
 * An immutable map of disjoint regions in ascending order. Accesses may run on from one region into an adjacent
 * one; a hole stops them.
 *
 * @example
 * ```ts
 * const memory = GuestMemory.fromRanges([{ start: 0, size: 64 << 20 }])
 * memory.writeSlice(0x1000, code)
 * memory.readUint32(0x1000)
 * ```
 */
export class GuestMemory extends RegionMap {
  /**
   * A map of the given regions, in any order.
   * @throws MemoryError ERR_MEMORY_NO_REGION for none, ERR_MEMORY_OVERLAP
   */
  static fromRegions(regions: readonly GuestRegion[]): GuestMemory {
    return new GuestMemory(regions)
  }

  /**
   * Memory in plain buffers, zeroed: for tests, and for everything that works without KVM. A range above 4 GiB
   * becomes several regions. Mapped memory comes from `@vmm/vm-memory/mmap`.
   * @throws MemoryError ERR_MEMORY_NO_REGION, ERR_MEMORY_OVERLAP, ERR_MEMORY_MISALIGNED,
   * ERR_MEMORY_INVALID_ADDRESS, ERR_MEMORY_INVALID_ARGUMENT, ERR_MEMORY_ALLOCATION
   */
  static fromRanges(ranges: readonly MemoryRange[], options: PlainMemoryOptions = {}): GuestMemory {
    const regions = ranges.flatMap(splitRange).map(({ start, size }) => {
      let bytes: Uint8Array
      try {
        bytes = new Uint8Array(size)
      } catch (cause) {
        const message = `no ${size} bytes for guest memory at ${hex(start)}`
        throw new MemoryError('ERR_MEMORY_ALLOCATION', message, { cause })
      }
      return new GuestRegion({ start, bytes, dirty: options.trackDirty ? new DirtyBitmap(size) : undefined })
    })
    return new GuestMemory(regions)
  }

  /**
   * A new map with one more region.
   * @throws MemoryError ERR_MEMORY_OVERLAP
   */
  insertRegion(region: GuestRegion): GuestMemory {
    return new GuestMemory([...this.regions, region])
  }

  /**
   * A new map without the region of exactly this start and size. The region itself lives on with its owner.
   * @throws MemoryError ERR_MEMORY_NO_REGION for no such region, and for the last one
   */
  removeRegion(start: number, size: number): GuestMemory {
    const rest = this.regions.filter((region) => region.start !== start || region.size !== size)
    if (rest.length === this.regions.length) {
      const message = `no region of ${size} bytes at ${hex(start)}`
      throw new MemoryError('ERR_MEMORY_NO_REGION', message, { address: start })
    }
    return new GuestMemory(rest)
  }

  // Scalars, little-endian. All throw MemoryError ERR_MEMORY_INVALID_ADDRESS or ERR_MEMORY_PARTIAL.

  /** A byte. @throws MemoryError ERR_MEMORY_INVALID_ADDRESS */
  readUint8(address: number): number {
    const region = this.regionOf(address, 1)
    if (region === undefined) throw partialError(address, 1, 0)
    return region.view.getUint8(address - region.start)
  }

  /** A little-endian number of 16 bits. @throws MemoryError ERR_MEMORY_INVALID_ADDRESS, ERR_MEMORY_PARTIAL */
  readUint16(address: number): number {
    const region = this.regionOf(address, 2)
    if (region === undefined) return this.#gather(address, 2).getUint16(0, true)
    return region.view.getUint16(address - region.start, true)
  }

  /** A little-endian number of 32 bits. @throws MemoryError ERR_MEMORY_INVALID_ADDRESS, ERR_MEMORY_PARTIAL */
  readUint32(address: number): number {
    const region = this.regionOf(address, 4)
    if (region === undefined) return this.#gather(address, 4).getUint32(0, true)
    return region.view.getUint32(address - region.start, true)
  }

  /**
   * Allocates a bigint: for patterns of 64 bits, such as page-table entries.
   * @throws MemoryError ERR_MEMORY_INVALID_ADDRESS, ERR_MEMORY_PARTIAL
   */
  readUint64(address: number): bigint {
    const region = this.regionOf(address, 8)
    if (region === undefined) return this.#gather(address, 8).getBigUint64(0, true)
    return region.view.getBigUint64(address - region.start, true)
  }

  /**
   * A 64-bit value as a number: for addresses, sizes and sectors.
   * @throws MemoryError ERR_MEMORY_VALUE_TOO_LARGE for 2^53 and above, ERR_MEMORY_INVALID_ADDRESS, ERR_MEMORY_PARTIAL
   */
  readUint64AsNumber(address: number): number {
    const region = this.regionOf(address, 8)
    if (region === undefined) return readNumber(this.#gather(address, 8), 0)
    return readNumber(region.view, address - region.start)
  }

  /** Writes a byte: the low 8 bits. @throws MemoryError ERR_MEMORY_INVALID_ADDRESS */
  writeUint8(address: number, value: number): void {
    const region = this.regionOf(address, 1)
    if (region === undefined) throw partialError(address, 1, 0)
    const offset = address - region.start
    region.view.setUint8(offset, value)
    region.dirty?.mark(offset, 1)
  }

  /** Writes a little-endian number: its low 16 bits. @throws MemoryError ERR_MEMORY_INVALID_ADDRESS, ERR_MEMORY_PARTIAL */
  writeUint16(address: number, value: number): void {
    const region = this.regionOf(address, 2)
    if (region === undefined) {
      scratch.setUint16(0, value, true)
      this.#scatter(address, 2)
      return
    }
    const offset = address - region.start
    region.view.setUint16(offset, value, true)
    region.dirty?.mark(offset, 2)
  }

  /** Writes a little-endian number: its low 32 bits. @throws MemoryError ERR_MEMORY_INVALID_ADDRESS, ERR_MEMORY_PARTIAL */
  writeUint32(address: number, value: number): void {
    const region = this.regionOf(address, 4)
    if (region === undefined) {
      scratch.setUint32(0, value, true)
      this.#scatter(address, 4)
      return
    }
    const offset = address - region.start
    region.view.setUint32(offset, value, true)
    region.dirty?.mark(offset, 4)
  }

  /** Writes a little-endian number: its low 64 bits. @throws MemoryError ERR_MEMORY_INVALID_ADDRESS, ERR_MEMORY_PARTIAL */
  writeUint64(address: number, value: bigint): void {
    const region = this.regionOf(address, 8)
    if (region === undefined) {
      scratch.setBigUint64(0, value, true)
      this.#scatter(address, 8)
      return
    }
    const offset = address - region.start
    region.view.setBigUint64(offset, value, true)
    region.dirty?.mark(offset, 8)
  }

  /**
   * Writes an integer from 0 to 2^53 - 1 as 64 bits.
   * @throws MemoryError ERR_MEMORY_VALUE_TOO_LARGE for another value, ERR_MEMORY_INVALID_ADDRESS, ERR_MEMORY_PARTIAL
   */
  writeUint64AsNumber(address: number, value: number): void {
    const region = this.regionOf(address, 8)
    if (region === undefined) {
      writeNumber(scratch, 0, value)
      this.#scatter(address, 8)
      return
    }
    const offset = address - region.start
    writeNumber(region.view, offset, value)
    region.dirty?.mark(offset, 8)
  }

  #gather(address: number, length: number): DataView {
    this.readSlice(address, scratchBytes[length] as Uint8Array)
    return scratch
  }

  #scatter(address: number, length: number): void {
    this.writeSlice(address, scratchBytes[length] as Uint8Array)
  }

  // Bytes

  /** Copies guest memory into `target` and returns how many bytes there were: fewer where a hole stops it. */
  read(address: number, target: Uint8Array): number {
    const length = target.length
    const region = this.regionOf(address, length)
    if (region !== undefined) {
      copyBytes(target, 0, region.bytes, address - region.start, length)
      return length
    }
    const cursor = new RangeCursor().reset(this, address, length)
    let done = 0
    for (let part = cursor.next(); part !== undefined; part = cursor.next()) {
      copyBytes(target, done, part.bytes, cursor.offset, cursor.length)
      done += cursor.length
    }
    return done
  }

  /**
   * Fills `target` from guest memory.
   * @throws MemoryError ERR_MEMORY_INVALID_ADDRESS, ERR_MEMORY_PARTIAL
   */
  readSlice(address: number, target: Uint8Array): void {
    const done = this.read(address, target)
    if (done !== target.length) throw partialError(address, target.length, done)
  }

  /** Copies `source` into guest memory and returns how many bytes fitted: fewer where a hole stops it. */
  write(address: number, source: Uint8Array): number {
    const length = source.length
    const region = this.regionOf(address, length)
    if (region !== undefined) {
      const offset = address - region.start
      copyBytes(region.bytes, offset, source, 0, length)
      region.dirty?.mark(offset, length)
      return length
    }
    const cursor = new RangeCursor().reset(this, address, length)
    let done = 0
    for (let part = cursor.next(); part !== undefined; part = cursor.next()) {
      copyBytes(part.bytes, cursor.offset, source, done, cursor.length)
      part.dirty?.mark(cursor.offset, cursor.length)
      done += cursor.length
    }
    return done
  }

  /**
   * Writes all of `source`. Where that fails, what fitted has been written.
   * @throws MemoryError ERR_MEMORY_INVALID_ADDRESS, ERR_MEMORY_PARTIAL
   */
  writeSlice(address: number, source: Uint8Array): void {
    const done = this.write(address, source)
    if (done !== source.length) throw partialError(address, source.length, done)
  }

  /**
   * Sets every byte of a range. Nothing is written unless all of the range is memory.
   * @param byte from 0 to 255; default 0
   * @throws MemoryError ERR_MEMORY_INVALID_ADDRESS, ERR_MEMORY_PARTIAL
   */
  fill(address: number, length: number, byte = 0): void {
    this.requireRange(address, length)
    const cursor = new RangeCursor().reset(this, address, length)
    for (let region = cursor.next(); region !== undefined; region = cursor.next()) {
      region.bytes.fill(byte, cursor.offset, cursor.offset + cursor.length)
      region.dirty?.mark(cursor.offset, cursor.length)
    }
  }

  /**
   * Copies within guest memory; the ranges may overlap. Nothing is written unless both are memory.
   * @throws MemoryError ERR_MEMORY_INVALID_ADDRESS, ERR_MEMORY_PARTIAL
   */
  copy(target: number, source: number, length: number): void {
    this.requireRange(target, length)
    this.requireRange(source, length)
    const bounce = new Uint8Array(Math.min(length, BOUNCE_SIZE))
    for (let done = 0; done < length; done += bounce.length) {
      const count = Math.min(length - done, bounce.length)
      // An overlapping target above the source is reached from the end, so that no byte is lost before it moves.
      const at = target > source ? length - done - count : done
      const part = bounce.subarray(0, count)
      this.readSlice(source + at, part)
      this.writeSlice(target + at, part)
    }
  }

  /** The bytes of a range that lies in one region. Who writes to them calls {@link markDirty}. */
  slice(address: number, length: number): Uint8Array | undefined {
    const region = this.regionOf(address, length)
    return region?.bytes.subarray(address - region.start, address - region.start + length)
  }

  /**
   * The bytes of a range, one piece for each region: for cold code, others take a {@link RangeCursor}. Who writes to
   * them calls {@link markDirty}.
   * @throws MemoryError ERR_MEMORY_INVALID_ADDRESS or ERR_MEMORY_PARTIAL at a hole, after the pieces before it
   */
  *slices(address: number, length: number): Generator<Uint8Array, void, undefined> {
    const cursor = new RangeCursor().reset(this, address, length)
    for (let region = cursor.next(); region !== undefined; region = cursor.next()) {
      yield region.bytes.subarray(cursor.offset, cursor.offset + cursor.length)
    }
    if (cursor.remaining !== 0) throw partialError(address, length, length - cursor.remaining)
  }

  /** Notes a write that went around the methods of this class. What is not memory is ignored. */
  markDirty(address: number, length: number): void {
    const cursor = new RangeCursor().reset(this, address, length)
    for (let region = cursor.next(); region !== undefined; region = cursor.next()) {
      region.dirty?.mark(cursor.offset, cursor.length)
    }
  }

  // Files and sockets

  /**
   * Reads from a descriptor straight into guest memory.
   * @param position in the file, in bytes; default the descriptor's own
   * @returns the bytes read: fewer at the end of the file, after a short read, or where a hole stops it
   * @throws the error of fs.readSync
   */
  readFrom(address: number, fd: number, length: number, position?: number): number {
    const cursor = new RangeCursor()
    let done = 0
    while (done < length) {
      const region = cursor.reset(this, address + done, Math.min(length - done, IO_SIZE_MAX)).next()
      if (region === undefined) break
      const at = position === undefined ? null : position + done
      const count = readSync(fd, region.bytes, cursor.offset, cursor.length, at)
      region.dirty?.mark(cursor.offset, count)
      done += count
      if (count !== cursor.length) break
    }
    return done
  }

  /**
   * Writes guest memory to a descriptor without a copy.
   * @param position in the file, in bytes; default the descriptor's own
   * @returns the bytes written: fewer after a short write, or where a hole stops it
   * @throws the error of fs.writeSync
   */
  writeTo(address: number, fd: number, length: number, position?: number): number {
    const cursor = new RangeCursor()
    let done = 0
    while (done < length) {
      const region = cursor.reset(this, address + done, Math.min(length - done, IO_SIZE_MAX)).next()
      if (region === undefined) break
      const at = position === undefined ? null : position + done
      const count = writeSync(fd, region.bytes, cursor.offset, cursor.length, at)
      done += count
      if (count !== cursor.length) break
    }
    return done
  }

  // Atomics: whole, and sequentially consistent

  /** Loads the 16-bit number at a multiple of 2. @throws MemoryError ERR_MEMORY_MISALIGNED, ERR_MEMORY_INVALID_ADDRESS, ERR_MEMORY_PARTIAL */
  atomicLoad16(address: number): number {
    const region = this.#aligned(address, 2)
    return Atomics.load(region.u16, (address - region.start) >>> 1)
  }

  /** Loads the 32-bit number at a multiple of 4. @throws MemoryError ERR_MEMORY_MISALIGNED, ERR_MEMORY_INVALID_ADDRESS, ERR_MEMORY_PARTIAL */
  atomicLoad32(address: number): number {
    const region = this.#aligned(address, 4)
    return Atomics.load(region.u32, (address - region.start) >>> 2)
  }

  /** Loads the 64-bit number at a multiple of 8. @throws MemoryError ERR_MEMORY_MISALIGNED, ERR_MEMORY_INVALID_ADDRESS, ERR_MEMORY_PARTIAL */
  atomicLoad64(address: number): bigint {
    const region = this.#aligned(address, 8)
    return Atomics.load(region.u64, (address - region.start) >>> 3)
  }

  /** Stores a 16-bit number at a multiple of 2. @throws MemoryError ERR_MEMORY_MISALIGNED, ERR_MEMORY_INVALID_ADDRESS, ERR_MEMORY_PARTIAL */
  atomicStore16(address: number, value: number): void {
    const region = this.#aligned(address, 2)
    const offset = address - region.start
    Atomics.store(region.u16, offset >>> 1, value)
    region.dirty?.mark(offset, 2)
  }

  /** Stores a 32-bit number at a multiple of 4. @throws MemoryError ERR_MEMORY_MISALIGNED, ERR_MEMORY_INVALID_ADDRESS, ERR_MEMORY_PARTIAL */
  atomicStore32(address: number, value: number): void {
    const region = this.#aligned(address, 4)
    const offset = address - region.start
    Atomics.store(region.u32, offset >>> 2, value)
    region.dirty?.mark(offset, 4)
  }

  /** Stores a 64-bit number at a multiple of 8. @throws MemoryError ERR_MEMORY_MISALIGNED, ERR_MEMORY_INVALID_ADDRESS, ERR_MEMORY_PARTIAL */
  atomicStore64(address: number, value: bigint): void {
    const region = this.#aligned(address, 8)
    const offset = address - region.start
    Atomics.store(region.u64, offset >>> 3, value)
    region.dirty?.mark(offset, 8)
  }

  /**
   * Stores `replacement` if `expected` is there, in one step.
   * @returns what was there
   * @throws MemoryError ERR_MEMORY_MISALIGNED, ERR_MEMORY_INVALID_ADDRESS, ERR_MEMORY_PARTIAL
   */
  atomicCompareExchange16(address: number, expected: number, replacement: number): number {
    const region = this.#aligned(address, 2)
    const offset = address - region.start
    const found = Atomics.compareExchange(region.u16, offset >>> 1, expected, replacement)
    if (found === expected) region.dirty?.mark(offset, 2)
    return found
  }

  /**
   * Stores `replacement` if `expected` is there, in one step.
   * @returns what was there
   * @throws MemoryError ERR_MEMORY_MISALIGNED, ERR_MEMORY_INVALID_ADDRESS, ERR_MEMORY_PARTIAL
   */
  atomicCompareExchange32(address: number, expected: number, replacement: number): number {
    const region = this.#aligned(address, 4)
    const offset = address - region.start
    const found = Atomics.compareExchange(region.u32, offset >>> 2, expected, replacement)
    if (found === expected) region.dirty?.mark(offset, 4)
    return found
  }

  /**
   * Stores `replacement` if `expected` is there, in one step.
   * @returns what was there
   * @throws MemoryError ERR_MEMORY_MISALIGNED, ERR_MEMORY_INVALID_ADDRESS, ERR_MEMORY_PARTIAL
   */
  atomicCompareExchange64(address: number, expected: bigint, replacement: bigint): bigint {
    const region = this.#aligned(address, 8)
    const offset = address - region.start
    const found = Atomics.compareExchange(region.u64, offset >>> 3, expected, replacement)
    if (found === expected) region.dirty?.mark(offset, 8)
    return found
  }

  #aligned(address: number, size: number): GuestRegion {
    const region = this.regionOf(address, size)
    if (region !== undefined && address % size === 0) return region
    this.requireRange(address, size)
    const message = `a ${8 * size}-bit atomic access at ${hex(address)} is not aligned`
    throw new MemoryError('ERR_MEMORY_MISALIGNED', message, { address })
  }
}
