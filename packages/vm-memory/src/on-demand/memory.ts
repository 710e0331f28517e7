/**
 * Guest memory on demand, as its owner sees it.
 */
import type { MemoryError } from '../errors.ts'
import { GuestMemory } from '../memory.ts'
import { MappedMemory } from '../mmap.ts'
import type { MemoryRange } from '../range.ts'
import type { HostRange } from './protocol.ts'

/** What of it can be chosen. */
export interface OnDemandOptions {
  /** Whether writes by this process are noted in a `DirtyBitmap` of 4 KiB pages; default false. */
  readonly trackDirty?: boolean
}

/**
 * Guest memory whose pages come when they are touched: made by `PageServer.map`. It takes the place of a `MappedMemory`.
 *
 * When pages cannot be had, {@link failed} resolves, and all that are missing are zeros from then on: end the VM.
 */
export class OnDemandMemory implements Disposable {
  /** The memory of all ranges. Its regions are marked `onDemand`. */
  readonly memory: GuestMemory
  /** Pages that are given back are zeros, not what they were at first. */
  readonly discardsToZero = true
  /** Resolves when a page could not be had: ERR_MEMORY_PAGE_PROVIDER, and `address` says where. Never rejects. */
  readonly failed: Promise<MemoryError>
  readonly #mapped: MappedMemory
  #fail: (error: MemoryError) => void = () => {}
  #failure: MemoryError | undefined
  #stopServing: () => void = () => {}

  /** @internal */
  constructor(ranges: readonly MemoryRange[], options: OnDemandOptions) {
    const mapped = MappedMemory.anonymous(ranges, options)
    this.#mapped = mapped
    this.memory = GuestMemory.fromRegions(
      mapped.memory.regions.map((region) => region.with({ onDemand: true, failure: () => this.#failure })),
    )
    this.failed = new Promise((resolve) => {
      this.#fail = resolve
    })
  }

  /** What {@link failed} has resolved to. */
  get failure(): MemoryError | undefined {
    return this.#failure
  }

  /**
   * Gives the pages of a range back to the host, as a balloon does. They read as zero afterwards, and count as written.
   * @param length in bytes; `address` and `length` are multiples of the page size
   * @throws MemoryError ERR_MEMORY_INVALID_ADDRESS, ERR_MEMORY_PARTIAL; SystemError of madvise(2): EINVAL for a range
   * that is no whole pages
   */
  discard(address: number, length: number): void {
    this.#mapped.discard(address, length)
  }

  /** Whether {@link close} has been called. */
  get closed(): boolean {
    return this.#mapped.closed
  }

  /** Cuts off every view, and unmaps the memory. Idempotent. */
  close(): void {
    if (this.closed) return
    // First: a page on its way would else be put into what is mapped at its address next.
    this.#stopServing()
    this.#mapped.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  /** @internal Where the memory is in this process. */
  hostRanges(): HostRange[] {
    return this.memory.regions.map(({ start, size, hostAddress = 0n }) => {
      return { start, size, address: Number(hostAddress) }
    })
  }

  /** @internal @param stop ends the serving of faults, before it returns */
  servedUntil(stop: () => void): void {
    this.#stopServing = stop
  }

  /** @internal Pages cannot be had. */
  fail(error: MemoryError): void {
    this.#failure ??= error
    this.#fail(error)
  }
}
