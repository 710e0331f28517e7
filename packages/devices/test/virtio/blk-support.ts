/** A driver's side of virtio-blk. */
import type { MockBuffer, MockDriver } from '@vmm/virtio-queue/testing'
import { MockMemory } from '@vmm/virtio-queue/testing'
import * as spec from '../../src/virtio/blk/spec.ts'
import type { BlkOptions, Disk, DiskOutcome, DiskSink, MmioTransportOptions } from '../../src/virtio/index.ts'
import { Blk, type BlockRequest, BufferDisk, SECTOR_SIZE } from '../../src/virtio/index.ts'
import { Guest } from './support.ts'

export const MEMORY_SIZE = 0x10_0000
export const HEADER = 0x8_0000
export const DATA = 0x9_0000
export const STATUS = 0x8_8000
export const SECTORS = 64
/** What is in a status byte before the device writes it. */
export const UNTOUCHED = 0xee

/** Where the bytes of a request lie. */
export interface Layout {
  readonly header?: readonly MockBuffer[]
  readonly data?: readonly MockBuffer[]
  readonly status?: readonly MockBuffer[]
}

export const readable = (address: number, length: number): MockBuffer => ({ address, length })
export const writable = (address: number, length: number): MockBuffer => ({ address, length, writable: true })

/** A disk where each sector has its number in every byte. */
export function numberedDisk(sectors: number = SECTORS, readOnly = false): BufferDisk {
  const bytes = new Uint8Array(sectors * SECTOR_SIZE)
  for (let i = 0; i < sectors; i += 1) bytes.fill(i, i * SECTOR_SIZE, (i + 1) * SECTOR_SIZE)
  return new BufferDisk(bytes, { readOnly })
}

/** A disk that keeps requests until the test completes them. */
export class SlowDisk implements Disk {
  readonly size: number = SECTORS * SECTOR_SIZE
  readonly readOnly = false
  readonly canDiscard = false
  readonly requests: BlockRequest[] = []
  commits = 0
  drained: (() => void) | undefined
  /** Of the last request. */
  sink: DiskSink = { complete: () => {}, flush: () => {}, failure: () => {} }

  submit(request: BlockRequest): -1 {
    this.sink = request.sink
    this.requests.push(request)
    return -1
  }

  commit(): void {
    this.commits += 1
  }

  drain(): void {
    this.drained?.()
  }

  /** Completes the oldest request, or one of another place. */
  finish(outcome: DiskOutcome = 0, at = 0): void {
    const [request] = this.requests.splice(at, 1)
    if (request === undefined) throw new Error('no request')
    if (outcome === 0 && request.isCurrent) request.target.fill(0x77, request.length)
    request.sink.complete(request, outcome)
  }
}

export class BlkGuest extends Guest<Blk> {
  readonly mock: MockMemory
  drivers: MockDriver[] = []

  constructor(
    options: Partial<BlkOptions> & { disk: Disk },
    transport: Partial<MmioTransportOptions> = {},
    restore?: ConstructorParameters<typeof Guest<Blk>>[2],
  ) {
    const mock = (transport.memory as MockMemory) ?? new MockMemory([{ start: 0, size: MEMORY_SIZE }])
    super(new Blk({ queueSize: 16, ...options }), { ...transport, memory: mock }, restore)
    this.mock = mock
  }

  /** Everything but the features given; default all. */
  begin(features: number = this.offered(0)): MockDriver {
    this.drivers = this.start(features)
    return this.driver
  }

  get driver(): MockDriver {
    const [driver] = this.drivers
    if (driver === undefined) throw new Error('the driver has not begun')
    return driver
  }

  writeHeader(type: number, sector: number | bigint, at: number = HEADER): void {
    const view = new DataView(new ArrayBuffer(16))
    view.setUint32(0, type, true)
    view.setBigUint64(8, BigInt(sector), true)
    this.mock.write(at, new Uint8Array(view.buffer))
  }

  /** Sends a request; its status byte is filled with something before. */
  send(type: number, sector: number | bigint, layout: Layout = {}, queue = 0): void {
    const { header = [readable(HEADER, 16)], data = [], status = [writable(STATUS, 1)] } = layout
    this.writeHeader(type, sector)
    this.mock.write(STATUS, Uint8Array.of(UNTOUCHED))
    this.mock.clearDirty()
    this.drivers[queue]?.send([...header, ...data, ...status])
    this.notify(queue)
  }

  /** Sends a request and takes the answer. */
  request(
    type: number,
    sector: number | bigint,
    layout: Layout = {},
  ): { status: number; length: number | undefined } {
    this.send(type, sector, layout)
    const length = this.driver.reap()?.length
    return { status: this.status8, length }
  }

  get status8(): number {
    return this.mock.read(STATUS, 1)[0] as number
  }

  /** A range for discard or write zeroes, at DATA. */
  writeRange(sector: number | bigint, sectors: number, flags = 0): readonly MockBuffer[] {
    const view = new DataView(new ArrayBuffer(spec.VIRTIO_BLK_RANGE_SIZE))
    view.setBigUint64(0, BigInt(sector), true)
    view.setUint32(8, sectors, true)
    view.setUint32(12, flags, true)
    this.mock.write(DATA, new Uint8Array(view.buffer))
    return [readable(DATA, spec.VIRTIO_BLK_RANGE_SIZE)]
  }

  config(offset: number, size = 4): number {
    return this.read(0x100 + offset, size)
  }
}
