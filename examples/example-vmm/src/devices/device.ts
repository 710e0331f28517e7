/**
 * What the file of a device gives the machine, and what it gets of it.
 */
import type { VirtioBus } from './virtio-bus.ts'

/** The machine, as its devices see it while it is made. */
export interface DeviceHost {
  /** Where virtio devices are put. */
  readonly virtio: VirtioBus
  /** Takes what is to be closed when the VM is: last taken, first closed. */
  own<T extends { close(): void }>(owner: T): T
  /** Takes what is to be waited for when the vCPUs have stopped, before anything is closed. */
  beforeClose(settle: () => Promise<void>): void
  /** Tells the user of something that the guest sees as an error of the device. */
  warn(message: string): void
}

/**
 * Makes a device and puts it into the machine. Devices are made in the order in which they are listed; that is the
 * order in which the guest finds them.
 * @throws UsageError and the errors of packages, where it can't be made
 */
export type AttachDevice = (host: DeviceHost) => void | Promise<void>
