/**
 * From pages to ranges. A system call for each page would cost more than the pages: neighbours are joined, whichever way the
 * guest lists them, and what is not in guest memory, or not a whole page of the host, is left out.
 */
import type { GuestMemory } from '@vmm/virtio-queue'
import type { BalloonMemory } from './options.ts'
import { VIRTIO_BALLOON_PAGE_SIZE } from './spec.ts'

/** Collects ranges, and discards them. */
export class Discarder {
  /** Bytes that were given back, those that had been before included. */
  bytes = 0
  readonly #target: BalloonMemory
  readonly #memory: GuestMemory
  readonly #pageSize: number
  readonly #failure: (error: unknown) => void
  #start = 0
  #end = 0
  #isFailing = false
  #isOutside = false

  /** @param failure hears of the first of failures in a row: a guest can cause as many as it likes */
  constructor(
    target: BalloonMemory,
    memory: GuestMemory,
    pageSize: number,
    failure: (error: unknown) => void,
  ) {
    this.#target = target
    this.#memory = memory
    this.#pageSize = pageSize
    this.#failure = failure
  }

  /** Adds a range of guest addresses, which need not exist. */
  add(address: number, size: number): void {
    if (address === this.#end) this.#end += size
    else if (address + size === this.#start) this.#start = address
    else {
      this.#flush()
      this.#start = address
      this.#end = address + size
    }
  }

  /**
   * Discards what was added.
   * @returns whether all of it was in guest memory
   */
  finish(): boolean {
    this.#flush()
    const isInside = !this.#isOutside
    this.#isOutside = false
    return isInside
  }

  #flush(): void {
    let at = this.#start
    const end = this.#end
    this.#start = 0
    this.#end = 0
    while (at < end) {
      const region = this.#memory.findRegion(at)
      if (region === undefined) {
        this.#isOutside = true
        at += VIRTIO_BALLOON_PAGE_SIZE
        continue
      }
      const pieceEnd = Math.min(end, region.start + region.size)
      this.#discard(at, pieceEnd)
      at = pieceEnd
    }
  }

  #discard(from: number, to: number): void {
    const size = this.#pageSize
    const start = Math.ceil(from / size) * size
    const length = Math.floor(to / size) * size - start
    if (length <= 0) return
    try {
      this.#target.discard(start, length)
      this.bytes += length
      this.#isFailing = false
    } catch (error) {
      if (!this.#isFailing) this.#failure(error)
      this.#isFailing = true
    }
  }
}
