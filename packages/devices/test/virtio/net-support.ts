/** A driver's side of virtio-net. */
import type { MockBuffer, MockDriver, MockUsed } from '@vmm/virtio-queue/testing'
import { MockMemory } from '@vmm/virtio-queue/testing'
import type {
  MmioTransportOptions,
  NetFrame,
  NetOptions,
  NetOutcome,
  Network,
  NetworkSink,
} from '../../src/virtio/index.ts'
import { MAC_SIZE, NET_DONE, NET_OFFLOADS_ALL, Net, VIRTIO_NET_HDR_SIZE } from '../../src/virtio/index.ts'
import * as reg from '../../src/virtio/mmio/registers.ts'
import * as spec from '../../src/virtio/net/spec.ts'
import { Guest } from './support.ts'

export const MEMORY_SIZE = 0x40_0000
export const MAC = '02:00:00:00:00:01'
/** Where buffers lie, unless a test says otherwise; those to receive, and those to send. */
export const RX = 0x20_0000
export const TX = 0x10_0000
export const HDR: number = VIRTIO_NET_HDR_SIZE

/** What a header says; the rest is 0. */
export interface Header {
  readonly flags?: number
  readonly gsoType?: number
  readonly hdrLen?: number
  readonly gsoSize?: number
  readonly csumStart?: number
  readonly csumOffset?: number
  readonly numBuffers?: number
}

export function headerBytes(header: Header = {}): Uint8Array {
  const view = new DataView(new ArrayBuffer(HDR))
  view.setUint8(spec.HDR_FLAGS_OFFSET, header.flags ?? 0)
  view.setUint8(spec.HDR_GSO_TYPE_OFFSET, header.gsoType ?? 0)
  view.setUint16(spec.HDR_LEN_OFFSET, header.hdrLen ?? 0, true)
  view.setUint16(spec.HDR_GSO_SIZE_OFFSET, header.gsoSize ?? 0, true)
  view.setUint16(spec.HDR_CSUM_START_OFFSET, header.csumStart ?? 0, true)
  view.setUint16(spec.HDR_CSUM_OFFSET_OFFSET, header.csumOffset ?? 0, true)
  view.setUint16(spec.HDR_NUM_BUFFERS_OFFSET, header.numBuffers ?? 0, true)
  return new Uint8Array(view.buffer)
}

/** A frame of so many bytes, each of which says where it is; not a valid packet of anything. */
export function frameOf(length: number, seed = 0): Uint8Array {
  const frame = Uint8Array.from({ length }, (_, i) => (i * 7 + seed + (i >> 8)) & 0xff)
  frame.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2].slice(0, length))
  return frame
}

/** Keeps what the guest sends, and does with it what the test says. */
export class RecordingNetwork implements Network {
  readonly offloads: number
  readonly queuePairs: number
  /** Copies, as `header` and `frame`. */
  readonly sent: { readonly header: Uint8Array; readonly frame: Uint8Array; readonly pair: number }[] = []
  readonly configured: (readonly [offloads: number, queuePairs: number])[] = []
  readonly refills: number[] = []
  commits = 0
  sink!: NetworkSink
  answer: (frame: NetFrame) => NetOutcome = () => NET_DONE
  onRefill: (pair: number) => void = () => {}

  constructor(options: { offloads?: number; queuePairs?: number } = {}) {
    this.offloads = options.offloads ?? NET_OFFLOADS_ALL
    this.queuePairs = options.queuePairs ?? 1
  }

  attach(sink: NetworkSink): void {
    this.sink = sink
  }

  configure(offloads: number, queuePairs: number): void {
    this.configured.push([offloads, queuePairs])
  }

  transmit(frame: NetFrame, pair: number): NetOutcome {
    const outcome = this.answer(frame)
    if (outcome === NET_DONE) {
      const bytes = new Uint8Array(frame.length)
      frame.rewind()
      frame.copyTo(bytes)
      this.sent.push({ header: frame.header.slice(), frame: bytes, pair })
    }
    return outcome
  }

  commit(): void {
    this.commits += 1
  }

  refill(pair: number): void {
    this.refills.push(pair)
    this.onRefill(pair)
  }
}

export class NetGuest extends Guest<Net> {
  readonly mock: MockMemory
  drivers: MockDriver[] = []
  #next = 0

  constructor(
    options: Partial<NetOptions> & { network: Network },
    transport: Partial<MmioTransportOptions> = {},
    restore?: ConstructorParameters<typeof Guest<Net>>[2],
  ) {
    const mock =
      (transport.memory as MockMemory | undefined) ?? new MockMemory([{ start: 0, size: MEMORY_SIZE }])
    super(new Net({ mac: MAC, queueSize: 16, ...options }), { ...transport, memory: mock }, restore)
    this.mock = mock
  }

  /** Everything but the features given; default all. */
  begin(features: number = this.offered(0)): this {
    this.drivers = this.start(features)
    return this
  }

  driver(queue: number): MockDriver {
    const driver = this.drivers[queue]
    if (driver === undefined) throw new Error(`queue ${queue} is not in use`)
    return driver
  }

  /** Gives the device a buffer to receive into, in pieces of such lengths; tells where each begins. */
  offer(lengths: readonly number[] = [2048], options: { pair?: number; indirect?: boolean } = {}): number[] {
    const { pair = 0, indirect = false } = options
    const pieces = lengths.map((length): MockBuffer => {
      const address = RX + this.#next
      this.#next += length + 5
      return { address, length, writable: true }
    })
    this.driver(2 * pair).send(pieces, { indirect })
    this.notify(2 * pair)
    return pieces.map(({ address }) => address)
  }

  /** Sends a frame, in pieces of such lengths: of header and frame together. */
  transmit(
    frame: Uint8Array,
    options: { header?: Header; cut?: readonly number[]; pair?: number; indirect?: boolean } = {},
  ): void {
    const { header = {}, cut = [], pair = 0, indirect = false } = options
    const bytes = Uint8Array.from([...headerBytes(header), ...frame])
    const pieces: MockBuffer[] = []
    let address = TX
    let done = 0
    for (let i = 0; done < bytes.length; i += 1) {
      const length = Math.min(cut[i] ?? bytes.length, bytes.length - done)
      this.mock.write(address, bytes.subarray(done, done + length))
      pieces.push({ address, length })
      address += length + 3
      done += length
    }
    this.driver(2 * pair + 1).send(pieces, { indirect })
    this.notify(2 * pair + 1)
  }

  /** Takes back what was received. */
  received(pair = 0): MockUsed[] {
    return this.driver(2 * pair).reapAll()
  }

  /** Sends a command and takes the answer; 255 for none. */
  command(bytes: readonly number[], queue: number = this.drivers.length - 1): number {
    const answer = TX + 0x1000
    this.mock.write(TX, Uint8Array.from(bytes))
    this.mock.write(answer, Uint8Array.of(255))
    this.driver(queue).send([
      { address: TX, length: bytes.length },
      { address: answer, length: 1, writable: true },
    ])
    this.notify(queue)
    this.driver(queue).reapAll()
    return this.mock.read(answer, 1)[0] as number
  }

  config(offset: number, size: number): number {
    return this.read(reg.VIRTIO_MMIO_CONFIG + offset, size)
  }

  get configMac(): number[] {
    return Array.from({ length: MAC_SIZE }, (_, i) => this.config(i, 1))
  }
}
