/** Guest memory over plain ArrayBuffers, which throws on every access outside its regions. */

import { ramRegions } from '../src/boot-layout.ts'
import { type AddressRange, type GuestMemory, ramRanges } from '../src/guest-memory.ts'

export class PlainMemory implements GuestMemory {
  readonly regions: readonly AddressRange[]
  readonly #ranges: readonly AddressRange[]
  readonly #bytes: readonly Uint8Array[]
  /** Calls of `writeSlice` and `fill`. */
  writes = 0

  constructor(regions: readonly AddressRange[]) {
    this.regions = regions
    this.#ranges = ramRanges(this)
    this.#bytes = this.#ranges.map(({ size }) => new Uint8Array(size))
  }

  static ofSize(size: number): PlainMemory {
    return new PlainMemory(ramRegions(size))
  }

  checkRange(address: number, length: number): boolean {
    return this.#find(address, length) !== undefined
  }

  writeSlice(address: number, bytes: Uint8Array): void {
    this.writes++
    this.#range(address, bytes.length).set(bytes)
  }

  fill(address: number, length: number, byte: number): void {
    this.writes++
    this.#range(address, length).fill(byte)
  }

  read(address: number, length: number): Uint8Array {
    return this.#range(address, length).slice()
  }

  view(address: number, length: number): DataView {
    return new DataView(this.read(address, length).buffer)
  }

  #range(address: number, length: number): Uint8Array {
    const range = this.#find(address, length)
    if (range === undefined) throw new RangeError(`${length} bytes at ${address} are not RAM`)
    return range
  }

  #find(address: number, length: number): Uint8Array | undefined {
    const index = this.#ranges.findIndex(
      ({ start, size }) => address >= start && address + length <= start + size,
    )
    const start = this.#ranges[index]?.start ?? 0
    return this.#bytes[index]?.subarray(address - start, address - start + length)
  }
}
