/** A guest's driver in front of the registers, and a device behind them that notes what it is told. */
import type { GuestMemory, Virtqueue } from '@vmm/virtio-queue'
import type { MockDriver, MockDriverOptions } from '@vmm/virtio-queue/testing'
import { createMockDriver, MockMemory } from '@vmm/virtio-queue/testing'
import type {
  MmioTransportOptions,
  SharedMemoryRegion,
  VirtioDevice,
  VirtioFault,
  VirtioTransport,
} from '../../src/virtio/index.ts'
import {
  featureBit,
  MmioTransport,
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_F_VERSION_1,
} from '../../src/virtio/index.ts'
import * as reg from '../../src/virtio/mmio/registers.ts'
import { CountingInterrupt } from '../support.ts'

export const ACK: number = VIRTIO_CONFIG_S_ACKNOWLEDGE
export const DRIVER: number = ACK | VIRTIO_CONFIG_S_DRIVER
export const FEATURES_OK: number = DRIVER | VIRTIO_CONFIG_S_FEATURES_OK
export const DRIVER_OK: number = FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK
export const VERSION_1: number = featureBit(VIRTIO_F_VERSION_1)

/** Device features of the test's own. */
export const FEATURE_A = 1
export const FEATURE_B = 2

export class TestDevice implements VirtioDevice {
  readonly type = 42
  readonly featuresLow: number = FEATURE_A | FEATURE_B
  readonly featuresHigh = 0
  readonly queueSizes: readonly number[]
  readonly config: Uint8Array = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
  readonly sharedMemory: readonly SharedMemoryRegion[] | undefined
  /** What the device was told, in order. */
  readonly calls: string[] = []
  accepts = true
  saved: unknown = { version: 1 }
  transport!: VirtioTransport

  constructor(
    options: { queueSizes?: readonly number[]; sharedMemory?: readonly SharedMemoryRegion[] } = {},
  ) {
    this.queueSizes = options.queueSizes ?? [16, 8]
    this.sharedMemory = options.sharedMemory
  }

  attach(transport: VirtioTransport): void {
    this.transport = transport
  }

  acceptsFeatures(): boolean {
    return this.accepts
  }

  activate(): void {
    this.calls.push('activate')
  }

  notify(queue: number): void {
    this.calls.push(`notify ${queue}`)
  }

  resetQueue(queue: number): void {
    this.calls.push(`resetQueue ${queue}`)
  }

  reset(): void {
    this.calls.push('reset')
  }

  writeConfig(offset: number, size: number, value: number): void {
    for (let i = 0; i < size; i += 1) this.config[offset + i] = Math.floor(value / 256 ** i) % 256
  }

  state(): unknown {
    return this.saved
  }

  restore(state: unknown): void {
    this.saved = state
  }

  /** The calls since this was last asked. */
  take(): string[] {
    return this.calls.splice(0)
  }
}

/** What a Linux driver does with the registers. */
export class Guest<D extends VirtioDevice = TestDevice> {
  readonly memory: GuestMemory
  readonly device: D
  readonly transport: MmioTransport
  readonly interrupt: CountingInterrupt
  readonly faults: VirtioFault[] = []
  readonly failures: unknown[] = []
  /** Work put off to a later turn of the event loop. */
  readonly deferred: (() => void)[] = []

  constructor(
    device: D,
    options: Partial<MmioTransportOptions> = {},
    make: (options: MmioTransportOptions) => MmioTransport = (all) => new MmioTransport(all),
  ) {
    this.device = device
    this.memory = options.memory ?? new MockMemory([{ start: 0, size: 0x10_0000 }])
    this.interrupt = new CountingInterrupt()
    this.transport = make({
      interrupt: this.interrupt,
      defer: (callback) => this.deferred.push(callback),
      poll: { maxMicroseconds: 0 },
      events: {
        guestFault: (fault) => this.faults.push(fault),
        hostFailure: (error) => this.failures.push(error),
      },
      ...options,
      device,
      memory: this.memory,
    })
  }

  read(offset: number, size = 4): number {
    return this.transport.read(offset, size)
  }

  write(offset: number, value: number, size = 4): void {
    this.transport.write(offset, value, size)
  }

  get status(): number {
    return this.read(reg.VIRTIO_MMIO_STATUS)
  }

  set status(value: number) {
    this.write(reg.VIRTIO_MMIO_STATUS, value)
  }

  offered(page: number): number {
    this.write(reg.VIRTIO_MMIO_DEVICE_FEATURES_SEL, page)
    return this.read(reg.VIRTIO_MMIO_DEVICE_FEATURES)
  }

  accept(page: number, bits: number): void {
    this.write(reg.VIRTIO_MMIO_DRIVER_FEATURES_SEL, page)
    this.write(reg.VIRTIO_MMIO_DRIVER_FEATURES, bits)
  }

  /** Up to FEATURES_OK. Default: all features. */
  negotiate(low: number = this.offered(0), high: number = this.offered(1)): void {
    this.status = 0
    this.status = ACK
    this.status = DRIVER
    this.accept(0, low)
    this.accept(1, high)
    this.status = FEATURES_OK
  }

  select(queue: number): void {
    this.write(reg.VIRTIO_MMIO_QUEUE_SEL, queue)
  }

  /** Writes what a mock driver has laid out, and enables the queue. */
  enable(queue: number, driver: MockDriver): void {
    this.select(queue)
    this.write(reg.VIRTIO_MMIO_QUEUE_NUM, driver.size)
    this.write(reg.VIRTIO_MMIO_QUEUE_DESC_LOW, driver.descriptorArea)
    this.write(reg.VIRTIO_MMIO_QUEUE_DESC_HIGH, 0)
    this.write(reg.VIRTIO_MMIO_QUEUE_DRIVER_LOW, driver.driverArea)
    this.write(reg.VIRTIO_MMIO_QUEUE_DRIVER_HIGH, 0)
    this.write(reg.VIRTIO_MMIO_QUEUE_DEVICE_LOW, driver.deviceArea)
    this.write(reg.VIRTIO_MMIO_QUEUE_DEVICE_HIGH, 0)
    this.write(reg.VIRTIO_MMIO_QUEUE_READY, 1)
  }

  /** A driver for a queue with what is negotiated. Each queue gets 64 KiB of guest memory. */
  driverOf(queue: number, size: number = this.device.queueSizes[queue] ?? 0): MockDriver {
    const { featuresLow, featuresHigh } = this.negotiated
    const options: MockDriverOptions = {
      memory: this.memory,
      size,
      base: 0x1_0000 * (queue + 1),
      features: {
        indirect: (featuresLow & (1 << 28)) !== 0,
        eventIndex: (featuresLow & (1 << 29)) !== 0,
        packed: (featuresHigh & (1 << 2)) !== 0,
      },
    }
    // As a driver does: rings begin as zeros.
    const base = 0x1_0000 * (queue + 1)
    this.memory.findRegion(base)?.bytes.fill(0, base, base + 0x1_0000)
    return createMockDriver(options)
  }

  /** Everything up to DRIVER_OK. @returns a driver for each queue */
  start(low?: number, high?: number): MockDriver[] {
    this.negotiate(low, high)
    this.negotiated = { featuresLow: low ?? this.offered(0), featuresHigh: high ?? this.offered(1) }
    const drivers = this.device.queueSizes.map((_, i) => this.driverOf(i))
    drivers.forEach((driver, i) => {
      this.enable(i, driver)
    })
    this.status = DRIVER_OK
    return drivers
  }

  notify(queue: number): void {
    this.write(reg.VIRTIO_MMIO_QUEUE_NOTIFY, queue)
  }

  /** As Linux's handler: reads, acknowledges. @returns what was read */
  handleInterrupt(): number {
    const status = this.read(reg.VIRTIO_MMIO_INTERRUPT_STATUS)
    this.write(reg.VIRTIO_MMIO_INTERRUPT_ACK, status)
    return status
  }

  /** Runs what was put off. @returns how many turns that took */
  turns(limit = 1000): number {
    let count = 0
    for (let next = this.deferred.shift(); next !== undefined; next = this.deferred.shift()) {
      next()
      count += 1
      if (count > limit) throw new Error('work is put off for ever')
    }
    return count
  }

  negotiated: { featuresLow: number; featuresHigh: number } = { featuresLow: 0, featuresHigh: 0 }
}

/** A guest with a {@link TestDevice}, before any access. */
export function createGuest(options: Partial<MmioTransportOptions> = {}): Guest {
  return new Guest(new TestDevice(), options)
}

/** The queue that the device works on. */
export function queueOf(guest: Guest, index: number): Virtqueue {
  const queue = guest.device.transport.queue(index)
  if (queue === undefined) throw new Error(`queue ${index} is not in use`)
  return queue
}
