/** What a virtio transport tells its VMM: counters to look at, and events for what should not happen. */
import type { VirtioFault } from './device.ts'

/** Every method is optional. They run inside the guest's access or the device's work: take note and return. */
export interface VirtioEvents {
  /**
   * The driver did something wrong. A guest can cause as many as it likes: nothing is buffered, and `fault` is one
   * of a fixed set of objects.
   * @param queue index, or -1 where no queue is concerned
   */
  guestFault?(fault: VirtioFault, queue: number): void
  /** The host's side of the device failed. */
  hostFailure?(error: unknown): void
  /** DEVICE_NEEDS_RESET was set: the device does nothing until the driver resets it. */
  needsReset?(): void
}

/** Counts since the transport was made, not saved. Plain properties; the transport alone writes them. */
export interface VirtioCounters {
  /** Notifications of available buffers, doorbells included. */
  readonly notifications: number
  /** Notifications of used buffers that were sent. */
  readonly queueInterrupts: number
  /** Notifications of configuration changes that were sent. */
  readonly configInterrupts: number
  /** Resets of the device by the driver. */
  readonly resets: number
  /** Faults of the driver in queues and requests. */
  readonly faults: number
  /** Failures of the host's side. */
  readonly hostFailures: number
  /** Accesses and notifications that the driver may not make, and that were ignored. */
  readonly ignored: number
}

/** @internal */
export type MutableCounters = { -readonly [K in keyof VirtioCounters]: VirtioCounters[K] }

/** @internal */
export function newCounters(): MutableCounters {
  return {
    notifications: 0,
    queueInterrupts: 0,
    configInterrupts: 0,
    resets: 0,
    faults: 0,
    hostFailures: 0,
    ignored: 0,
  }
}
