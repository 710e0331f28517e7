/** A driver's side of virtio-console. */
import type { Duplex } from 'node:stream'
import type { MockDriver } from '@vmm/virtio-queue/testing'
import { MockMemory } from '@vmm/virtio-queue/testing'
import * as spec from '../../src/virtio/console/spec.ts'
import type { ConsoleOptions, ConsolePort, MmioTransportOptions } from '../../src/virtio/index.ts'
import { Console } from '../../src/virtio/index.ts'
import { Guest } from './support.ts'

export const MEMORY_SIZE = 0x10_0000
/** Of a buffer for input or for a control message, in bytes. */
export const INPUT_BYTES = 64
const OUTPUT = 0x9_0000
const CONTROL = 0xa_0000
const INPUTS = 0xb_0000
/** Buffers that a driver gives on a queue for input. */
const INPUT_BUFFERS = 4

/** A control message of the device. */
export interface Message {
  readonly id: number
  readonly event: number
  readonly value: number
  readonly rest: Uint8Array
}

/** A console that is a terminal, and a port for a program. */
export const TWO_PORTS: ConsoleOptions = {
  ports: [{ console: true }, { name: 'agent' }],
  queueSize: 8,
}

export class ConsoleGuest extends Guest<Console> {
  readonly mock: MockMemory
  drivers: MockDriver[] = []
  /** The host's ends of the ports that were opened by {@link open}. */
  readonly streams: Duplex[] = []
  readonly #inputs = new Map<string, { address: number; length: number }>()

  constructor(
    options: ConsoleOptions = TWO_PORTS,
    transport: Partial<MmioTransportOptions> = {},
    restore?: ConstructorParameters<typeof Guest<Console>>[2],
  ) {
    const mock = (transport.memory as MockMemory) ?? new MockMemory([{ start: 0, size: MEMORY_SIZE }])
    super(new Console(options), { ...transport, memory: mock }, restore)
    this.mock = mock
  }

  port(id: number): ConsolePort {
    return this.device.port(id)
  }

  /** Opens a port on the host's side. */
  open(id: number): Duplex {
    const stream = this.port(id).open()
    this.streams[id] = stream
    return stream
  }

  driverAt(queue: number): MockDriver {
    const driver = this.drivers[queue]
    if (driver === undefined) throw new Error(`no driver of queue ${queue}`)
    return driver
  }

  /** Everything but the features given; default all. */
  begin(features: number = this.offered(0)): void {
    this.#inputs.clear()
    this.drivers = this.start(features)
  }

  /** As Linux begins: buffers for control and input, then the handshake. @returns what the device said */
  handshake(): Message[] {
    this.begin()
    this.giveControl()
    for (const { id } of this.device.ports) this.giveInput(id)
    this.control(0xffff_ffff, spec.VIRTIO_CONSOLE_DEVICE_READY, 1)
    const added = this.messages()
    for (const { id } of added) this.control(id, spec.VIRTIO_CONSOLE_PORT_READY, 1)
    return [...added, ...this.messages()]
  }

  giveControl(length = INPUT_BYTES): void {
    this.#give(spec.CONTROL_RECEIVE_QUEUE, length)
  }

  giveInput(port: number, length = INPUT_BYTES): void {
    this.#give(spec.receiveQueueOf(port), length)
  }

  /** Control messages of the device. Their buffers go back to it. */
  messages(): Message[] {
    const all: Message[] = []
    for (let bytes = this.#take(spec.CONTROL_RECEIVE_QUEUE, true); bytes !== undefined; ) {
      const view = new DataView(bytes.buffer)
      all.push({
        id: view.getUint32(0, true),
        event: view.getUint16(4, true),
        value: view.getUint16(6, true),
        rest: bytes.subarray(spec.CONTROL_SIZE),
      })
      bytes = this.#take(spec.CONTROL_RECEIVE_QUEUE, true)
    }
    return all
  }

  control(id: number, event: number, value: number): void {
    const view = new DataView(new ArrayBuffer(spec.CONTROL_SIZE))
    view.setUint32(0, id, true)
    view.setUint16(4, event, true)
    view.setUint16(6, value, true)
    this.mock.write(CONTROL, new Uint8Array(view.buffer))
    this.driverAt(spec.CONTROL_TRANSMIT_QUEUE).send([{ address: CONTROL, length: spec.CONTROL_SIZE }])
    this.notify(spec.CONTROL_TRANSMIT_QUEUE)
    this.driverAt(spec.CONTROL_TRANSMIT_QUEUE).reapAll()
  }

  openPort(id: number, isOpen = true): void {
    this.control(id, spec.VIRTIO_CONSOLE_PORT_OPEN, isOpen ? 1 : 0)
  }

  /** The guest writes. @returns whether the device has taken it */
  output(port: number, text: string): boolean {
    const bytes = Buffer.from(text)
    const queue = spec.receiveQueueOf(port) + 1
    const address = OUTPUT + 0x2000 * port
    this.mock.write(address, bytes)
    const half = Math.ceil(bytes.length / 2)
    this.driverAt(queue).send([
      { address, length: half },
      { address: address + half, length: bytes.length - half },
    ])
    this.notify(queue)
    return this.driverAt(queue).reapAll().length > 0
  }

  /** Takes back what the device has consumed of output. */
  reapOutput(port: number): number {
    return this.driverAt(spec.receiveQueueOf(port) + 1).reapAll().length
  }

  /** What the guest reads; its buffers do not go back, but for `again`. */
  input(port: number, again = false): string {
    let text = ''
    for (;;) {
      const bytes = this.#take(spec.receiveQueueOf(port), again)
      if (bytes === undefined) return text
      text += Buffer.from(bytes).toString()
    }
  }

  #give(queue: number, length: number): void {
    for (let i = 0; i < INPUT_BUFFERS; i += 1) {
      const address = INPUTS + 0x1000 * queue + 0x200 * i
      this.#add(queue, address, length)
    }
    this.notify(queue)
  }

  #add(queue: number, address: number, length: number): void {
    const token = this.driverAt(queue).add([{ address, length, writable: true }])
    this.driverAt(queue).publish()
    this.#inputs.set(`${queue} ${token}`, { address, length })
  }

  #take(queue: number, again: boolean): Uint8Array | undefined {
    const used = this.driverAt(queue).reap()
    if (used === undefined) return undefined
    const buffer = this.#inputs.get(`${queue} ${used.token}`)
    if (buffer === undefined) throw new Error('a buffer that was not given')
    const bytes = this.mock.read(buffer.address, used.length)
    if (again) {
      this.#add(queue, buffer.address, buffer.length)
      this.notify(queue)
    }
    return bytes
  }
}
