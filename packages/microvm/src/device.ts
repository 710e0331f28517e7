/**
 * How devices come into a VM: a function for each, called while the VM is made.
 */
import type { GuestMemory } from '@vmm/vm-memory'
import type { VirtioBus } from './virtio-bus.ts'

/** The VM, as its devices see it while it is made. */
export interface DeviceHost {
  /** The guest's RAM. */
  readonly memory: GuestMemory
  /** Whether {@link discard} leaves zeros. */
  readonly discardsToZero: boolean
  /**
   * Gives pages of guest memory back to the host: what a balloon asks for.
   * @param size in bytes; `address` and `size` are whole pages
   */
  discard(address: number, size: number): void
  /** Where virtio devices are put. */
  readonly virtio: VirtioBus
  /** Takes what is to be closed when the VM is: last taken, first closed. */
  own<T extends { close(): void }>(owner: T): T
  /** Takes what is to be waited for when the guest has ended, before anything is closed: output that is on its way. */
  beforeClose(settle: () => Promise<void>): void
  /** Reports, in a sentence, what the guest sees as an error of the device: `MicroVmEvents.warning`. */
  warn(message: string): void
}

/**
 * Makes a device and puts it into the VM. What it throws ends the making of the VM, and whatever was made is closed.
 *
 * @example
 * ```ts
 * const entropy: AttachDevice = (host) => host.virtio.attach(new Rng())
 * ```
 */
export type AttachDevice = (host: DeviceHost) => void | Promise<void>
