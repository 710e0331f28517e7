/**
 * Writes the device-writable bytes of a chain.
 */
import type { DescriptorChain } from './chain.ts'
import { ChainCursor, LOOP_COPY_MAX } from './cursor.ts'

/**
 * A cursor over what the device may write. Scalars are little-endian and may be shattered over any number of
 * descriptors. What is written is noted where the memory tracks dirty pages.
 */
export class Writer extends ChainCursor {
  /** Puts the writer at the first writable byte of a chain. Good until the chain is popped into again. */
  attach(chain: DescriptorChain): this {
    return this.start(chain, chain.readableCount, chain.writableBytes)
  }

  /** Writes a byte. False, and fails, where there is no room. */
  writeUint8(value: number): boolean {
    if (this.at === this.end && !this.load()) return this.fail()
    this.region.view.setUint8(this.at, value)
    this.#wrote(1)
    return true
  }

  /** Writes 2 bytes. False, and fails, where there is no room for both. */
  writeUint16(value: number): boolean {
    if (this.at + 2 > this.end) return this.#shattered(2, value)
    this.region.view.setUint16(this.at, value, true)
    this.#wrote(2)
    return true
  }

  /** Writes 4 bytes. False, and fails, where there is no room for all. */
  writeUint32(value: number): boolean {
    if (this.at + 4 > this.end) return this.#shattered(4, value)
    this.region.view.setUint32(this.at, value, true)
    this.#wrote(4)
    return true
  }

  /**
   * Writes 8 bytes. False, and fails, where there is no room for all.
   * @param value an integer from 0 to 2^53 - 1
   */
  writeUint64(value: number): boolean {
    if (this.available < 8) return this.fail()
    return this.writeUint32(value >>> 0) && this.writeUint32(Math.floor(value / 2 ** 32))
  }

  /**
   * Copies bytes in, as many as there is room for. Up to 64 bytes a piece this allocates nothing, above it a view.
   * @param source where from
   * @param offset where in `source`; default 0
   * @param length how many; default all from `offset` on
   * @returns how many were copied; fewer than asked at the end (no failure), or at memory that does not exist (one)
   */
  write(source: Uint8Array, offset = 0, length: number = source.length - offset): number {
    const wanted = Math.min(length, source.length - offset)
    let done = 0
    while (done < wanted) {
      const piece = this.takePiece(wanted - done)
      if (piece === 0) break
      const { bytes } = this.pieceRegion
      const from = offset + done
      const to = this.pieceOffset
      if (piece <= LOOP_COPY_MAX) {
        for (let i = 0; i < piece; i += 1) bytes[to + i] = source[from + i] as number
      } else if (piece === source.length) {
        bytes.set(source, to)
      } else {
        bytes.set(source.subarray(from, from + piece), to)
      }
      this.#note(to, piece)
      done += piece
    }
    return done
  }

  /** As {@link write}, all or failure: false, with nothing written, where there is no room for everything. */
  writeFull(source: Uint8Array, offset = 0, length: number = source.length - offset): boolean {
    if (length > this.available) return this.fail()
    return this.write(source, offset, length) === length || this.fail()
  }

  /**
   * Writes one byte over and over, as often as there is room for.
   * @returns how many were written; fewer than asked at the end (no failure), or at memory that does not exist (one)
   */
  fill(value: number, length: number): number {
    let done = 0
    while (done < length) {
      const piece = this.takePiece(length - done)
      if (piece === 0) break
      this.pieceRegion.bytes.fill(value, this.pieceOffset, this.pieceOffset + piece)
      this.#note(this.pieceOffset, piece)
      done += piece
    }
    return done
  }

  #wrote(size: number): void {
    const { dirty } = this.region
    if (dirty !== undefined) dirty.mark(this.at, size)
    this.at += size
  }

  #note(offset: number, length: number): void {
    const { dirty } = this.pieceRegion
    if (dirty !== undefined) dirty.mark(offset, length)
  }

  #shattered(size: number, value: number): boolean {
    if (size > this.available) return this.fail()
    for (let i = 0; i < size; i += 1) {
      if (!this.writeUint8((value >>> (8 * i)) & 0xff)) return false
    }
    return true
  }
}
