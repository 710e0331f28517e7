/**
 * A position in the readable or the writable bytes of a chain, whatever descriptors they are cut into: devices must
 * not make assumptions about framing (2.7.4.1). What is common to `Reader` and `Writer`.
 *
 * Nothing here throws for what a guest can cause. A cursor that is asked for more than there is, or meets memory
 * that does not exist, sets `failed` and goes on giving zeros: parse all of a header, then ask once.
 */
import type { DescriptorChain } from './chain.ts'
import type { GuestRegion } from './guest-memory.ts'
import { smallInteger, UNMAPPED } from './guest-memory.ts'

/** Copies up to this length go byte by byte, without allocating a view. Tuned with bench/virtio-queue.mjs, Node 20.20. */
export const LOOP_COPY_MAX = 64

/** A position in one half of a chain: {@link Reader} or {@link Writer}. */
export class ChainCursor {
  /** Whether anything was asked for that the chain does not have. Stays true until the cursor is attached again. */
  failed = false
  /** Offset in `pieceRegion` of the piece that {@link takePiece} gave, in bytes. */
  pieceOffset = 0

  /** Where the current piece lies: the next byte is at `at`, the last before `end`. */
  protected region: GuestRegion = UNMAPPED
  protected at = 0
  protected end = 0
  /** Bytes after the current piece, those of a hole included. */
  #rest = 0
  /** Bytes to the end of the hole that the cursor stands before. */
  #hole = 0
  #total = 0
  #next = 0
  #chain: DescriptorChain | undefined

  /** Region of the piece that {@link takePiece} gave last. Good until the cursor is used again. */
  get pieceRegion(): GuestRegion {
    return this.region
  }

  /** Bytes from here to the end. */
  get available(): number {
    return this.end - this.at + this.#rest
  }

  /** Bytes from the beginning to here. */
  get consumed(): number {
    return this.#total - this.available
  }

  /**
   * Moves on.
   * @param length in bytes
   * @returns false, and fails without moving, where fewer are available
   */
  skip(length: number): boolean {
    if (!(length >= 0 && length <= this.available)) return this.fail()
    let left = length
    while (left > 0) {
      const piece = Math.min(left, this.end - this.at)
      this.at += piece
      left -= piece
      if (left === 0) break
      if (this.#hole === 0) this.load()
      const hole = Math.min(left, this.#hole)
      this.#hole -= hole
      this.#rest -= hole
      left -= hole
    }
    return true
  }

  /**
   * Takes bytes that lie together in memory, for those who move them themselves (iovecs): they are at `pieceOffset`
   * in `pieceRegion`. Nothing is noted as written: see `DescriptorChain.markWritten`.
   * @param limit the most to take, in bytes; default all
   * @returns how many were taken; 0 at the end, and at memory that does not exist, which fails
   */
  takePiece(limit: number = Number.POSITIVE_INFINITY): number {
    if (!(limit > 0)) return 0
    if (this.at === this.end && !this.load()) {
      if (this.#rest > 0) this.fail()
      return 0
    }
    const length = Math.min(limit, this.end - this.at)
    this.pieceOffset = this.at
    this.at += length
    return length
  }

  /**
   * Cuts the bytes from here on in two: this cursor keeps the first `length`, `tail` is put at what follows.
   * @param tail another cursor of the same kind, which loses what it had
   * @returns false, and fails with nothing changed, where fewer bytes are available
   */
  splitAt(length: number, tail: this): boolean {
    if (!(length >= 0 && length <= this.available)) return this.fail()
    tail.copy(this)
    tail.skip(length)
    tail.#total = tail.available
    this.#total -= tail.#total
    this.end = Math.min(this.end, this.at + length)
    this.#rest = length - (this.end - this.at)
    return true
  }

  /** Starts over, at a segment of a chain. */
  protected start(chain: DescriptorChain, segment: number, bytes: number): this {
    if (this.#chain !== chain) this.#chain = chain
    this.#next = segment
    this.#total = bytes
    this.#rest = bytes
    this.#hole = 0
    this.at = 0
    this.end = 0
    this.failed = false
    if (bytes > 0) this.load()
    return this
  }

  /** Goes to the next piece. Only where the current one is at its end. False at the end and at a hole. */
  protected load(): boolean {
    const chain = this.#chain
    if (chain === undefined || this.#rest === 0 || this.#hole > 0) return false
    const i = this.#next
    const length = Math.min(chain.lengths[i] as number, this.#rest)
    const region = chain.regions[i] as GuestRegion
    this.#next = i + 1
    if (region === UNMAPPED) {
      this.#hole = length
      return false
    }
    if (this.region !== region) this.region = region
    this.at = smallInteger(chain.offsets[i] as number)
    this.end = this.at + length
    this.#rest -= length
    return true
  }

  /** Always false. */
  protected fail(): false {
    this.failed = true
    return false
  }

  private copy(from: this): void {
    this.#chain = from.#chain
    this.#next = from.#next
    this.#total = from.#total
    this.#rest = from.#rest
    this.#hole = from.#hole
    this.region = from.region
    this.at = from.at
    this.end = from.end
    this.failed = false
  }
}
