/**
 * Buffers of the disk's own, for data that cannot go between the file and guest memory at once: where O_DIRECT asks for an
 * alignment that the guest's memory has not, and where a thread is at it, that nobody can call back.
 */
import { Mapping } from '@vmm/sys-util'

/** The most that goes through a buffer at a time, in bytes. */
export const BOUNCE_BYTES = 0x4_0000

/** One of them. Aligned to a page. */
export interface Bounce {
  /** In this process. */
  readonly address: number
  readonly bytes: Uint8Array
}

/** As many as there may be. The memory is taken when it is first used. */
export class BouncePool {
  readonly #count: number
  #mapping: Mapping | undefined
  readonly #free: Bounce[] = []

  constructor(count: number) {
    this.#count = count
  }

  /** @returns undefined where all are in use */
  take(): Bounce | undefined {
    if (this.#mapping === undefined) this.#map()
    return this.#free.pop()
  }

  /** Gives one back. */
  give(bounce: Bounce): void {
    this.#free.push(bounce)
  }

  /** Nothing may use them any more. Idempotent. */
  close(): void {
    this.#mapping?.close()
  }

  #map(): void {
    const mapping = new Mapping({ size: this.#count * BOUNCE_BYTES })
    this.#mapping = mapping
    const address = Number(mapping.address)
    const view = mapping.view()
    for (let at = 0; at < mapping.size; at += BOUNCE_BYTES) {
      this.#free.push({ address: address + at, bytes: new Uint8Array(view, at, BOUNCE_BYTES) })
    }
  }
}
