/**
 * The memory operand of the instruction in flight: a buffer, and the physical pieces that it stands for. All of an operand
 * is translated, checked and read before any of it can be written, so that a fault leaves memory as it was.
 */

import type { UnknownReason } from './completion.ts'
import type { PhysicalMemory } from './context.ts'
import type { Faults } from './faults.ts'
import { PAGE_SIZE, type PageWalker, TRANSLATE_FAULT, TRANSLATE_UNREACHABLE } from './paging.ts'
import { VECTOR_PF } from './vectors.ts'

/** Parts of a structure in memory that an instruction touches, in ascending order; adjoining ones are merged. */
export class Pieces {
  readonly offsets: number[] = []
  readonly sizes: number[] = []

  clear(): void {
    this.offsets.length = 0
    this.sizes.length = 0
  }

  add(offset: number, size: number): void {
    const last = this.offsets.length - 1
    const lastSize = this.sizes[last] ?? 0
    if (last >= 0 && (this.offsets[last] ?? 0) + lastSize === offset) {
      this.sizes[last] = lastSize + size
    } else {
      this.offsets.push(offset)
      this.sizes.push(size)
    }
  }
}

/** Walks again this often when the guest changes its page tables under the walk. */
const MAX_WALKS = 16
const PAGE_MASK = BigInt(PAGE_SIZE - 1)

export class OperandMemory {
  readonly #memory: PhysicalMemory
  readonly #walker: PageWalker
  readonly #faults: Faults
  readonly #absent: UnknownReason
  /** What was read, and what {@link store} writes; offset 0 is the operand's first byte. */
  readonly bytes: Uint8Array
  readonly view: DataView
  /** Room for a list of pieces, for who needs one. */
  readonly pieces: Pieces = new Pieces()
  readonly #single = new Pieces()
  /** Physical chunks of the mapped operand, each within a page. */
  readonly #addresses: number[] = []
  readonly #chunks: Uint8Array[] = []
  #cachedPage = -1n
  #cachedFrame = 0

  /** `absent` is the reason to give up when the operand is not in RAM, `capacity` its greatest size in bytes. */
  constructor(
    memory: PhysicalMemory,
    walker: PageWalker,
    faults: Faults,
    absent: UnknownReason,
    capacity: number,
  ) {
    this.#memory = memory
    this.#absent = absent
    this.#walker = walker
    this.#faults = faults
    this.bytes = new Uint8Array(capacity)
    this.view = new DataView(this.bytes.buffer)
  }

  /** Maps and reads `size` bytes; false with a fault raised. `access` as for {@link PageWalker.translate}. */
  map(linear: bigint, size: number, access: number): boolean {
    this.#single.clear()
    this.#single.add(0, size)
    return this.mapPieces(linear, this.#single, access)
  }

  /** Maps and reads parts of a structure at `linear`. Those not mentioned keep what the buffer holds. */
  mapPieces(linear: bigint, pieces: Pieces, access: number): boolean {
    for (let walks = 0; walks < MAX_WALKS; walks++) {
      if (!this.#translate(linear, pieces, access) || !this.#load()) return false
      if (this.#walker.commit()) return true
    }
    return this.#faults.giveUp('contended')
  }

  /** Raises the fault that an access to the byte at `linear` would, and does nothing else. */
  probe(linear: bigint, access: number): boolean {
    this.#cachedPage = -1n
    const isGood = this.#findFrame(linear, access)
    this.#walker.discard()
    return isGood
  }

  /** Writes the buffer's mapped parts to memory. */
  store(): boolean {
    for (let i = 0; i < this.#addresses.length; i++) {
      if (!this.#memory.write(this.#addresses[i] ?? 0, this.#chunks[i] ?? this.bytes)) {
        return this.#faults.giveUp(this.#absent)
      }
    }
    return true
  }

  /**
   * Writes `replacement` if memory still holds what was read into the buffer: in one atomic step if the operand lies in one
   * page and the memory can. False, without a fault, if it held something else.
   */
  compareAndStore(replacement: Uint8Array): boolean {
    const expected = this.#chunks[0]
    if (this.#memory.compareExchange !== undefined && expected !== undefined && this.#chunks.length === 1) {
      return this.#memory.compareExchange(this.#addresses[0] ?? 0, expected, replacement)
    }
    this.bytes.set(replacement)
    return this.store()
  }

  /** Reads the mapped operand again. */
  reload(): boolean {
    return this.#load()
  }

  #translate(linear: bigint, pieces: Pieces, access: number): boolean {
    this.#addresses.length = 0
    this.#chunks.length = 0
    this.#cachedPage = -1n
    for (let i = 0; i < pieces.offsets.length; i++) {
      let offset = pieces.offsets[i] ?? 0
      let left = pieces.sizes[i] ?? 0
      while (left > 0) {
        const at = BigInt.asUintN(64, linear + BigInt(offset))
        const inPage = Number(at & PAGE_MASK)
        const size = Math.min(left, PAGE_SIZE - inPage)
        if (!this.#findFrame(at, access)) return false
        this.#addresses.push(this.#cachedFrame + inPage)
        this.#chunks.push(this.bytes.subarray(offset, offset + size))
        offset += size
        left -= size
      }
    }
    return true
  }

  #findFrame(at: bigint, access: number): boolean {
    const page = at & ~PAGE_MASK
    if (page === this.#cachedPage) return true
    const physical = this.#walker.translate(at, access)
    if (physical === TRANSLATE_FAULT) return this.#faults.raise(VECTOR_PF, this.#walker.errorCode, at)
    if (physical === TRANSLATE_UNREACHABLE) return this.#faults.giveUp('page-table')
    this.#cachedPage = page
    this.#cachedFrame = physical - (physical % PAGE_SIZE)
    return true
  }

  #load(): boolean {
    for (let i = 0; i < this.#addresses.length; i++) {
      if (!this.#memory.read(this.#addresses[i] ?? 0, this.#chunks[i] ?? this.bytes)) {
        return this.#faults.giveUp(this.#absent)
      }
    }
    return true
  }
}
