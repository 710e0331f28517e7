/**
 * A guest's kernel, as far as virtio-vsock can tell: a driver over the mock driver of `@vmm/virtio-queue/testing`, and
 * sockets on it that are Node streams. It keeps the rules, unless it is asked to send a packet of the test's own.
 */
import { createMockDriver, type MockDriver } from '@vmm/virtio-queue/testing'
import type { VirtioDevice, VirtioFault } from '../virtio/device.ts'
import * as reg from '../virtio/mmio/registers.ts'
import type { MmioTransportOptions } from '../virtio/mmio/transport.ts'
import { MmioTransport } from '../virtio/mmio/transport.ts'
import * as spec from '../virtio/vsock/spec.ts'
import { decodePacket, encodeHeader, type MockVsockPacket } from './vsock-packet.ts'
import { MockVsockSocket } from './vsock-socket.ts'

export type { MockVsockPacket } from './vsock-packet.ts'

const { VIRTIO_VSOCK_QUEUE_RX: RX, VIRTIO_VSOCK_QUEUE_TX: TX, VIRTIO_VSOCK_QUEUE_EVENT: EVENT } = spec
const HEADER = spec.VIRTIO_VSOCK_HDR_SIZE
const QUEUE_BYTES = 0x1_0000
const BUFFERS = 0x10_0000
const RING = 128
const EVENTS = 4
const FIRST_PORT = 2 ** 31

/** How the guest is made. */
export interface MockVsockGuestOptions {
  /** The vsock device. */
  readonly device: VirtioDevice
  /** Default 3. */
  readonly cid?: number
  /** Whether the rings are packed; default false. */
  readonly packed?: boolean
  /** Bytes of each receive buffer, the header's included; default 4096. */
  readonly rxBufferSize?: number
  /** Receive buffers, up to 128; default 128. */
  readonly rxBuffers?: number
  /** Bytes that a socket keeps for a reader who does not read; default 262144. */
  readonly bufferSize?: number
  /** The most payload of a packet; default 16384. */
  readonly payloadMax?: number
  /** Whether header and payload are two descriptors, as with Linux before 6.2; default false: one. */
  readonly twoDescriptors?: boolean
  /** Further options of the transport; default none. */
  readonly transport?: Partial<MmioTransportOptions>
  /** Makes the transport; default `new MmioTransport(options)`. */
  readonly makeTransport?: (options: MmioTransportOptions) => MmioTransport
  /** The guest's memory; default a new one. */
  readonly memory?: MockVsockGuest['memory']
}

/** The guest. It runs when the device interrupts it, in a turn of the event loop of its own. */
export class MockVsockGuest {
  /** Its address, as it has read it. */
  cid: number
  /** Bytes that a socket keeps for a reader who does not read. */
  readonly bufferSize: number
  /** The most payload of a packet, in bytes. */
  readonly payloadMax: number
  /** What the device sits behind. */
  readonly transport: MmioTransport
  /** The guest's memory. */
  readonly memory: { readonly bytes: Uint8Array; findRegion: MmioTransportOptions['memory']['findRegion'] }
  /** What the device has complained of. */
  readonly faults: VirtioFault[] = []
  /** What has failed on the host's side of the device. */
  readonly failures: unknown[] = []
  /** Events that the device has sent. */
  readonly events: number[] = []
  /** Packets for no socket, RSTs included. */
  readonly strays: MockVsockPacket[] = []
  /** Sees every packet that comes before the sockets do; true keeps it from them. */
  onPacket: ((packet: MockVsockPacket) => boolean) | undefined
  /** No receive buffers are given while this is set: as a guest that is stuck. */
  starves = false
  /** Buffers of events are not given back while this is set. */
  keepsEvents = false
  /** One for each queue. */
  drivers: readonly MockDriver[] = []

  readonly #options: MockVsockGuestOptions
  readonly #rxSize: number
  readonly #rxSlots = new Map<number, number>()
  readonly #txSlots = new Map<number, number>()
  readonly #eventSlots = new Map<number, number>()
  #rxFree: number[] = []
  #txFree: number[] = []
  readonly #backlog: MockVsockPacket[] = []
  readonly #listeners = new Map<number, (socket: MockVsockSocket) => void>()
  readonly #sockets = new Map<string, MockVsockSocket>()
  #lastPort = FIRST_PORT
  #isDue = false

  constructor(options: MockVsockGuestOptions) {
    const { device, cid = 3, rxBufferSize = 4096, bufferSize = 262_144, payloadMax = 16_384 } = options
    this.#options = options
    this.cid = cid
    this.bufferSize = bufferSize
    this.payloadMax = payloadMax
    this.#rxSize = rxBufferSize
    this.memory = options.memory ?? plainMemory(BUFFERS + RING * (rxBufferSize + HEADER + payloadMax))
    const make = options.makeTransport ?? ((all) => new MmioTransport(all))
    this.transport = make({
      device,
      memory: this.memory,
      interrupt: { trigger: () => this.#soon() },
      events: {
        guestFault: (fault) => this.faults.push(fault),
        hostFailure: (error) => this.failures.push(error),
      },
      ...options.transport,
    })
  }

  /** Sockets that are there. */
  get sockets(): number {
    return this.#sockets.size
  }

  /** Resets the device and begins anew, as at boot. */
  start(): this {
    const { packed = false } = this.#options
    const { transport } = this
    const write = (offset: number, value: number): void => transport.write(offset, value, 4)
    write(reg.VIRTIO_MMIO_STATUS, 0)
    for (const socket of [...this.#sockets.values()]) socket.reset()
    this.#backlog.length = 0
    this.#sockets.clear()
    write(reg.VIRTIO_MMIO_STATUS, 0b0011)
    const features = [0, 1].map((page) => {
      write(reg.VIRTIO_MMIO_DEVICE_FEATURES_SEL, page)
      const offered = transport.read(reg.VIRTIO_MMIO_DEVICE_FEATURES, 4)
      const bits = page === 1 && !packed ? offered & ~0b100 : offered
      write(reg.VIRTIO_MMIO_DRIVER_FEATURES_SEL, page)
      write(reg.VIRTIO_MMIO_DRIVER_FEATURES, bits >>> 0)
      return bits
    })
    write(reg.VIRTIO_MMIO_STATUS, 0b1011)
    this.memory.bytes.fill(0, QUEUE_BYTES, 4 * QUEUE_BYTES)
    this.drivers = [RX, TX, EVENT].map((queue) => {
      const driver = createMockDriver({
        memory: this.memory,
        size: queue === EVENT ? EVENTS : RING,
        base: QUEUE_BYTES * (queue + 1),
        features: { packed: ((features[1] ?? 0) & 0b100) !== 0, indirect: true, eventIndex: true },
      })
      write(reg.VIRTIO_MMIO_QUEUE_SEL, queue)
      write(reg.VIRTIO_MMIO_QUEUE_NUM, driver.size)
      write(reg.VIRTIO_MMIO_QUEUE_DESC_LOW, driver.descriptorArea)
      write(reg.VIRTIO_MMIO_QUEUE_DRIVER_LOW, driver.driverArea)
      write(reg.VIRTIO_MMIO_QUEUE_DEVICE_LOW, driver.deviceArea)
      write(reg.VIRTIO_MMIO_QUEUE_READY, 1)
      return driver
    })
    const { rxBuffers = RING, twoDescriptors = false } = this.#options
    this.#rxFree = Array.from({ length: rxBuffers }, (_, i) => BUFFERS + i * this.#rxSize)
    const txBase = BUFFERS + RING * this.#rxSize
    const txSize = HEADER + this.payloadMax
    this.#txFree = Array.from({ length: twoDescriptors ? RING / 2 : RING }, (_, i) => txBase + i * txSize)
    for (const slots of [this.#rxSlots, this.#txSlots, this.#eventSlots]) slots.clear()
    write(reg.VIRTIO_MMIO_STATUS, 0b1111)
    for (let i = 0; i < EVENTS; i += 1) this.#giveEvent(4 * QUEUE_BYTES + 4 * i)
    this.resume()
    return this
  }

  /** Goes on with the rings as they are: after {@link start}, or on a transport that was restored. */
  resume(): void {
    this.#refill()
    for (const driver of this.drivers) driver.enableInterrupts()
    this.poll()
  }

  /** Goes on with the rings of another guest, whose device was saved. */
  takeOver(other: MockVsockGuest): void {
    this.drivers = other.drivers
    this.#rxFree = other.#rxFree
    this.#txFree = other.#txFree
    for (const [token, at] of other.#rxSlots) this.#rxSlots.set(token, at)
    for (const [token, at] of other.#txSlots) this.#txSlots.set(token, at)
    for (const [token, at] of other.#eventSlots) this.#eventSlots.set(token, at)
    for (const [key, socket] of other.#sockets) this.#sockets.set(key, socket)
  }

  /** Accepts what the host dials. */
  listen(port: number, onSocket: (socket: MockVsockSocket) => void): void {
    this.#listeners.set(port, onSocket)
  }

  /** Dials a port of the host. The socket emits `'connect'`, or an error. */
  connect(port: number): MockVsockSocket {
    this.#lastPort += 1
    const socket = new MockVsockSocket(this, this.#lastPort, port)
    this.#sockets.set(keyOf(this.#lastPort, port), socket)
    socket.dial()
    return socket
  }

  /** Sends a packet, any packet. */
  send(packet: Partial<MockVsockPacket>): void {
    const { payload = new Uint8Array(0) } = packet
    this.#backlog.push({
      srcCid: this.cid,
      dstCid: spec.VMADDR_CID_HOST,
      srcPort: 0,
      dstPort: 0,
      len: payload.length,
      type: spec.VIRTIO_VSOCK_TYPE_STREAM,
      op: 0,
      flags: 0,
      bufAlloc: 0,
      fwdCnt: 0,
      ...packet,
      payload,
    })
    this.#soon()
  }

  /** @internal */
  forget(socket: MockVsockSocket): void {
    this.#sockets.delete(keyOf(socket.localPort, socket.remotePort))
  }

  /** What the guest does when it is interrupted: takes, answers, sends. */
  poll(): void {
    const [rx, tx, event] = this.drivers
    if (rx === undefined || tx === undefined || event === undefined) return
    do {
      for (const { token } of tx.reapAll()) {
        const at = this.#txSlots.get(token)
        this.#txSlots.delete(token)
        if (at !== undefined) this.#txFree.push(at)
      }
      for (const { token, length } of rx.reapAll()) this.#received(token, length)
      for (const { token, length } of event.reapAll()) this.#happened(token, length)
      this.#refill()
      this.#flush(tx)
    } while (this.drivers.map((driver) => driver.enableInterrupts()).includes(true))
  }

  #soon(): void {
    if (this.#isDue) return
    this.#isDue = true
    setImmediate(() => {
      this.#isDue = false
      this.poll()
    })
  }

  #received(token: number, length: number): void {
    const at = this.#rxSlots.get(token)
    if (at === undefined) return
    this.#rxSlots.delete(token)
    this.#rxFree.push(at)
    if (length === 0) return
    const packet = decodePacket(this.memory.bytes.subarray(at, at + length))
    if (this.onPacket?.(packet) === true) return
    const socket = this.#sockets.get(keyOf(packet.dstPort, packet.srcPort))
    if (socket !== undefined) {
      socket.receive(packet)
      return
    }
    this.strays.push(packet)
    if (packet.op === spec.VIRTIO_VSOCK_OP_RST) return
    const onSocket = this.#listeners.get(packet.dstPort)
    if (packet.op !== spec.VIRTIO_VSOCK_OP_REQUEST || onSocket === undefined) {
      this.send({ srcPort: packet.dstPort, dstPort: packet.srcPort, op: spec.VIRTIO_VSOCK_OP_RST })
      return
    }
    this.strays.pop()
    const made = new MockVsockSocket(this, packet.dstPort, packet.srcPort)
    this.#sockets.set(keyOf(packet.dstPort, packet.srcPort), made)
    made.accept(packet)
    onSocket(made)
  }

  #happened(token: number, length: number): void {
    const at = this.#eventSlots.get(token)
    if (at === undefined) return
    this.#eventSlots.delete(token)
    if (length === 4) {
      this.events.push(new DataView(this.memory.bytes.buffer, at, 4).getUint32(0, true))
      this.cid = this.transport.read(reg.VIRTIO_MMIO_CONFIG, 4)
      for (const socket of [...this.#sockets.values()]) socket.reset()
      this.#sockets.clear()
    }
    if (!this.keepsEvents) this.#giveEvent(at)
  }

  #giveEvent(at: number): void {
    const driver = this.drivers[EVENT]
    const token = driver?.add([{ address: at, length: 4, writable: true }])
    if (driver === undefined || token === undefined) return
    this.#eventSlots.set(token, at)
    this.#kick(EVENT)
  }

  #refill(): void {
    const driver = this.drivers[RX]
    if (driver === undefined || this.starves || this.#rxFree.length === 0) return
    for (const address of this.#rxFree.splice(0)) {
      const token = driver.add([{ address, length: this.#rxSize, writable: true }])
      if (token !== undefined) this.#rxSlots.set(token, address)
      else this.#rxFree.push(address)
    }
    this.#kick(RX)
  }

  #flush(driver: MockDriver): void {
    let isSent = false
    let next = 0
    for (; next < this.#backlog.length; next += 1) {
      const address = this.#txFree.at(-1)
      const packet = this.#backlog[next]
      if (address === undefined || packet === undefined) break
      this.memory.bytes.set(encodeHeader(packet), address)
      this.memory.bytes.set(packet.payload, address + HEADER)
      const { length } = packet.payload
      const isSplit = this.#options.twoDescriptors === true && length > 0
      const token = driver.add(
        isSplit
          ? [
              { address, length: HEADER },
              { address: address + HEADER, length },
            ]
          : [{ address, length: HEADER + length }],
      )
      if (token === undefined) break
      this.#txFree.pop()
      this.#txSlots.set(token, address)
      isSent = true
    }
    this.#backlog.splice(0, next)
    if (isSent) this.#kick(TX)
  }

  #kick(queue: number): void {
    const driver = this.drivers[queue]
    driver?.publish()
    if (driver?.needsKick() === true) this.transport.notify(queue)
  }
}

function keyOf(guestPort: number, hostPort: number): string {
  return `${guestPort} ${hostPort}`
}

/** One region of plain memory, as fast as it gets. */
function plainMemory(size: number): MockVsockGuest['memory'] {
  const bytes = new Uint8Array(size)
  const region = {
    start: 0,
    size,
    bytes,
    view: new DataView(bytes.buffer),
    dirty: undefined,
    hostAddress: undefined,
  }
  return { bytes, findRegion: (address) => (address >= 0 && address < size ? region : undefined) }
}
