/**
 * The pages of a memory slot, a bit each: what KVM_GET_DIRTY_LOG fills and KVM_CLEAR_DIRTY_LOG takes.
 */
import { addressOf } from '@vmm/sys-util'

const PAGE_SIZE = 4096
const WORD_BITS = 32
/** KVM writes whole words of 64 bits. */
const KERNEL_WORD_BITS = 64

/** A bitmap of pages, to be made once for a slot and filled again and again. */
export class DirtyBitmap {
  /** How many pages it is for. */
  readonly pages: number
  /** The bits, page 0 in bit 0 of the first word. */
  readonly words: Uint32Array<ArrayBuffer>

  /** @param size of the slot in bytes */
  constructor(size: number) {
    this.pages = Math.ceil(size / PAGE_SIZE)
    const words = Math.ceil(this.pages / KERNEL_WORD_BITS) * (KERNEL_WORD_BITS / WORD_BITS)
    this.words = new Uint32Array(words)
  }

  /** Where the bits are in this process. */
  get address(): bigint {
    return addressOf(this.words)
  }

  /** Whether a page is marked. */
  has(page: number): boolean {
    const word = this.words[Math.floor(page / WORD_BITS)] ?? 0
    return (word & (1 << (page % WORD_BITS))) !== 0
  }

  /** Marks a page. */
  add(page: number): void {
    const index = Math.floor(page / WORD_BITS)
    this.words[index] = (this.words[index] ?? 0) | (1 << (page % WORD_BITS))
  }

  /** Calls back for every marked page, in order, without looking at the others one by one. */
  forEach(callback: (page: number) => void): void {
    const { words } = this
    for (let index = 0; index < words.length; index++) {
      let word = words[index] ?? 0
      while (word !== 0) {
        const lowest = word & -word
        callback(index * WORD_BITS + (WORD_BITS - 1 - Math.clz32(lowest)))
        word ^= lowest
      }
    }
  }

  /** How many pages are marked. */
  get count(): number {
    let count = 0
    this.forEach(() => {
      count++
    })
    return count
  }
}
