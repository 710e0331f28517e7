/**
 * The socket device: virtio 1.2 section 5.10. Streams between the guest's AF_VSOCK sockets and Node streams, in both
 * directions. Not here: SOCK_SEQPACKET, which is not offered.
 */
import type { DescriptorChain, Reader, Virtqueue } from '@vmm/virtio-queue'
import type { PendingCall } from '../../host.ts'
import { StateChecker } from '../../state.ts'
import { attachOnce } from '../attached.ts'
import type { VirtioDevice, VirtioTransport } from '../device.ts'
import { BUSY, LATER, QueueRunner } from '../queue-runner.ts'
import { VIRTIO_ID_VSOCK } from '../spec.ts'
import { Connection, RECEIVED, RECEIVED_SHORT, RECEIVED_TOO_MUCH } from './connection.ts'
import { type ConnectionHost, connectionError, type Opening } from './connection-host.ts'
import * as faults from './faults.ts'
import { PacketHeader } from './header.ts'
import { type VsockListener, VsockRequest } from './listener.ts'
import {
  checkTimeout,
  type VsockConnectOptions,
  type VsockOptions,
  type VsockSettings,
  vsockSettings,
} from './options.ts'
import { NO_ROOM, NOTHING, Outbox } from './outbox.ts'
import { checkPort, EPHEMERAL_FIRST, EPHEMERAL_LAST, Ports } from './ports.ts'
import * as spec from './spec.ts'
import { VsockStream, type VsockStreamOptions } from './stream.ts'
import { TransportReset } from './transport-reset.ts'
import { Turns } from './turns.ts'

/** Entries of the queues for packets: twice Linux's usual number of buffers. */
const QUEUE_SIZE = 256
/** Entries of the queue for events: as many as Linux has buffers for them. */
const EVENT_QUEUE_SIZE = 8
/** The most packets to take, or to send, in one turn of the event loop, */
const BATCH = 128
/** and the most bytes to take, but for the packet that passes it: some milliseconds. */
const BATCH_BYTES = 2 ** 23
/** For the guest to answer a call. */
const CONNECT_TIMEOUT_MS = 5000

/** What {@link Vsock.state} returns. Connections are not saved: a restored guest is told that they are gone. */
export interface VsockState {
  readonly version: 1
  /**
   * The host's port of the latest connection that it made. Those of a restored device come after it: the guest's programs may
   * still hold their ends of old ones, and Linux takes no other connection between the same ports until they let go.
   */
  readonly lastPort: number
}

/**
 * virtio-vsock.
 *
 * @example
 * ```ts
 * const vsock = new Vsock({ guestCid: 3 })
 * const transport = new MmioTransport({ device: vsock, memory, interrupt })
 * vsock.listen(1024, (stream) => stream.pipe(stream)) // what the guest dials
 * const stream = await vsock.connect(22) // what the guest listens on
 * ```
 */
export class Vsock implements VirtioDevice, Disposable {
  readonly type: number = VIRTIO_ID_VSOCK
  readonly featuresLow = 0
  readonly featuresHigh = 0
  readonly queueSizes: readonly number[] = [QUEUE_SIZE, QUEUE_SIZE, EVENT_QUEUE_SIZE]
  readonly config: Uint8Array = new Uint8Array(spec.VIRTIO_VSOCK_CONFIG_SIZE)
  readonly #settings: VsockSettings
  readonly #ports = new Ports<Opening>()
  readonly #outbox: Outbox
  readonly #header = new PacketHeader()
  readonly #host: ConnectionHost
  readonly #turns: Turns
  /** For a request on a port that nobody listens on. */
  #fallback: (() => Opening) | undefined
  /** Connections that anybody still holds something for. */
  #held = 0
  /** The guest is not listened to while answers to it find no room. */
  #isBlocked = false
  #isClosed = false
  #batchBytes = 0
  readonly #transportReset: TransportReset
  #transport: VirtioTransport | undefined
  #rx: QueueRunner | undefined
  #tx: QueueRunner | undefined
  #event: QueueRunner | undefined

  /** @throws DevicesError ERR_DEVICE_OPTION */
  constructor(options: VsockOptions) {
    this.#settings = vsockSettings(options)
    new DataView(this.config.buffer).setUint32(0, this.#settings.guestCid, true)
    this.#outbox = new Outbox(this.#settings.guestCid)
    this.#transportReset = new TransportReset(this.#settings.timers)
    this.#turns = new Turns({
      transmit: () => this.#transmit(),
      defer: (callback) => this.#transport?.defer(callback),
    })
    this.#host = this.#connectionHost()
  }

  /** The guest's CID. */
  get guestCid(): number {
    return this.#settings.guestCid
  }

  /** Connections that are there, being made and being closed included. */
  get connections(): number {
    return this.#held
  }

  /**
   * Takes connections that the guest makes to a port.
   * @param port 0 to 4294967294
   * @param onConnection gets the stream of each. What it throws is an uncaught exception, as from any event of a stream.
   * @throws DevicesError ERR_DEVICE_OPTION, EADDRINUSE
   */
  listen(
    port: number,
    onConnection: (stream: VsockStream) => void,
    options: VsockStreamOptions = {},
  ): VsockListener {
    this.#ports.listen(port, {
      requested: (connection) => {
        // Closed while the guest waited.
        if (isClosed) connection.cancel()
        else if (connection.accept()) onConnection(new VsockStream(connection, this.guestCid, options))
      },
    })
    let isClosed = false
    const close = (): void => {
      if (!isClosed) this.#ports.unlisten(port)
      isClosed = true
    }
    return { port, close, [Symbol.dispose]: close }
  }

  /**
   * Asks about connections to ports that nobody listens on. Without it the guest is refused.
   * @param onRequest answers now or later. One for the device: it takes the place of the one before.
   */
  onRequest(onRequest: ((request: VsockRequest) => void) | undefined): void {
    if (onRequest === undefined) {
      this.#fallback = undefined
      return
    }
    this.#fallback = () => {
      let request: VsockRequest | undefined
      return {
        requested: (connection) => {
          request = new VsockRequest(connection, this.guestCid)
          onRequest(request)
        },
        failed: (error) => request?.gone(error),
      }
    }
  }

  /**
   * Makes a connection to a port of the guest.
   * @param port 0 to 4294967294
   * @throws DevicesError ERR_DEVICE_OPTION; ECONNREFUSED where nobody listens, or the guest has no driver for the device
   *   yet; ETIMEDOUT; ECONNRESET where the guest resets its device meanwhile; EMFILE for too many connections; and the
   *   signal's reason
   */
  async connect(port: number, options: VsockConnectOptions = {}): Promise<VsockStream> {
    const { timeout = CONNECT_TIMEOUT_MS, signal } = options
    checkPort(port)
    checkTimeout(timeout)
    signal?.throwIfAborted()
    const name = { guestPort: port }
    // A device that is paused, or was restored, has its queues: the call waits for it to go on.
    if (this.#transport?.queue(spec.VIRTIO_VSOCK_QUEUE_RX) === undefined || this.#isClosed) {
      throw connectionError('ECONNREFUSED', name, 'the guest has no driver for the device yet')
    }
    if (this.#held >= this.#settings.maxConnections) {
      throw connectionError('EMFILE', name, `there are ${this.#held} connections, the most there may be`)
    }
    let abort = (): void => {}
    try {
      return await new Promise((resolve, reject) => {
        const opening: Opening = {
          opened: (opened) => resolve(new VsockStream(opened, this.guestCid, options)),
          failed: reject,
        }
        const ports = { hostPort: this.#ports.ephemeral(), guestPort: port }
        const connection = new Connection(this.#host, ports, this.#settings.bufferSize, opening, true)
        this.#held += 1
        this.#ports.addHostDialled(connection)
        connection.expireAfter(timeout, () =>
          connectionError('ETIMEDOUT', name, `no answer in ${timeout} ms`),
        )
        abort = () => {
          connection.cancel()
          reject(signal?.reason)
        }
        signal?.addEventListener('abort', abort)
      })
    } finally {
      signal?.removeEventListener('abort', abort)
    }
  }

  /**
   * Ends all connections, and touches guest memory no more: before that goes, since streams may outlive the VM. Who uses them
   * hears of it soon after. Idempotent.
   */
  close(): void {
    this.#dropConnections()
    this.#isClosed = true
  }

  [Symbol.dispose](): void {
    this.close()
  }

  attach(transport: VirtioTransport): void {
    this.#transport = attachOnce(this.#transport, transport, 'virtio-vsock')
    const { VIRTIO_VSOCK_QUEUE_RX, VIRTIO_VSOCK_QUEUE_TX, VIRTIO_VSOCK_QUEUE_EVENT } = spec
    const runner = (
      index: number,
      serve: (chain: DescriptorChain, isMapped: boolean, queue: Virtqueue) => number,
    ): QueueRunner => {
      const handler = {
        serve: (chain: DescriptorChain, queue: Virtqueue, _runner: unknown, isMapped: boolean) =>
          serve(chain, isMapped, queue),
        endBatch: () => {
          this.#batchBytes = 0
        },
      }
      return new QueueRunner(transport, index, handler, BATCH)
    }
    this.#rx = runner(VIRTIO_VSOCK_QUEUE_RX, (chain, isMapped) => this.#fill(chain, isMapped))
    this.#tx = runner(VIRTIO_VSOCK_QUEUE_TX, (chain, isMapped) => this.#take(chain, isMapped))
    this.#event = runner(VIRTIO_VSOCK_QUEUE_EVENT, (chain, isMapped, queue) =>
      this.#sendEvent(chain, isMapped, queue),
    )
  }

  activate(): void {
    // Before any packet of a new connection.
    if (this.#transportReset.isDue) this.#event?.run()
  }

  notify(queue: number): void {
    if (this.#isClosed) return
    if (queue === spec.VIRTIO_VSOCK_QUEUE_TX) this.#tx?.run()
    else if (queue === spec.VIRTIO_VSOCK_QUEUE_RX) this.#transmit()
    else if (this.#transportReset.isDue) this.#event?.run()
  }

  /** All connections are gone. Who listens goes on. */
  reset(): void {
    this.#transportReset.cancel()
    this.#dropConnections()
  }

  state(): VsockState {
    return { version: 1, lastPort: this.#ports.lastEphemeral }
  }

  /**
   * The guest is told that its connections are gone, and that its CID may be another one.
   * @throws DevicesError ERR_DEVICE_STATE
   */
  restore(state: unknown): void {
    const check = new StateChecker('virtio-vsock', state as object)
    check.version(1)
    this.#ports.lastEphemeral = check.integer('lastPort', EPHEMERAL_FIRST, EPHEMERAL_LAST)
    this.#transportReset.begin()
  }

  #connectionHost(): ConnectionHost {
    return {
      control: (connection) => {
        this.#outbox.control(connection)
        this.#turns.soon()
      },
      data: (connection) => {
        this.#outbox.data(connection)
        this.#turns.soon()
      },
      wake: (connection) => this.#turns.wake(connection),
      forget: (connection) => this.#ports.remove(connection),
      released: () => {
        this.#held -= 1
      },
      after: (delayMs, callback): PendingCall => this.#settings.timers.after(delayMs, callback),
    }
  }

  /** A packet of the guest. */
  #take(chain: DescriptorChain, isMapped: boolean): number {
    if (!this.#outbox.hasRoom) {
      this.#isBlocked = true
      return BUSY
    }
    if (this.#batchBytes >= BATCH_BYTES) return LATER
    const header = this.#header
    const reader = chain.reader()
    if (!header.read(reader)) {
      // The pop has reported memory that is not there.
      return isMapped ? this.#faulty(faults.FAULT_HEADER) : 0
    }
    if (!this.#isGuest(header.srcCid) || header.dstCid !== spec.VMADDR_CID_HOST) {
      return this.#faulty(faults.FAULT_ADDRESS)
    }
    if (header.type !== spec.VIRTIO_VSOCK_TYPE_STREAM) {
      this.#refuse(header)
      return this.#faulty(faults.FAULT_TYPE)
    }
    this.#dispatch(header, reader, isMapped)
    return 0
  }

  /** A guest that has not heard of its reset uses the CID that it had when it was saved. */
  #isGuest(cid: number): boolean {
    return cid === this.#settings.guestCid || this.#transportReset.isUnderWay
  }

  #dispatch(header: PacketHeader, reader: Reader, isMapped: boolean): void {
    const connection = this.#ports.find(header.dstPort, header.srcPort)
    if (connection === undefined) {
      if (header.op !== spec.VIRTIO_VSOCK_OP_REQUEST || !this.#request(header)) this.#refuse(header)
      return
    }
    this.#batchBytes += header.op === spec.VIRTIO_VSOCK_OP_RW ? header.len : 0
    const isWhole = isMapped && header.len <= reader.available
    const received = connection.receive(header, reader, isWhole)
    if (received === RECEIVED) return
    if (received === RECEIVED_TOO_MUCH) this.#faulty(faults.FAULT_CREDIT)
    else this.#faulty(received === RECEIVED_SHORT ? faults.FAULT_LENGTH : faults.FAULT_OPERATION)
  }

  /** @returns whether somebody will answer */
  #request(header: PacketHeader): boolean {
    if (this.#held >= this.#settings.maxConnections) return false
    const opening = this.#ports.listener(header.dstPort) ?? this.#fallback?.()
    if (opening === undefined) return false
    const ports = { hostPort: header.dstPort, guestPort: header.srcPort }
    const connection = new Connection(this.#host, ports, this.#settings.bufferSize, opening, false)
    connection.credit.update(header.bufAlloc, header.fwdCnt)
    this.#held += 1
    this.#ports.addGuestDialled(connection)
    this.#host.wake(connection)
    return true
  }

  /** An RST for what belongs to no connection, unless it is one. */
  #refuse(header: PacketHeader): void {
    if (header.op === spec.VIRTIO_VSOCK_OP_RST) return
    this.#outbox.reset(header.dstPort, header.srcPort, header.type)
    this.#turns.soon()
  }

  #faulty(fault: typeof faults.FAULT_HEADER): 0 {
    this.#transport?.fault(fault, spec.VIRTIO_VSOCK_QUEUE_TX)
    return 0
  }

  /** A buffer for a packet to the guest. */
  #fill(chain: DescriptorChain, isMapped: boolean): number {
    // The pop has reported memory that is not there.
    if (!isMapped) return 0
    const written = this.#outbox.next(chain.writer(), chain.writableBytes)
    if (written === NOTHING) return BUSY
    if (written !== NO_ROOM) return written
    this.#transport?.fault(faults.FAULT_BUFFER, spec.VIRTIO_VSOCK_QUEUE_RX)
    return 0
  }

  /** A buffer for an event. */
  #sendEvent(chain: DescriptorChain, isMapped: boolean, queue: Virtqueue): number {
    if (!this.#transportReset.isDue) return BUSY
    if (!isMapped) return 0
    if (!chain.writer().writeUint32(spec.VIRTIO_VSOCK_EVENT_TRANSPORT_RESET)) {
      this.#transport?.fault(faults.FAULT_BUFFER, spec.VIRTIO_VSOCK_QUEUE_EVENT)
      return 0
    }
    this.#transportReset.sent(queue)
    return spec.VIRTIO_VSOCK_EVENT_SIZE
  }

  #dropConnections(): void {
    for (const connection of this.#ports.all()) connection.abandon()
    this.#outbox.clear()
    this.#isBlocked = false
  }

  #transmit(): void {
    // A pause ends with a look at every queue.
    if (this.#isClosed || this.#transport?.running !== true) return
    if (!this.#outbox.isEmpty && this.#isGuestListening()) this.#rx?.run()
    if (!this.#isBlocked || !this.#outbox.hasRoom) return
    this.#isBlocked = false
    this.#tx?.run()
  }

  /** Whether the guest takes packets for what they are. */
  #isGuestListening(): boolean {
    const events = this.#transport?.queue(spec.VIRTIO_VSOCK_QUEUE_EVENT)
    return this.#transportReset.isOver(events, () => this.#transmit())
  }
}
