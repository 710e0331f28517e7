/**
 * Guest memory for tests: plain buffers with guards around them, and a record of every byte noted as written.
 */
import type { DirtyTracker, GuestMemory, GuestRegion } from '../guest-memory.ts'

const GUARD_BYTES = 64
const GUARD = 0xa5

/** A range of guest addresses. */
export interface MockRange {
  /** Guest address of the first byte, a multiple of 16. */
  readonly start: number
  /** In bytes. */
  readonly size: number
}

class ByteTracker implements DirtyTracker {
  readonly marks: Uint8Array

  constructor(size: number) {
    this.marks = new Uint8Array(size)
  }

  mark(offset: number, length: number): void {
    if (offset < 0 || offset + length > this.marks.length) {
      throw new RangeError(`mark of ${length} bytes at ${offset} in a region of ${this.marks.length} bytes`)
    }
    this.marks.fill(1, offset, offset + length)
  }
}

/** Memory of one or several ranges. Ranges may be adjacent: a buffer over both is then in two regions. */
export class MockMemory implements GuestMemory {
  readonly regions: readonly GuestRegion[]
  readonly #trackers: readonly ByteTracker[]
  readonly #buffers: readonly Uint8Array[]

  /**
   * @param ranges disjoint; default one of 64 KiB at 0
   * @param options.trackDirty whether regions have a tracker; default true
   */
  constructor(
    ranges: readonly MockRange[] = [{ start: 0, size: 0x1_0000 }],
    options: { readonly trackDirty?: boolean } = {},
  ) {
    const { trackDirty = true } = options
    this.#trackers = ranges.map(({ size }) => new ByteTracker(size))
    this.#buffers = ranges.map(({ size }) => new Uint8Array(size + 2 * GUARD_BYTES).fill(GUARD))
    this.regions = ranges.map(({ start, size }, i) => {
      const { buffer } = this.#buffers[i] as Uint8Array
      const bytes = new Uint8Array(buffer, GUARD_BYTES, size).fill(0)
      const view = new DataView(buffer, GUARD_BYTES, size)
      return {
        start,
        size,
        bytes,
        view,
        dirty: trackDirty ? this.#trackers[i] : undefined,
        hostAddress: undefined,
      }
    })
  }

  findRegion(address: number): GuestRegion | undefined {
    return this.regions.find(({ start, size }) => address >= start && address < start + size)
  }

  /** A copy of the bytes of a range, which may lie in several regions. Throws where there is no memory. */
  read(address: number, length: number): Uint8Array {
    const copy = new Uint8Array(length)
    for (let i = 0; i < length; i += 1) copy[i] = locate(this, address + i).view.getUint8(0)
    return copy
  }

  /** Writes bytes as the guest would: nothing is noted. Throws where there is no memory. */
  write(address: number, bytes: Uint8Array): void {
    bytes.forEach((byte, i) => {
      locate(this, address + i).view.setUint8(0, byte)
    })
  }

  /** Whether every byte of a range has been noted as written; a range without memory has not. */
  isDirty(address: number, length: number): boolean {
    for (let i = 0; i < length; i += 1) {
      const at = this.regions.findIndex(
        ({ start, size }) => address + i >= start && address + i < start + size,
      )
      if (at < 0 || this.#trackers[at]?.marks[address + i - (this.regions[at] as GuestRegion).start] !== 1) {
        return false
      }
    }
    return true
  }

  /** Forgets what has been noted. */
  clearDirty(): void {
    for (const { marks } of this.#trackers) marks.fill(0)
  }

  /** Whether the bytes around every region are as they were. */
  guardsIntact(): boolean {
    return this.#buffers.every((buffer) =>
      [buffer.subarray(0, GUARD_BYTES), buffer.subarray(buffer.length - GUARD_BYTES)].every((guard) =>
        guard.every((byte) => byte === GUARD),
      ),
    )
  }
}

/** A place in guest memory. */
export interface Place {
  /** From the address to the end of its region. */
  readonly view: DataView
  /** The same, for 16-bit atomics. */
  readonly u16: Uint16Array
}

/** The memory at an address that the test, not the guest, chose. Throws a RangeError where there is none. */
export function locate(memory: GuestMemory, address: number): Place {
  const region = memory.findRegion(address)
  if (region === undefined) throw new RangeError(`no memory at 0x${address.toString(16)}`)
  const { buffer, byteOffset, byteLength } = region.view
  const offset = address - region.start
  const at = byteOffset + offset
  const left = byteLength - offset
  return {
    view: new DataView(buffer, at, left),
    u16: at % 2 === 0 ? new Uint16Array(buffer, at, Math.floor(left / 2)) : new Uint16Array(0),
  }
}
