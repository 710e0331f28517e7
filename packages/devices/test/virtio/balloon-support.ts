/** A driver's side of virtio-balloon. */
import type { GuestMemory } from '@vmm/virtio-queue'
import type { MockDriver } from '@vmm/virtio-queue/testing'
import { MockMemory } from '@vmm/virtio-queue/testing'
import * as spec from '../../src/virtio/balloon/spec.ts'
import type { BalloonOptions, MmioTransportOptions } from '../../src/virtio/index.ts'
import { Balloon, VIRTIO_BALLOON_PAGE_SIZE } from '../../src/virtio/index.ts'
import * as reg from '../../src/virtio/mmio/registers.ts'
import { Guest } from './support.ts'

export const PAGE: number = VIRTIO_BALLOON_PAGE_SIZE
/** Enough for the rings of five queues, and the second region is its neighbour. */
export const MEMORY_SIZE = 0x10_0000
export const SECOND_SIZE = 0x4_0000
export const BUFFER = 0x8_0000

/** Guest memory that notes what it is asked to discard, as `from-to` in pages, and fills it with zeros. */
export class DiscardLog {
  readonly ranges: string[] = []
  discardsToZero = true
  fail: Error | undefined
  readonly #memory: GuestMemory

  constructor(memory: GuestMemory) {
    this.#memory = memory
  }

  discard(address: number, size: number): void {
    const region = this.#memory.findRegion(address)
    if (region === undefined || address - region.start + size > region.size) {
      throw new Error(`a discard of ${size} bytes at ${address} leaves its region`)
    }
    if (address % PAGE !== 0 || size % PAGE !== 0) throw new Error('a discard of no whole pages')
    if (this.fail !== undefined) throw this.fail
    this.ranges.push(`${address / PAGE}-${(address + size) / PAGE}`)
    region.bytes.fill(0, address - region.start, address - region.start + size)
  }

  /** What was discarded since this was last asked. */
  take(): string[] {
    return this.ranges.splice(0)
  }
}

export class BalloonGuest extends Guest<Balloon> {
  readonly mock: MockMemory
  readonly log: DiscardLog
  drivers: MockDriver[] = []

  constructor(
    options: Partial<BalloonOptions> = {},
    transport: Partial<MmioTransportOptions> = {},
    restore?: ConstructorParameters<typeof Guest<Balloon>>[2],
  ) {
    const ranges = [
      { start: 0, size: MEMORY_SIZE },
      { start: MEMORY_SIZE, size: SECOND_SIZE },
    ]
    const mock = (transport.memory as MockMemory) ?? new MockMemory(ranges)
    const log = new DiscardLog(mock)
    super(new Balloon({ memory: log, ...options }), { ...transport, memory: mock }, restore)
    this.mock = mock
    this.log = log
  }

  /** Everything but the features given; default all. */
  begin(features: number = this.offered(0)): void {
    this.drivers = this.start(features)
  }

  driverAt(queue: number): MockDriver {
    const driver = this.drivers[queue]
    if (driver === undefined) throw new Error(`no driver of queue ${queue}`)
    return driver
  }

  /** Sends page numbers. @returns whether they came back at once */
  pages(queue: number, pages: readonly number[]): boolean {
    this.mock.write(BUFFER, new Uint8Array(Uint32Array.from(pages).buffer))
    return this.send(queue, 4 * pages.length)
  }

  inflate(...pages: number[]): boolean {
    return this.pages(spec.INFLATE_QUEUE, pages)
  }

  /** What is at BUFFER. */
  send(queue: number, length: number): boolean {
    this.driverAt(queue).send([{ address: BUFFER, length }])
    this.notify(queue)
    return this.driverAt(queue).reapAll().length > 0
  }

  /** Reports free pages, as `[first, count]` each. */
  report(queue: number, ...blocks: (readonly [number, number])[]): boolean {
    this.driverAt(queue).send(
      blocks.map(([first, count]) => ({ address: first * PAGE, length: count * PAGE, writable: true })),
    )
    this.notify(queue)
    return this.driverAt(queue).reapAll().length > 0
  }

  /** Gives a buffer with statistics. */
  statistics(values: readonly (readonly [tag: number, value: bigint])[]): void {
    const view = new DataView(new ArrayBuffer(spec.VIRTIO_BALLOON_STAT_SIZE * values.length))
    values.forEach(([tag, value], i) => {
      view.setUint16(spec.VIRTIO_BALLOON_STAT_SIZE * i, tag, true)
      view.setBigUint64(spec.VIRTIO_BALLOON_STAT_SIZE * i + 2, value, true)
    })
    this.mock.write(BUFFER, new Uint8Array(view.buffer))
    this.driverAt(spec.STATS_QUEUE).send([{ address: BUFFER, length: view.byteLength }])
    this.notify(spec.STATS_QUEUE)
  }

  config(offset: number): number {
    return this.read(reg.VIRTIO_MMIO_CONFIG + offset)
  }

  writeConfig(offset: number, value: number, size = 4): void {
    this.write(reg.VIRTIO_MMIO_CONFIG + offset, value, size)
  }
}
