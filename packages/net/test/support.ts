/** A guest's driver of virtio-net, and packets to send. */
import { MOCK_QUEUE_BYTES, MockTransport } from '@vmm/devices/testing'
import { Net, type NetOptions, VIRTIO_NET_HDR_SIZE } from '@vmm/devices/virtio'
import type { MockDriver } from '@vmm/virtio-queue/testing'
import { GuestMemory } from '@vmm/vm-memory'

export { own } from '../../../tests/support/own.ts'

export const HDR: number = VIRTIO_NET_HDR_SIZE
export const NEEDS_CSUM = 1
export const GSO_TCPV4 = 1
export const GSO_TCPV6 = 4
const F_MQ = 1 << 22
const CTRL_GUEST_OFFLOADS = 5
const CTRL_MQ = 4

/** What a header says; the rest is 0. */
export interface Header {
  readonly flags?: number
  readonly gsoType?: number
  readonly hdrLen?: number
  readonly gsoSize?: number
  readonly csumStart?: number
  readonly csumOffset?: number
}

export function headerBytes(header: Header = {}): Uint8Array {
  const view = new DataView(new ArrayBuffer(HDR))
  view.setUint8(0, header.flags ?? 0)
  view.setUint8(1, header.gsoType ?? 0)
  view.setUint16(2, header.hdrLen ?? 0, true)
  view.setUint16(4, header.gsoSize ?? 0, true)
  view.setUint16(6, header.csumStart ?? 0, true)
  view.setUint16(8, header.csumOffset ?? 0, true)
  return new Uint8Array(view.buffer)
}

/** A frame that was received, and what its header said. */
export interface Received {
  readonly header: Uint8Array
  readonly frame: Uint8Array
}

export class TestGuest {
  readonly net: Net
  readonly memory: GuestMemory
  readonly transport: MockTransport
  readonly #places = new Map<string, { readonly address: number; readonly length: number }>()
  #tx = new Map<number, number>()

  /** @param memory default plain memory; of 16 MiB or more */
  constructor(
    options: NetOptions,
    memory: GuestMemory = GuestMemory.fromRanges([{ start: 0, size: 2 ** 24 }]),
  ) {
    this.net = new Net(options)
    this.memory = memory
    this.transport = new MockTransport(this.net, memory)
  }

  /** What was reported of the host's side, by code. */
  get failures(): unknown[] {
    return this.transport.failures.map((error) => (error as { code?: unknown }).code ?? error)
  }

  driver(queue: number): MockDriver {
    const driver = this.transport.drivers[queue]
    if (driver === undefined) throw new Error(`there is no queue ${queue}`)
    return driver
  }

  /** Gives the device buffers to receive into. */
  offer(count = 64, length = 2048, pair = 0): this {
    const queue = 2 * pair
    for (let i = 0; i < count; i += 1) {
      const address = 2 ** 22 * (pair + 1) + ((i * (length + 64)) % 2 ** 22)
      const token = this.driver(queue).add([{ address, length, writable: true }])
      if (token === undefined) break
      this.#places.set(`${queue} ${token}`, { address, length })
    }
    this.driver(queue).publish()
    this.net.notify(queue)
    return this
  }

  /** Takes what was received, and offers the buffers again. */
  received(pair = 0): Received[] {
    const queue = 2 * pair
    const all: Received[] = []
    const used = this.driver(queue).reapAll()
    while (used.length > 0) {
      const bytes: Uint8Array[] = []
      for (let i = 0, count = 1; i < count; i += 1) {
        const { token, length } = used.shift() ?? { token: -1, length: 0 }
        const place = this.#places.get(`${queue} ${token}`)
        if (place === undefined) throw new Error('a frame in buffers that were not offered')
        // One that came back for nothing.
        if (length === 0) count = 0
        const piece = new Uint8Array(length)
        this.memory.readSlice(place.address, piece)
        if (i === 0 && length > 0) count = new DataView(piece.buffer).getUint16(10, true)
        if (length > 0) bytes.push(piece)
        const again = this.driver(queue).add([{ ...place, writable: true }])
        if (again !== undefined) this.#places.set(`${queue} ${again}`, place)
      }
      const whole = Buffer.concat(bytes)
      if (whole.length === 0) continue
      all.push({ header: new Uint8Array(whole.subarray(0, HDR)), frame: new Uint8Array(whole.subarray(HDR)) })
    }
    if (all.length > 0) {
      this.driver(queue).publish()
      this.net.notify(queue)
    }
    return all
  }

  /** Places a frame in the queue, which {@link kick} makes known. */
  add(frame: Uint8Array, header: Header = {}, pair = 0): void {
    const base = MOCK_QUEUE_BYTES * 8 + pair * 2 ** 20
    const at = base + ((this.#tx.get(pair) ?? 0) % 900_000)
    this.#tx.set(pair, (this.#tx.get(pair) ?? 0) + HDR + frame.length + 7)
    this.memory.writeSlice(at, headerBytes(header))
    this.memory.writeSlice(at + HDR, frame)
    const half = Math.floor(frame.length / 2)
    this.driver(2 * pair + 1).reapAll()
    this.driver(2 * pair + 1).add([
      { address: at, length: HDR },
      { address: at + HDR, length: half },
      { address: at + HDR + half, length: frame.length - half },
    ])
  }

  kick(pair = 0): void {
    this.driver(2 * pair + 1).publish()
    this.net.notify(2 * pair + 1)
  }

  /** Sends a frame. */
  send(frame: Uint8Array, header: Header = {}, pair = 0): void {
    this.add(frame, header, pair)
    this.kick(pair)
  }

  /** Sets what the guest takes, as `VIRTIO_NET_F_GUEST_*` bits. */
  setOffloads(features: number): number {
    const bits = new Uint8Array(8)
    new DataView(bits.buffer).setUint32(0, features, true)
    return this.command([CTRL_GUEST_OFFLOADS, 0, ...bits])
  }

  setQueuePairs(count: number): number {
    return this.command([CTRL_MQ, 0, count, 0])
  }

  command(bytes: readonly number[]): number {
    const queue = (this.net.featuresLow & F_MQ) === 0 ? 2 : this.net.queueSizes.length - 1
    const at = MOCK_QUEUE_BYTES * 8 - 0x1000
    this.memory.writeSlice(at, Uint8Array.from(bytes))
    this.memory.writeUint8(at + 100, 255)
    this.driver(queue).send([
      { address: at, length: bytes.length },
      { address: at + 100, length: 1, writable: true },
    ])
    this.net.notify(queue)
    this.driver(queue).reapAll()
    return this.memory.readUint8(at + 100)
  }
}

/** Lets the event loop turn. */
export async function turns(count = 3): Promise<void> {
  for (let i = 0; i < count; i += 1) await new Promise((resolve) => setImmediate(resolve))
}

/** Waits until something is so, some seconds at most. */
export async function until(isSo: () => boolean): Promise<void> {
  const end = Date.now() + 10_000
  while (!isSo()) {
    if (Date.now() > end) throw new Error('it did not come to that')
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
}
