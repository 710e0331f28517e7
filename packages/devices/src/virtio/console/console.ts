/**
 * The console device: virtio 1.2 section 5.3. Several ports, each a Duplex of Node's: consoles (`hvc0`) and named channels
 * for programs; size and resize; the emergency write. Ports neither come nor go while the device is there.
 */
import type { DescriptorChain } from '@vmm/virtio-queue'
import { VIRTQ_SIZE_MAX } from '@vmm/virtio-queue'
import { DevicesError } from '../../error.ts'
import { attachOnce } from '../attached.ts'
import type { VirtioDevice, VirtioFault, VirtioTransport } from '../device.ts'
import type { ChainHandler } from '../queue-runner.ts'
import { BUSY, QueueRunner } from '../queue-runner.ts'
import { featureBit, VIRTIO_ID_CONSOLE } from '../spec.ts'
import { firstOf, messageSize, writeMessage } from './control.ts'
import type { ConsoleEvents, ConsoleOptions } from './options.ts'
import { portSettings } from './options.ts'
import type { PortHost } from './port.ts'
import { ConsolePort } from './port.ts'
import * as spec from './spec.ts'
import type { ConsoleState } from './state.ts'
import { checkConsoleState } from './state.ts'

/** Without an option. Linux fills each queue for input with as many pages, whoever will use them. */
const QUEUE_SIZE = 32
/** The most chains to take of a queue in one turn of the event loop. */
const BATCH = 64

const SIZE_BIT = featureBit(spec.VIRTIO_CONSOLE_F_SIZE)
const MULTIPORT_BIT = featureBit(spec.VIRTIO_CONSOLE_F_MULTIPORT)
const EMERG_WRITE_BIT = featureBit(spec.VIRTIO_CONSOLE_F_EMERG_WRITE)

const CONTROL: VirtioFault = Object.freeze({
  code: 'ERR_CONSOLE_CONTROL',
  needsReset: false,
  message: 'a control message is cut short, or of a port or kind that there is none of (5.3.6.2)',
})
const BUFFER: VirtioFault = Object.freeze({
  code: 'ERR_CONSOLE_BUFFER',
  needsReset: false,
  message: 'a buffer of a console is for the other direction, or too small for a control message (5.3.6)',
})

/**
 * virtio-console.
 *
 * @example
 * ```ts
 * const device = new Console({ ports: [{ console: true, columns: 80, rows: 24 }, { name: 'agent' }] })
 * process.stdin.pipe(device.port(0).open()).pipe(process.stdout)
 * device.port('agent').open().end('a line for whoever reads /dev/virtio-ports/agent\n')
 * ```
 */
export class Console implements VirtioDevice {
  readonly type: number = VIRTIO_ID_CONSOLE
  readonly featuresLow: number = SIZE_BIT | MULTIPORT_BIT | EMERG_WRITE_BIT
  readonly featuresHigh = 0
  readonly queueSizes: readonly number[]
  readonly config: Uint8Array = new Uint8Array(spec.VIRTIO_CONSOLE_CONFIG_SIZE)
  /** The emergency write works at any time (5.3.5). */
  readonly configAlwaysWritable = true
  /** In the order of the options. */
  readonly ports: readonly ConsolePort[]
  readonly #view = new DataView(this.config.buffer)
  readonly #events: ConsoleEvents
  #transport: VirtioTransport | undefined
  #runners: QueueRunner[] = []

  /** @throws DevicesError ERR_DEVICE_OPTION */
  constructor(options: ConsoleOptions = {}) {
    const { ports = [{ console: true }], queueSize = QUEUE_SIZE, events = {} } = options
    const settings = portSettings(ports)
    if (!(queueSize >= 2 && queueSize <= VIRTQ_SIZE_MAX && Number.isInteger(Math.log2(queueSize)))) {
      const message = `virtio-console: a queue has 2 to ${VIRTQ_SIZE_MAX} entries, a power of two, got ${queueSize}`
      throw new DevicesError('ERR_DEVICE_OPTION', message)
    }
    this.#events = events
    const host: PortHost = {
      runOutput: ({ id }) => this.#runners[spec.receiveQueueOf(id) + 1]?.run(),
      runInput: ({ id }) => this.#runners[spec.receiveQueueOf(id)]?.run(),
      tell: () => this.#runners[spec.CONTROL_RECEIVE_QUEUE]?.run(),
      resized: (port) => this.#resized(port),
      outputLost: (port, bytes) => this.#events.outputLost?.(port, bytes),
    }
    this.ports = settings.map((one, id) => new ConsolePort(id, one, host))
    this.queueSizes = Array.from({ length: 2 * settings.length + 2 }, () => queueSize)
    this.#view.setUint32(spec.CONFIG_MAX_NR_PORTS_OFFSET, settings.length, true)
    this.#writeSize()
  }

  /**
   * A port.
   * @param which its number, in the order of the options, or its name
   * @throws DevicesError ERR_DEVICE_OPTION where there is none
   */
  port(which: number | string): ConsolePort {
    const port = this.ports.find(({ id, name }) => (typeof which === 'number' ? id : name) === which)
    if (port !== undefined) return port
    throw new DevicesError('ERR_DEVICE_OPTION', `virtio-console: there is no port ${which}`)
  }

  attach(transport: VirtioTransport): void {
    this.#transport = attachOnce(this.#transport, transport, 'virtio-console')
    const runners: QueueRunner[] = []
    const add = (queue: number, handler: ChainHandler) => {
      runners[queue] = new QueueRunner(transport, queue, handler, BATCH)
    }
    for (const port of this.ports) {
      const queue = spec.receiveQueueOf(port.id)
      add(queue, {
        serve: (chain) => (this.#misses(chain.writableBytes, queue) ? 0 : port.serveInput(chain)),
      })
      add(queue + 1, {
        serve: (chain) => (this.#misses(chain.readableBytes, queue + 1) ? 0 : port.serveOutput(chain)),
        endBatch: () => port.endBatch(),
      })
    }
    add(spec.CONTROL_RECEIVE_QUEUE, { serve: (chain) => this.#sendControl(chain) })
    add(spec.CONTROL_TRANSMIT_QUEUE, { serve: (chain) => this.#takeControl(chain) })
    this.#runners = runners
  }

  /** Without multiport there is one port, and it is open. */
  activate(): void {
    if (!this.#isMultiport) this.#setGuestOpen(this.port(0), true)
  }

  notify(queue: number): void {
    this.#runners[queue]?.run()
  }

  resetQueue(queue: number): void {
    this.ports.find(({ id }) => spec.receiveQueueOf(id) + 1 === queue)?.resetOutput()
  }

  reset(): void {
    for (const port of this.ports) {
      port.reset()
      this.#setGuestOpen(port, false)
    }
  }

  /** The emergency write, and nothing else. */
  writeConfig(offset: number, _size: number, value: number): void {
    if (offset === spec.CONFIG_EMERG_WR_OFFSET) this.port(0).writeByte(value & 0xff)
  }

  state(): ConsoleState {
    return { version: 1, ports: this.ports.map((port) => port.state()) }
  }

  /** @throws DevicesError ERR_DEVICE_STATE */
  restore(state: unknown): void {
    checkConsoleState(state, this.ports).forEach((saved, i) => {
      this.ports[i]?.restore(saved)
    })
    this.#writeSize()
  }

  get #isMultiport(): boolean {
    return ((this.#transport?.featuresLow ?? 0) & MULTIPORT_BIT) !== 0
  }

  /** Whether a buffer has no bytes for the device: such a one has no use. */
  #misses(bytes: number, queue: number): boolean {
    if (bytes === 0) this.#transport?.fault(BUFFER, queue)
    return bytes === 0
  }

  #sendControl(chain: DescriptorChain): number {
    const port = this.#isMultiport ? this.ports.find(({ pending }) => pending !== 0) : undefined
    if (port === undefined) return BUSY
    const what = firstOf(port.pending)
    const size = messageSize(port, what)
    if (chain.writableBytes < size) {
      this.#transport?.fault(BUFFER, spec.CONTROL_RECEIVE_QUEUE)
      return 0
    }
    if (!writeMessage(chain.writer(), port, what)) return 0
    port.told()
    return size
  }

  #takeControl(chain: DescriptorChain): number {
    const reader = chain.reader()
    const id = reader.readUint32()
    const event = reader.readUint16()
    const value = reader.readUint16()
    const isUnderstood = !reader.failed && this.#isMultiport && this.#control(id, event, value)
    if (!isUnderstood) this.#transport?.fault(CONTROL, spec.CONTROL_TRANSMIT_QUEUE)
    return 0
  }

  /** @returns whether there is such a message */
  #control(id: number, event: number, value: number): boolean {
    if (event === spec.VIRTIO_CONSOLE_DEVICE_READY) {
      if (value === 1) for (const port of this.ports) port.announce()
      return true
    }
    const port = this.ports[id]
    if (port === undefined) return false
    switch (event) {
      case spec.VIRTIO_CONSOLE_PORT_READY:
        port.setReady(value === 1)
        return true
      case spec.VIRTIO_CONSOLE_PORT_OPEN:
        // What it wrote before comes first.
        if (value !== 1) this.#runners[spec.receiveQueueOf(id) + 1]?.run()
        this.#setGuestOpen(port, value === 1)
        return true
      default:
        return false
    }
  }

  #setGuestOpen(port: ConsolePort, isOpen: boolean): void {
    if (!port.setGuestOpen(isOpen)) return
    if (isOpen) this.#events.guestOpened?.(port)
    else this.#events.guestClosed?.(port)
    if (isOpen) this.#runners[spec.receiveQueueOf(port.id)]?.run()
  }

  #resized({ id }: ConsolePort): void {
    if (id !== 0) return
    this.#writeSize()
    this.#transport?.configChanged()
  }

  /** The configuration space has the first port's alone. */
  #writeSize(): void {
    const { columns, rows } = this.port(0)
    this.#view.setUint16(spec.CONFIG_COLS_OFFSET, columns, true)
    this.#view.setUint16(spec.CONFIG_ROWS_OFFSET, rows, true)
  }
}
