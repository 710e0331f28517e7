/**
 * What all transports have in common: the status machine, the negotiation of features, the life of the queues, faults
 * and resets (virtio 1.2, sections 2.1 to 2.6 and 3.1). A transport puts registers in front of it.
 *
 * A driver that does something out of order is ignored, and counted. Nothing here throws for it.
 */
import type { GuestMemory, Virtqueue, VirtqueueRegisters } from '@vmm/virtio-queue'
import {
  VirtqueueRegisters as Registers,
  VIRTIO_F_RING_RESET,
  VirtqueueError,
  virtqueueFeatures,
} from '@vmm/virtio-queue'
import { DevicesError } from '../error.ts'
import type { VirtioDevice, VirtioFault, VirtioTransport } from './device.ts'
import type { MutableCounters, VirtioCounters, VirtioEvents } from './events.ts'
import { newCounters } from './events.ts'
import type { QueueFeatureOptions } from './features.ts'
import {
  DEVICE_FEATURES_HIGH_MASK,
  DEVICE_FEATURES_LOW_MASK,
  queueFeaturesHigh,
  queueFeaturesLow,
} from './features.ts'
import type { Polling, PollOptions } from './poller.ts'
import { pollingOf } from './poller.ts'
import {
  VIRTIO_CONFIG_S_ACKNOWLEDGE as ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER as DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK as DRIVER_OK,
  VIRTIO_CONFIG_S_FAILED as FAILED,
  VIRTIO_CONFIG_S_FEATURES_OK as FEATURES_OK,
  featureBit,
  VIRTIO_CONFIG_S_NEEDS_RESET as NEEDS_RESET,
  VIRTIO_F_VERSION_1,
} from './spec.ts'
import type { VirtioCoreState } from './state.ts'
import { checkCoreState } from './state.ts'

/** The most bytes of configuration space that any transport can show: virtio-mmio's page less its registers. */
const CONFIG_BYTES_MAX = 0xf00

/** The order in which a driver sets the bits of the status (3.1.1). */
const STEPS = [ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK] as const
const STEPS_MASK = 0b1111

const ACTIVATION_FAULT: VirtioFault = Object.freeze({
  code: 'ERR_VIRTIO_QUEUE_SETUP',
  needsReset: true,
  message: 'a queue was enabled whose size or addresses make no queue (2.6, 2.7, 2.8)',
})

/** The transport's side of the common half. Called when the value in question has changed. */
export interface VirtioCoreHooks {
  /** The status byte is another one, or a queue is in use or not any more. */
  statusChanged(): void
  /** To be notified: a used buffer in a queue. */
  queueInterrupt(queue: number): void
  /** The device has changed its configuration space. */
  configChanged(): void
  /** To be notified: a change of configuration, or of the status to DEVICE_NEEDS_RESET. */
  configInterrupt(): void
  /** Back to the values after a reset. The status is 0 already. */
  reset(): void
}

/** What all transports need. */
export interface VirtioTransportOptions {
  /** What sits behind the transport: it belongs to this one alone. */
  readonly device: VirtioDevice
  /** `GuestMemory` of `@vmm/vm-memory`, or anything that finds regions. */
  readonly memory: GuestMemory
  /** Queue features to offer; for the defaults see {@link QueueFeatureOptions}. */
  readonly features?: QueueFeatureOptions | undefined
  /** Told of what goes wrong; default nobody. */
  readonly events?: VirtioEvents | undefined
  /** How long queues are looked at before their driver is asked for notifications again; default up to 50 us. */
  readonly poll?: PollOptions | undefined
  /** Runs a callback in a later turn of the event loop; default `setImmediate`. */
  readonly defer?: ((callback: () => void) => void) | undefined
}

/** The common half. One for each device. */
export class VirtioCore implements VirtioTransport {
  readonly device: VirtioDevice
  readonly memory: GuestMemory
  readonly counters: VirtioCounters
  readonly polling: Polling | undefined
  /** Features 0 to 31 that are offered. */
  readonly offeredLow: number
  /** Features 32 to 63 that are offered. */
  readonly offeredHigh: number
  readonly #hooks: VirtioCoreHooks
  readonly #events: VirtioEvents
  readonly #counters: MutableCounters = newCounters()
  readonly #defer: (callback: () => void) => void
  readonly #registers: VirtqueueRegisters[]
  readonly #queues: (Virtqueue | undefined)[]
  /** Queues that were given a size they cannot have: they cannot be enabled until they get another. */
  readonly #sizeRefused: boolean[]
  #status = 0
  #isPaused = false
  /** The device gets to know of its driver when it is resumed. */
  #isRestored = false
  #driverLow = 0
  #driverHigh = 0
  /** The driver wants features above 63, which nobody offers. */
  #wantsMore = false
  #isClosed = false

  /** @throws DevicesError ERR_DEVICE_OPTION for a device that no transport can serve */
  constructor(options: VirtioTransportOptions, hooks: VirtioCoreHooks) {
    const { device, memory, features = {}, events = {} } = options
    checkDevice(device)
    this.device = device
    this.memory = memory
    this.counters = this.#counters
    this.offeredLow = (device.featuresLow | queueFeaturesLow(features)) >>> 0
    this.offeredHigh = (device.featuresHigh | queueFeaturesHigh(features)) >>> 0
    this.#hooks = hooks
    this.#events = events
    this.#defer = options.defer ?? setImmediate
    this.polling = pollingOf(options.poll)
    this.#registers = device.queueSizes.map((size) => new Registers(size))
    this.#queues = this.#registers.map(() => undefined)
    this.#sizeRefused = this.#registers.map(() => false)
    device.attach(this)
  }

  get status(): number {
    return this.#status
  }

  /** Whether {@link close} has been called. */
  get closed(): boolean {
    return this.#isClosed
  }

  get running(): boolean {
    return !this.#isPaused && this.#isInUse
  }

  /** Whether the driver has the device going, be it paused on this side or not. */
  get #isInUse(): boolean {
    return (this.#status & (DRIVER_OK | NEEDS_RESET | FAILED)) === DRIVER_OK
  }

  get featuresLow(): number {
    return (this.#status & FEATURES_OK) === 0 ? 0 : this.#driverLow
  }

  get featuresHigh(): number {
    return (this.#status & FEATURES_OK) === 0 ? 0 : this.#driverHigh
  }

  queue(index: number): Virtqueue | undefined {
    return this.#queues[index]
  }

  /** The registers of a queue to look at; undefined where there is no such queue. */
  registersOf(index: number): VirtqueueRegisters | undefined {
    return this.#registers[index]
  }

  /**
   * The registers of a queue for the driver to write, which it may from FEATURES_OK on, while the queue is not enabled,
   * and after DRIVER_OK only with VIRTIO_F_RING_RESET. Undefined, and counted, otherwise.
   */
  writableRegisters(index: number): VirtqueueRegisters | undefined {
    const registers = this.#registers[index]
    const canChange = (this.#status & (DRIVER_OK | FAILED)) === 0 || this.#mayReset()
    if (registers !== undefined && (this.#status & FEATURES_OK) !== 0 && canChange && !registers.ready) {
      return registers
    }
    this.ignore()
    return undefined
  }

  /** The driver writes the status. A 0 resets the device; else bits may be added, in their order, and none taken back. */
  writeStatus(value: number): void {
    if (value === 0) {
      this.reset()
      return
    }
    const wanted = value & STEPS_MASK
    const old = this.#status
    // The driver writes back what it has read, NEEDS_RESET included.
    const isStatus =
      (value & ~(STEPS_MASK | NEEDS_RESET | FAILED)) === 0 && (old & STEPS_MASK & ~wanted) === 0
    if (!isStatus || (old & FAILED) !== 0) {
      this.ignore()
      return
    }
    if ((value & FAILED) !== 0) {
      this.#setStatus(old | FAILED)
      return
    }
    for (const step of STEPS) {
      if ((this.#status & step) !== 0) continue
      if ((wanted & step) === 0) {
        // Nothing that comes later in the order may be there without this one.
        if ((wanted & ~this.#status) !== 0) this.ignore()
        return
      }
      if (!this.#take(step)) {
        this.ignore()
        return
      }
    }
  }

  /** The driver accepts features, which it may between DRIVER and FEATURES_OK. @param page of 32 features */
  writeFeatures(page: number, value: number): void {
    if ((this.#status & (DRIVER | FEATURES_OK | FAILED)) !== DRIVER) this.ignore()
    else if (page === 0) this.#driverLow = value
    else if (page === 1) this.#driverHigh = value
    else if (value !== 0) this.#wantsMore = true
  }

  /** The driver sets the size of a queue. One that it cannot have keeps the queue from being enabled. */
  writeQueueSize(index: number, size: number): void {
    const registers = this.writableRegisters(index)
    if (registers === undefined) return
    const isRefused = !registers.setSize(size)
    this.#sizeRefused[index] = isRefused
    if (isRefused) this.ignore()
  }

  /** The driver enables a queue (1), or stops it (0). */
  writeQueueReady(index: number, value: number): void {
    if (value === 0) {
      const registers = this.#registers[index]
      if (registers === undefined || !registers.ready) return
      this.#stopQueue(index)
      registers.ready = false
      this.#hooks.statusChanged()
      return
    }
    if (value !== 1 || this.#sizeRefused[index] === true) {
      this.ignore()
      return
    }
    const registers = this.writableRegisters(index)
    if (registers === undefined) return
    registers.ready = true
    if ((this.#status & DRIVER_OK) !== 0 && !this.#activateQueue(index)) {
      registers.ready = false
      this.fault(ACTIVATION_FAULT, index)
    }
    this.#hooks.statusChanged()
    if (this.running && registers.ready) this.device.notify(index)
  }

  /** The driver resets one queue (2.6.1). It is done when this returns. */
  resetQueue(index: number): void {
    const registers = this.#registers[index]
    if (registers === undefined || !this.#mayReset()) {
      this.ignore()
      return
    }
    this.#stopQueue(index)
    registers.reset()
    this.#sizeRefused[index] = false
    this.#hooks.statusChanged()
  }

  /** The driver, or its doorbell, says that a queue has buffers. */
  notify(index: number): void {
    this.#counters.notifications += 1
    // A pause ends with a look at every queue.
    if (this.#isPaused) return
    if (this.running && this.#queues[index] !== undefined) this.device.notify(index)
    else this.ignore()
  }

  /** Whether the driver may write the configuration space now. */
  get configWritable(): boolean {
    return this.device.configAlwaysWritable === true || (this.#status & (DRIVER | FAILED)) === DRIVER
  }

  interruptQueue(index: number): void {
    if ((this.#status & DRIVER_OK) === 0) return
    this.#counters.queueInterrupts += 1
    this.#hooks.queueInterrupt(index)
  }

  configChanged(): void {
    if (this.#isClosed) return
    this.#hooks.configChanged()
    this.#interruptConfig()
  }

  fault(fault: VirtioFault, queue: number): void {
    this.#counters.faults += 1
    this.#events.guestFault?.(fault, queue)
    if (fault.needsReset) this.#setNeedsReset()
  }

  hostFailure(error: unknown, needsReset = false): void {
    this.#counters.hostFailures += 1
    this.#events.hostFailure?.(error)
    if (needsReset) this.#setNeedsReset()
  }

  defer(callback: () => void): void {
    this.#defer(callback)
  }

  /** Counts something that the driver may not do. */
  ignore(): void {
    this.#counters.ignored += 1
  }

  /** Resets device and queues (2.4). It is done when this returns. */
  reset(): void {
    this.#counters.resets += 1
    this.device.reset()
    for (let i = 0; i < this.#queues.length; i += 1) {
      this.#queues[i]?.reset()
      this.#queues[i] = undefined
      this.#registers[i]?.reset()
      this.#sizeRefused[i] = false
    }
    this.#driverLow = 0
    this.#driverHigh = 0
    this.#wantsMore = false
    this.#status = 0
    this.#hooks.reset()
  }

  /** As a reset, for good: device and queues let go of guest memory, and nothing more is taken of either side. Idempotent. */
  close(): void {
    if (this.#isClosed) return
    this.reset()
    this.#isClosed = true
  }

  /**
   * The common state, to be saved.
   * @throws DevicesError ERR_DEVICE_BUSY while chains are in flight
   */
  state(): VirtioCoreState {
    const isInUse = this.#isInUse
    try {
      return {
        type: this.device.type,
        status: this.#status,
        offeredFeatures: [this.offeredLow, this.offeredHigh],
        driverFeatures: [this.#driverLow, this.#driverHigh],
        undefinedFeatures: this.#wantsMore,
        // A device that waits for its reset does nothing with its queues: they need no position.
        queues: this.#registers.map((registers, i) => registers.state(isInUse ? this.#queues[i] : undefined)),
        sizeRefused: [...this.#sizeRefused],
        device: this.device.state?.() ?? null,
      }
    } catch (cause) {
      if (!(cause instanceof VirtqueueError)) throw cause
      throw new DevicesError('ERR_DEVICE_BUSY', `virtio device has work under way: ${cause.message}`, {
        cause,
      })
    }
  }

  /**
   * Takes a saved state, right after construction, and is paused. Calls no hook.
   * @throws DevicesError ERR_DEVICE_STATE
   */
  restore(state: VirtioCoreState): void {
    const { status, registers } = checkCoreState(state, this)
    this.#isPaused = true
    this.#isRestored = true
    this.device.restore?.(state.device)
    this.#driverLow = state.driverFeatures[0]
    this.#driverHigh = state.driverFeatures[1]
    this.#wantsMore = state.undefinedFeatures
    registers.forEach((saved, i) => {
      this.#registers[i] = saved
      this.#sizeRefused[i] = state.sizeRefused[i] === true
    })
    if ((status & (DRIVER_OK | NEEDS_RESET | FAILED)) === DRIVER_OK) {
      const features = virtqueueFeatures(this.#driverLow, this.#driverHigh)
      registers.forEach((saved, i) => {
        if (!saved.ready) return
        const position = state.queues[i]?.position ?? undefined
        const queue = saved.activate(this.memory, features, position)
        if (queue instanceof Error) {
          const message = `virtio state: queue ${i} cannot be activated: ${queue.message}`
          throw new DevicesError('ERR_DEVICE_STATE', message, { cause: queue })
        }
        this.#queues[i] = queue
      })
    }
    this.#status = status
  }

  /** Takes no more chains until {@link resume}; what is under way goes on. Idempotent. */
  pause(): void {
    this.#isPaused = true
  }

  /** Goes on after {@link pause} or {@link restore}: notifications may have come meanwhile. Idempotent. */
  resume(): void {
    if (!this.#isPaused) return
    this.#isPaused = false
    const isRestored = this.#isRestored
    this.#isRestored = false
    if (!this.running) return
    if (isRestored) this.device.activate?.()
    this.#notifyAll()
  }

  /** One step of the status. @returns whether it was taken */
  #take(step: number): boolean {
    if ((this.#status & NEEDS_RESET) !== 0) return false
    if (step === FEATURES_OK && !this.#acceptsFeatures()) return false
    if (step !== DRIVER_OK) {
      this.#setStatus(this.#status | step)
      return true
    }
    for (let i = 0; i < this.#registers.length; i += 1) {
      if (this.#registers[i]?.ready !== true || this.#activateQueue(i)) continue
      for (let made = 0; made < i; made += 1) this.#queues[made] = undefined
      this.fault(ACTIVATION_FAULT, i)
      return false
    }
    this.#setStatus(this.#status | DRIVER_OK)
    this.device.activate?.()
    // Buffers may be there already; a notification before DRIVER_OK would have been ignored.
    this.#notifyAll()
    return true
  }

  #acceptsFeatures(): boolean {
    const low = this.#driverLow
    const high = this.#driverHigh
    const isOffered = (low & ~this.offeredLow) === 0 && (high & ~this.offeredHigh) === 0
    if (this.#wantsMore || !isOffered || (high & featureBit(VIRTIO_F_VERSION_1)) === 0) return false
    return this.device.acceptsFeatures?.(low, high) ?? true
  }

  #activateQueue(index: number): boolean {
    const features = virtqueueFeatures(this.#driverLow, this.#driverHigh)
    const queue = this.#registers[index]?.activate(this.memory, features)
    if (queue === undefined || queue instanceof Error) return false
    this.#queues[index] = queue
    return true
  }

  #notifyAll(): void {
    for (let i = 0; i < this.#queues.length && this.running; i += 1) {
      if (this.#queues[i] !== undefined) this.device.notify(i)
    }
  }

  #stopQueue(index: number): void {
    const queue = this.#queues[index]
    if (queue === undefined) return
    this.device.resetQueue?.(index)
    queue.reset()
    this.#queues[index] = undefined
  }

  /** Whether single queues may be reset and enabled again. */
  #mayReset(): boolean {
    return this.running && (this.#driverHigh & featureBit(VIRTIO_F_RING_RESET)) !== 0
  }

  #setNeedsReset(): void {
    if ((this.#status & NEEDS_RESET) !== 0 || this.#isClosed) return
    this.#setStatus(this.#status | NEEDS_RESET)
    this.#events.needsReset?.()
    this.#interruptConfig()
  }

  /** Before DRIVER_OK the driver must not be notified of anything (2.1.2, 3.1). */
  #interruptConfig(): void {
    if ((this.#status & DRIVER_OK) === 0) return
    this.#counters.configInterrupts += 1
    this.#hooks.configInterrupt()
  }

  #setStatus(status: number): void {
    this.#status = status
    this.#hooks.statusChanged()
  }
}

function checkDevice(device: VirtioDevice): void {
  const refuse = (what: string): never => {
    throw new DevicesError('ERR_DEVICE_OPTION', `virtio device of type ${device.type}: ${what}`)
  }
  if (!(Number.isInteger(device.type) && device.type > 0)) refuse('a type is a positive number')
  if (device.config.length > CONFIG_BYTES_MAX) {
    refuse(`${device.config.length} bytes of configuration, at most ${CONFIG_BYTES_MAX} fit`)
  }
  const foreign =
    (device.featuresLow & ~DEVICE_FEATURES_LOW_MASK) | (device.featuresHigh & ~DEVICE_FEATURES_HIGH_MASK)
  if (foreign !== 0) refuse("features 24 to 49 are the transport's to offer")
  if (device.queueSizes.length === 0 || device.queueSizes.length > 0xffff) {
    refuse(`${device.queueSizes.length} queues; 1 to 65535 are possible`)
  }
}
