/** Guest memory, as a VM needs it: that of `@vmm/vm-memory/mmap` and `/on-demand`, or what does as much. */
import type { GuestMemory } from '@vmm/vm-memory'

/** Memory that the VM takes over. */
export interface VmRam {
  /** Mapped: each region has a host address. */
  readonly memory: GuestMemory
  /** Whether {@link discard} leaves zeros. */
  readonly discardsToZero: boolean
  /** Resolves when contents of the memory are lost, which ends the VM as `failed`; default never. */
  readonly failed?: Promise<Error> | undefined
  /**
   * Gives pages back to the host.
   * @param size in bytes; `address` and `size` are whole pages
   */
  discard(address: number, size: number): void
  /** Unmaps the memory. Idempotent. */
  close(): void
}
