/**
 * Reads the device-readable bytes of a chain.
 */
import type { DescriptorChain } from './chain.ts'
import { ChainCursor, LOOP_COPY_MAX } from './cursor.ts'

/**
 * A cursor over what the driver has written for the device. Scalars are little-endian and may be shattered over any
 * number of descriptors. Each byte is read once: copy, then judge, since the guest may change it at any time.
 */
export class Reader extends ChainCursor {
  /** Puts the reader at the first readable byte of a chain. Good until the chain is popped into again. */
  attach(chain: DescriptorChain): this {
    return this.start(chain, 0, chain.readableBytes)
  }

  /** The next byte; 0, and fails, where there is none. */
  readUint8(): number {
    if (this.at === this.end && !this.load()) {
      this.fail()
      return 0
    }
    const value = this.region.view.getUint8(this.at)
    this.at += 1
    return value
  }

  /** The next 2 bytes as a number; 0, and fails, where there are fewer. */
  readUint16(): number {
    const { at } = this
    if (at + 2 > this.end) return this.#shattered(2)
    this.at = at + 2
    return this.region.view.getUint16(at, true)
  }

  /** The next 4 bytes as a number; 0, and fails, where there are fewer. */
  readUint32(): number {
    const { at } = this
    if (at + 4 > this.end) return this.#shattered(4)
    this.at = at + 4
    return this.region.view.getUint32(at, true)
  }

  /**
   * The next 8 bytes as a number; 0, and fails, where there are fewer. `Infinity`, which is above every limit, for
   * 2^53 and above: such a value is never rounded to one that passes.
   */
  readUint64(): number {
    const low = this.readUint32()
    const high = this.readUint32()
    return high > 0x1f_ffff ? Number.POSITIVE_INFINITY : high * 2 ** 32 + low
  }

  /**
   * Copies bytes out, as many as there are. Up to 64 bytes a piece this allocates nothing, above it a view.
   * @param target where to
   * @param offset where in `target`; default 0
   * @param length how many; default as many as `target` has from `offset` on
   * @returns how many were copied; fewer than asked at the end (no failure), or at memory that does not exist (one)
   */
  read(target: Uint8Array, offset = 0, length: number = target.length - offset): number {
    const wanted = Math.min(length, target.length - offset)
    let done = 0
    while (done < wanted) {
      const piece = this.takePiece(wanted - done)
      if (piece === 0) break
      const { bytes } = this.pieceRegion
      const from = this.pieceOffset
      const to = offset + done
      if (piece <= LOOP_COPY_MAX) {
        for (let i = 0; i < piece; i += 1) target[to + i] = bytes[from + i] as number
      } else {
        target.set(bytes.subarray(from, from + piece), to)
      }
      done += piece
    }
    return done
  }

  /** As {@link read}, all or failure: false where the chain has fewer bytes than asked. */
  readFull(target: Uint8Array, offset = 0, length: number = target.length - offset): boolean {
    if (length > this.available) return this.fail()
    return this.read(target, offset, length) === length || this.fail()
  }

  #shattered(size: number): number {
    if (size > this.available) {
      this.fail()
      return 0
    }
    let value = 0
    for (let i = 0; i < size; i += 1) value += this.readUint8() * 2 ** (8 * i)
    return this.failed ? 0 : value
  }
}
