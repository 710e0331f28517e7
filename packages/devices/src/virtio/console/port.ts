/**
 * One port of a console device: a byte stream each way between the guest and a Duplex of the host. Either side opens and
 * closes it.
 */
import type { Duplex } from 'node:stream'
import type { DescriptorChain } from '@vmm/virtio-queue'
import { DevicesError } from '../../error.ts'
import { BUSY, LATER } from '../queue-runner.ts'
import { firstOf, TELL_ADD, TELL_CLOSED, TELL_CONSOLE, TELL_NAME, TELL_OPEN, TELL_SIZE } from './control.ts'
import type { PortSettings } from './options.ts'
import { checkSize } from './options.ts'
import type { PortStreamHost } from './port-stream.ts'
import { PortStream } from './port-stream.ts'
import type { ConsolePortState } from './state.ts'

/** The longest chunk that a stream gets. */
const CHUNK_BYTES = 2 ** 16
/** What is copied out of guest memory in one turn of the event loop, whoever reads how fast. */
const TURN_BYTES = 2 ** 20

/** What a port asks of its device. */
export interface PortHost {
  /** Serves the guest's output. */
  runOutput(port: ConsolePort): void
  /** Serves the guest's buffers for input. */
  runInput(port: ConsolePort): void
  /** There is something to tell the driver. */
  tell(): void
  /** The size has changed. */
  resized(port: ConsolePort): void
  outputLost(port: ConsolePort, bytes: number): void
}

/** A port, for the device's life. */
export class ConsolePort {
  /** 0 for the first. */
  readonly id: number
  /** Empty for none. */
  readonly name: string
  /** Whether the guest has it as `hvc0` and so on. */
  readonly isConsole: boolean
  /** @internal */
  readonly settings: PortSettings
  /** @internal */
  readonly nameBytes: Uint8Array
  /** @internal What the driver is to be told: `TELL_…` bits. */
  pending = 0

  readonly #host: PortHost
  readonly #streamHost: PortStreamHost
  #stream: PortStream | undefined
  #columns: number
  #rows: number
  #guestOpen = false
  /** The driver has set the port up, and hears of changes. */
  #ready = false
  /** The driver takes the host's side for open, or will. */
  #toldOpen = false
  /** Bytes of the first chain of output that were read, before there was no more room. */
  #outputOffset = 0
  #turnBytes = TURN_BYTES

  /** @internal */
  constructor(id: number, settings: PortSettings, host: PortHost) {
    this.id = id
    this.name = settings.name
    this.isConsole = settings.isConsole
    this.settings = settings
    this.nameBytes = new TextEncoder().encode(settings.name)
    this.#columns = settings.columns
    this.#rows = settings.rows
    this.#host = host
    this.#streamHost = {
      outputWanted: () => host.runOutput(this),
      inputReady: () => host.runInput(this),
      closed: (stream) => this.#closed(stream),
    }
  }

  /** Whether the guest has the port open. */
  get guestOpen(): boolean {
    return this.#guestOpen
  }

  /** Whether a stream of {@link open} is. */
  get hostOpen(): boolean {
    return this.#stream !== undefined
  }

  /** In characters; 0: unknown. */
  get columns(): number {
    return this.#columns
  }

  /** In characters; 0: unknown. */
  get rows(): number {
    return this.#rows
  }

  /**
   * Opens the port on the host's side. One stream at a time; it outlives the guest's opens, closes and resets. What is
   * written to it waits until the guest has opened the port. `end` ends the input, and `destroy` closes the port: then
   * the guest's output is dropped.
   * @throws DevicesError ERR_DEVICE_BUSY while there is one
   * @example
   * ```ts
   * const terminal = port.open()
   * process.stdin.pipe(terminal).pipe(process.stdout)
   * ```
   */
  open(): Duplex {
    if (this.#stream !== undefined) {
      throw new DevicesError('ERR_DEVICE_BUSY', `virtio-console: port ${this.id} has a stream already`)
    }
    const stream = new PortStream(this.#streamHost, this.settings.bufferBytes)
    this.#stream = stream
    this.#tellOpen()
    return stream
  }

  /**
   * Tells the guest another size of the terminal behind a console.
   * @param columns in characters, up to 65535; 0: unknown
   * @throws DevicesError ERR_DEVICE_OPTION
   */
  resize(columns: number, rows: number): void {
    checkSize(columns, rows)
    if (columns === this.#columns && rows === this.#rows) return
    this.#columns = columns
    this.#rows = rows
    if (this.isConsole && this.#ready) this.#tell(TELL_SIZE)
    this.#host.resized(this)
  }

  /** @internal The driver has opened or closed its side. @returns whether that is news */
  setGuestOpen(isOpen: boolean): boolean {
    if (this.#guestOpen === isOpen) return false
    this.#guestOpen = isOpen
    return true
  }

  /** @internal The driver asks for the ports. */
  announce(): void {
    this.#tell(TELL_ADD)
  }

  /** @internal The driver has set the port up, or cannot. */
  setReady(isReady: boolean): void {
    this.#ready = isReady
    if (!isReady) return
    if (this.isConsole) this.#tell(TELL_CONSOLE)
    if (this.name !== '') this.#tell(TELL_NAME)
    if (this.isConsole && (this.#columns !== 0 || this.#rows !== 0)) this.#tell(TELL_SIZE)
    this.#tellOpen()
  }

  /** @internal The driver has been told the first of what is pending. */
  told(): void {
    this.pending &= ~firstOf(this.pending)
  }

  /** @internal Back to what it is without a driver; the host's stream stays. */
  reset(): void {
    this.pending = 0
    this.#ready = false
    this.#toldOpen = false
    this.#outputOffset = 0
  }

  /** @internal The queue with output begins anew. */
  resetOutput(): void {
    this.#outputOffset = 0
  }

  /** @internal A batch is over. */
  endBatch(): void {
    this.#turnBytes = TURN_BYTES
  }

  /** @internal Output of the guest. @returns as `ChainHandler.serve` */
  serveOutput(chain: DescriptorChain): number {
    const reader = chain.reader()
    reader.skip(Math.min(this.#outputOffset, reader.available))
    this.#outputOffset = 0
    while (reader.available > 0) {
      const stream = this.#stream
      // Nobody is there to read it.
      if (stream === undefined) return 0
      const { room } = stream
      if (room <= 0 && this.settings.overflow === 'drop') {
        this.#host.outputLost(this, reader.available)
        return 0
      }
      if (room <= 0 || this.#turnBytes <= 0) {
        this.#outputOffset = reader.consumed
        return room <= 0 ? BUSY : LATER
      }
      const chunk = Buffer.allocUnsafe(Math.min(reader.available, room, this.#turnBytes, CHUNK_BYTES))
      const length = reader.read(chunk)
      // What follows is not in guest memory.
      if (length === 0) return 0
      this.#turnBytes -= length
      stream.giveOutput(chunk.subarray(0, length))
    }
    return 0
  }

  /** @internal A buffer of the guest's for input. @returns as `ChainHandler.serve` */
  serveInput(chain: DescriptorChain): number {
    const stream = this.#stream
    if (stream === undefined || !this.#guestOpen || !stream.hasInput) return BUSY
    const writer = chain.writer()
    let total = 0
    while (stream.hasInput && writer.available > 0) {
      const count = stream.giveInput(writer)
      if (count === 0) break
      total += count
    }
    return total
  }

  /** @internal A character by the emergency write. */
  writeByte(byte: number): void {
    const stream = this.#stream
    if (stream === undefined) return
    if (stream.room > 0) stream.giveOutput(Buffer.of(byte))
    else this.#host.outputLost(this, 1)
  }

  /** @internal */
  state(): ConsolePortState {
    return {
      name: this.name,
      console: this.isConsole,
      columns: this.#columns,
      rows: this.#rows,
      guestOpen: this.#guestOpen,
      ready: this.#ready,
      toldOpen: this.#toldOpen,
      pending: this.pending,
      outputOffset: this.#outputOffset,
    }
  }

  /** @internal A checked state. The host's connection of before is gone. */
  restore(state: ConsolePortState): void {
    this.#columns = state.columns
    this.#rows = state.rows
    this.#guestOpen = state.guestOpen
    this.#ready = state.ready
    this.#outputOffset = state.outputOffset
    this.pending = state.pending & ~TELL_OPEN
    if (state.toldOpen) this.pending |= TELL_CLOSED
    this.#toldOpen = false
    this.#tellOpen()
  }

  #tellOpen(): void {
    if (!this.#ready || this.#stream === undefined) return
    this.#toldOpen = true
    this.#tell(TELL_OPEN)
  }

  #closed(stream: PortStream): void {
    if (this.#stream !== stream) return
    this.#stream = undefined
    if (this.#toldOpen) {
      this.#toldOpen = false
      this.pending &= ~TELL_OPEN
      this.#tell(TELL_CLOSED)
    }
    // What the guest waits to write goes nowhere now.
    this.#host.runOutput(this)
  }

  #tell(what: number): void {
    this.pending |= what
    this.#host.tell()
  }
}
