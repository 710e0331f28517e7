/**
 * The two interfaces that a virtio device and its transport see of each other. A device is written once, against these,
 * and put behind any transport: virtio-mmio here, another one elsewhere (virtio 1.2, section 2).
 *
 * The transport has the status machine, the negotiation of features, the queues' registers, notifications and
 * interrupts. A device has its configuration space and what it does with the chains of its queues.
 */
import type { GuestMemory, Virtqueue } from '@vmm/virtio-queue'
import type { Polling } from './poller.ts'

/** Memory that a device shares with the driver besides the queues (2.10). Where it lies is the VMM's choice. */
export interface SharedMemoryRegion {
  /** 0 to 255; the device's type says what each is. */
  readonly id: number
  /** Guest address, below 2^53. */
  readonly address: number
  /** In bytes. */
  readonly size: number
}

/** What a driver did wrong. A `VirtqueueFault` is one. */
export interface VirtioFault {
  /** The stable name, for programs. */
  readonly code: string
  /** Whether the device is of no use until it is reset: DEVICE_NEEDS_RESET is set (2.1.2). */
  readonly needsReset: boolean
  /** One sentence. */
  readonly message: string
}

/** What a device sees of its transport. No method throws, whatever state the device is in. */
export interface VirtioTransport {
  /** The guest's memory. */
  readonly memory: GuestMemory
  /** Features 0 to 31 that were negotiated; 0 before the device is in use. */
  readonly featuresLow: number
  /** Features 32 to 63 that were negotiated. */
  readonly featuresHigh: number
  /** Whether chains may be taken: DRIVER_OK is set, DEVICE_NEEDS_RESET and FAILED are not, and nobody has paused it. */
  readonly running: boolean

  /**
   * A queue in use, undefined for others. Every use has an object of its own: what was popped belongs to a queue that
   * was reset meanwhile where this returns another object than at the time.
   */
  queue(index: number): Virtqueue | undefined

  /** Sends a used buffer notification. Ask `Virtqueue.needsNotification` first. */
  interruptQueue(index: number): void

  /**
   * Shows the driver what the device has changed in its `config`, with a new generation (2.5), and tells it by a
   * configuration change notification if it is there to listen.
   */
  configChanged(): void

  /** Counts and reports a fault of the driver, and sets DEVICE_NEEDS_RESET where the fault asks for it. */
  fault(fault: VirtioFault, queue: number): void

  /**
   * Reports a failure of the host's side. It reaches the guest as the device's own error status, where it has one.
   * @param needsReset whether the device cannot go on; default false
   */
  hostFailure(error: unknown, needsReset?: boolean): void

  /** How queues are looked at before their driver is asked for notifications again; undefined: they are not. */
  readonly polling?: Polling | undefined

  /** Runs something in a later turn of the event loop, for work that would take too much of this one. */
  defer(callback: () => void): void
}

/**
 * A virtio device. Its methods are called on one thread, by one transport. None may throw for anything that a guest can
 * cause; an exception is a bug of the device and goes to whoever called the transport.
 */
export interface VirtioDevice {
  /** The device type of section 5: `VIRTIO_ID_…`. */
  readonly type: number
  /** What the device offers of bits 0 to 23. Bits of queues and transport (24 to 49) are the transport's. */
  readonly featuresLow: number
  /** What the device offers of bits 50 to 63, as bits 18 to 31 of this word. */
  readonly featuresHigh: number
  /** The most entries of each queue: powers of two up to 32768. */
  readonly queueSizes: readonly number[]
  /**
   * The configuration space, little-endian, up to 3840 bytes, always the same array. The transport copies it: call
   * {@link VirtioTransport.configChanged} after a change.
   */
  readonly config: Uint8Array
  /** Whether {@link writeConfig} is called at any time; default false: not before there is a driver, as 2.5 has it. */
  readonly configAlwaysWritable?: boolean | undefined
  /** Regions that the driver finds by their ids (2.10); default none. */
  readonly sharedMemory?: readonly SharedMemoryRegion[] | undefined

  /**
   * Connects the device to its transport, once, before anything else.
   * @throws DevicesError ERR_DEVICE_OPTION when it has one already
   */
  attach(transport: VirtioTransport): void

  /**
   * Whether the device can work with a set of features; all of them are offered. Default: it can.
   * @returns false to refuse FEATURES_OK
   */
  acceptsFeatures?(low: number, high: number): boolean

  /** The driver is ready (DRIVER_OK), the queues are in use. They are looked at right after, as if notified. */
  activate?(): void

  /** The driver says that there are chains in a queue, which is in use. May come at any time and for no reason. */
  notify(queue: number): void

  /**
   * The driver takes a queue away (2.6.1), which is reset after this. What is under way for it must not touch guest memory
   * any more once this has returned.
   */
  resetQueue?(queue: number): void

  /** The driver takes all queues away (2.4). As {@link resetQueue} for each; then back to the initial configuration. */
  reset(): void

  /**
   * The driver writes to the configuration space: change `config` as the device's type allows. The transport copies
   * it afterwards. Without this method the space is read-only.
   * @param offset with `size` inside `config`
   * @param size 1, 2 or 4 bytes
   * @param value unsigned, little-endian
   */
  writeConfig?(offset: number, size: number, value: number): void

  /**
   * Settles when nothing is under way that would touch guest memory or complete a chain; no new chains are taken meanwhile.
   * Default: nothing ever is, between two calls.
   */
  idle?(): Promise<void>

  /** What to save beside the queues: plain data, versioned. Nothing may be under way. */
  state?(): unknown

  /**
   * Takes a saved state, before the queues come back. It may come from anywhere.
   * @throws DevicesError ERR_DEVICE_STATE
   */
  restore?(state: unknown): void
}
