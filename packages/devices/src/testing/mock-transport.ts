/**
 * A transport for tests and benches of devices in other packages: queues of mock drivers, no registers. Everything has been negotiated
 * when it is made.
 */
import type { GuestMemory, Virtqueue } from '@vmm/virtio-queue'
import { createMockDriver, type MockDriver } from '@vmm/virtio-queue/testing'
import type { VirtioDevice, VirtioFault, VirtioTransport } from '../virtio/device.ts'

/** Guest memory that each queue's driver gets for its areas and buffers, from the beginning on; in bytes. */
export const MOCK_QUEUE_BYTES = 0x2_0000

/** A device's transport and the drivers of its queues. */
export class MockTransport implements VirtioTransport {
  readonly memory: GuestMemory
  readonly featuresLow: number
  readonly featuresHigh: number
  running = true
  /** A driver for each queue. */
  readonly drivers: readonly MockDriver[]
  /** What the device said of the driver. */
  readonly faults: VirtioFault[] = []
  /** What the device said of the host. */
  readonly failures: unknown[] = []
  /** Called when the driver would be interrupted. */
  onInterrupt: (queue: number) => void = () => {}
  readonly #device: VirtioDevice
  readonly #queues: (Virtqueue | undefined)[]

  /** @param memory of `MOCK_QUEUE_BYTES` for each queue, or more */
  constructor(device: VirtioDevice, memory: GuestMemory) {
    this.#device = device
    this.memory = memory
    this.featuresLow = device.featuresLow
    this.featuresHigh = device.featuresHigh
    this.drivers = device.queueSizes.map((size, i) =>
      createMockDriver({ memory, size, base: MOCK_QUEUE_BYTES * i, features: { indirect: true } }),
    )
    this.#queues = this.drivers.map((driver) => driver.activate())
    device.attach(this)
    device.activate?.()
  }

  queue(index: number): Virtqueue | undefined {
    return this.#queues[index]
  }

  interruptQueue(index: number): void {
    this.onInterrupt(index)
  }

  configChanged(): void {}

  fault(fault: VirtioFault): void {
    this.faults.push(fault)
    if (fault.needsReset) this.running = false
  }

  hostFailure(error: unknown): void {
    this.failures.push(error)
  }

  defer(callback: () => void): void {
    setImmediate(callback)
  }

  /** The driver resets the device, and begins anew with other memory for its queues. */
  reset(): void {
    const queues = this.#queues.splice(0)
    for (const queue of queues) queue?.reset()
    this.#device.reset()
  }
}
