/**
 * Guest memory to attack devices over: shared with another thread, which stands in for a vCPU, and with guard pages around
 * each region that nobody may write.
 */
import type { GuestMemory, GuestRegion } from '@vmm/virtio-queue'

const GUARD_BYTES = 4096
const GUARD = 0xa5

/** Where regions lie: two that are adjacent, so that buffers run on from one into the next, and one above 4 GiB. */
export const REGIONS: readonly { readonly start: number; readonly size: number }[] = [
  { start: 0, size: 0xc_0000 },
  { start: 0xc_0000, size: 0x4_0000 },
  { start: 0x1_0000_0000, size: 0x1_0000 },
]
/** Where the rings end, 64 KiB for each queue from 64 KiB on, and buffers begin; the first two regions meet in them. */
export const BUFFERS = 0xa_0000
/** Where buffers end. */
export const MEMORY_END = 0x10_0000

/** The memory of one region and its guards. */
export interface Allocation {
  readonly buffer: ArrayBufferLike
  /** Of the first byte in this process, where the host side needs one. */
  readonly hostAddress?: bigint
  /** Frees it. */
  close?(): void
}

export class HostileMemory implements GuestMemory {
  readonly regions: readonly GuestRegion[]
  readonly #allocations: readonly Allocation[]

  constructor(
    allocate: (bytes: number) => Allocation = (bytes) => ({ buffer: new SharedArrayBuffer(bytes) }),
  ) {
    const allocations = REGIONS.map(({ size }) => allocate(size + 2 * GUARD_BYTES))
    this.#allocations = allocations
    this.regions = REGIONS.map(({ start, size }, i) => {
      const { buffer, hostAddress } = allocations[i] as Allocation
      new Uint8Array(buffer).fill(GUARD)
      const bytes = new Uint8Array(buffer, GUARD_BYTES, size).fill(0)
      return {
        start,
        size,
        bytes,
        view: new DataView(buffer, GUARD_BYTES, size),
        hostAddress: hostAddress === undefined ? undefined : hostAddress + BigInt(GUARD_BYTES),
      }
    })
  }

  findRegion(address: number): GuestRegion | undefined {
    return this.regions.find(({ start, size }) => address >= start && address < start + size)
  }

  /** Writes as the guest does; what is outside memory goes nowhere. */
  write(address: number, bytes: Uint8Array): void {
    bytes.forEach((byte, i) => {
      const region = this.findRegion(address + i)
      if (region !== undefined) region.bytes[address + i - region.start] = byte
    })
  }

  /** A copy of the bytes of a range; 0 where there is no memory. */
  read(address: number, length: number): Uint8Array {
    return Uint8Array.from({ length }, (_, i) => {
      const region = this.findRegion(address + i)
      return region?.bytes[address + i - region.start] ?? 0
    })
  }

  /** Whether the bytes around every region are as they were. */
  guardsIntact(): boolean {
    return this.#allocations.every(({ buffer }) =>
      [0, buffer.byteLength - GUARD_BYTES].every((at) =>
        new Uint8Array(buffer, at, GUARD_BYTES).every((byte) => byte === GUARD),
      ),
    )
  }

  close(): void {
    for (const allocation of this.#allocations) allocation.close?.()
  }
}
