/**
 * One connection: where it stands, what is to be sent for it, and what its stream is to be told (virtio 1.2, 5.10.6.4 and
 * 5.10.6.5). It knows nothing of queues, and calls nobody's code: what a stream is told it is told by {@link settle}, which
 * the device calls when the guest's packets have been dealt with.
 */
import type { Writer } from '@vmm/virtio-queue'
import { DevicesError, type DevicesErrorCode } from '../../error.ts'
import type { PendingCall } from '../../host.ts'
import { Credit } from './credit.ts'
import type { PacketHeader } from './header.ts'
import { ReceiveBuffer } from './receive-buffer.ts'
import { SendBuffer, type WriteChunk } from './send-buffer.ts'
import * as spec from './spec.ts'

/** What the device does for its connections. */
export interface ConnectionHost {
  /** There is a packet without payload to send: {@link Connection.takeOperation}. */
  control(connection: Connection): void
  /** There is payload to send. */
  data(connection: Connection): void
  /** {@link Connection.settle} has something to do. */
  wake(connection: Connection): void
  /** The guest's port pair is free again. */
  forget(connection: Connection): void
  /** Nobody holds anything for the connection any more. */
  released(): void
  /** Calls back later. */
  after(delayMs: number, callback: () => void): PendingCall
}

/** The stream of a connection, as far as the connection needs one. */
export interface ConnectionStream {
  push(chunk: Uint8Array | null): boolean
  destroy(error?: Error): unknown
}

/** What becomes of a connection that is being made. */
export interface Opening {
  /** The guest waits for an answer, and gets it by `accept` or `fail`. */
  requested?(connection: Connection): void
  /** The guest has accepted. */
  opened?(connection: Connection): void
  /** It came to nothing. */
  failed?(error: Error): void
}

/** The host asks, the guest has not answered. */
const CONNECTING = 0
/** The guest asks, the host has not answered. */
const REQUESTED = 1
const ESTABLISHED = 2
/** SHUTDOWN was sent for both directions: the guest answers with RST. */
const CLOSING = 3
/** Nothing more is received; perhaps an RST is still to be sent. */
const CLOSED = 4

/** Packets to be sent, in this order: bits of their numbers. */
const bit = (operation: number): number => 1 << operation
const ORDER = [
  spec.VIRTIO_VSOCK_OP_REQUEST,
  spec.VIRTIO_VSOCK_OP_RESPONSE,
  spec.VIRTIO_VSOCK_OP_CREDIT_UPDATE,
  spec.VIRTIO_VSOCK_OP_CREDIT_REQUEST,
  spec.VIRTIO_VSOCK_OP_SHUTDOWN,
  spec.VIRTIO_VSOCK_OP_RST,
] as const

/** What a packet led to. */
export const RECEIVED = 0
export const RECEIVED_BAD_OPERATION = 1
export const RECEIVED_TOO_MUCH = 2
export const RECEIVED_SHORT = 3
export type Received = 0 | 1 | 2 | 3

type Callback = (error?: Error | null) => void

export class Connection {
  readonly hostPort: number
  readonly guestPort: number
  readonly credit: Credit
  /** Whether the device's queues have it: kept by the device. */
  inControl = false
  inData = false
  inWoken = false

  readonly #host: ConnectionHost
  readonly #received = new ReceiveBuffer()
  readonly #sending = new SendBuffer()
  #opening: Opening | undefined
  #stream: ConnectionStream | undefined
  #timer: PendingCall | undefined
  #state: number
  #operations = 0
  #shutdownFlags = 0
  #peerShutdown = 0
  /** The stream asks for more. */
  #wants = false
  /** Bytes that are in the stream's own buffer. */
  #inStream = 0
  #endTold = false
  #writing: Callback | undefined
  #finishing: Callback | undefined
  #creditAsked = false
  /** The write under way did not reach the guest as a whole. */
  #isLost = false
  #isAsked = false
  #failure: Error | undefined
  #isListed = true
  #isReleased = false

  /** @param asks whether the host dials */
  constructor(
    host: ConnectionHost,
    ports: { readonly hostPort: number; readonly guestPort: number },
    bufferSize: number,
    opening: Opening,
    asks: boolean,
  ) {
    this.#host = host
    this.hostPort = ports.hostPort
    this.guestPort = ports.guestPort
    this.credit = new Credit(bufferSize)
    this.#opening = opening
    this.#state = asks ? CONNECTING : REQUESTED
    if (asks) this.#send(spec.VIRTIO_VSOCK_OP_REQUEST)
  }

  /** Whether the guest waits for the host's answer. */
  get isRequested(): boolean {
    return this.#state === REQUESTED
  }

  /** Whether the stream is still to be told things, or reads and writes. */
  get isAlive(): boolean {
    return this.#opening !== undefined || this.#stream !== undefined
  }

  // What the device does

  /** Takes a packet of the guest. @param isWhole whether the payload is all in memory */
  receive(header: PacketHeader, payload: Parameters<ReceiveBuffer['add']>[0], isWhole: boolean): Received {
    const state = this.#state
    if (state === CLOSED) return RECEIVED
    this.credit.update(header.bufAlloc, header.fwdCnt)
    if (header.op === spec.VIRTIO_VSOCK_OP_RST) {
      this.#peerReset()
      return RECEIVED
    }
    if (state === CLOSING) return RECEIVED
    if (state === CONNECTING && header.op === spec.VIRTIO_VSOCK_OP_RESPONSE) {
      this.#established()
      this.#host.wake(this)
      return RECEIVED
    }
    if (state !== ESTABLISHED) return this.#violated(RECEIVED_BAD_OPERATION)
    switch (header.op) {
      case spec.VIRTIO_VSOCK_OP_RW:
        return this.#receiveData(header.len, payload, isWhole)
      case spec.VIRTIO_VSOCK_OP_CREDIT_UPDATE:
        break
      case spec.VIRTIO_VSOCK_OP_CREDIT_REQUEST:
        this.#send(spec.VIRTIO_VSOCK_OP_CREDIT_UPDATE)
        break
      case spec.VIRTIO_VSOCK_OP_SHUTDOWN:
        this.#peerShutsDown(header.flags & spec.VIRTIO_VSOCK_SHUTDOWN_BOTH)
        break
      default:
        return this.#violated(RECEIVED_BAD_OPERATION)
    }
    this.#offerData()
    return RECEIVED
  }

  /** The next packet without payload that is to be sent, 0 for none. Its flags are {@link flagsOf}. */
  takeOperation(): number {
    for (const operation of ORDER) {
      if ((this.#operations & bit(operation)) === 0) continue
      this.#operations &= ~bit(operation)
      if (operation === spec.VIRTIO_VSOCK_OP_RST) this.#forget()
      if (operation === spec.VIRTIO_VSOCK_OP_SHUTDOWN && this.#finishing !== undefined) this.#host.wake(this)
      return operation
    }
    return 0
  }

  /** Whether {@link takeOperation} has more. */
  get hasOperation(): boolean {
    return this.#operations !== 0
  }

  /** Of a packet that is about to be sent. */
  flagsOf(operation: number): number {
    return operation === spec.VIRTIO_VSOCK_OP_SHUTDOWN ? this.#shutdownFlags : 0
  }

  /** Bytes of payload that may be sent now. Without credit the guest is asked for some. */
  offer(): number {
    const { left } = this.#sending
    if (left === 0) return 0
    const { sendable } = this.credit
    if (sendable > 0) {
      this.#creditAsked = false
    } else if (!this.#creditAsked) {
      this.#creditAsked = true
      this.#send(spec.VIRTIO_VSOCK_OP_CREDIT_REQUEST)
    }
    return Math.min(left, sendable)
  }

  /** Puts payload into a packet. @param length at most {@link offer} */
  fill(writer: Writer, length: number): void {
    this.#sending.fill(writer, length)
    this.credit.send(length)
    if (this.#sending.left === 0) this.#host.wake(this)
  }

  /** The transport is gone, or starts anew: nothing can be sent any more. */
  abandon(): void {
    this.#lose('ECONNRESET', "the guest's device was reset")
  }

  /** Tells the stream what has happened. Runs code of the user's, which may throw. */
  settle(): void {
    const opening = this.#opening
    if (opening !== undefined) {
      if (this.#failure !== undefined) {
        this.#opening = undefined
        this.#releaseIfDone()
        opening.failed?.(this.#failure)
        return
      }
      if (this.#state === REQUESTED) {
        if (!this.#isAsked) {
          this.#isAsked = true
          opening.requested?.(this)
        }
        return
      }
      this.#opening = undefined
      opening.opened?.(this)
    }
    this.#tellWriter()
    if (this.#failure === undefined) this.#deliver()
    else this.#stream?.destroy(this.#failure)
  }

  // What the host's side does

  /** The stream of an established connection. */
  attach(stream: ConnectionStream): void {
    this.#stream = stream
  }

  /** Answers the guest's request. @returns false where it does not wait any more */
  accept(): boolean {
    if (this.#state !== REQUESTED) return false
    this.#opening = undefined
    this.#established()
    this.#send(spec.VIRTIO_VSOCK_OP_RESPONSE)
    return true
  }

  /** Gives up what has no stream yet: the guest gets an RST. */
  cancel(): void {
    if (this.#opening === undefined) return
    this.#opening = undefined
    // A request that the guest has not seen needs no end.
    if ((this.#operations & bit(spec.VIRTIO_VSOCK_OP_REQUEST)) !== 0) {
      this.#operations = 0
      this.#close()
      this.#forget()
    } else if (this.#state !== CLOSED) this.#reset()
    this.#releaseIfDone()
  }

  /** Ends the attempt to connect, after so long. @param failure what becomes of it */
  expireAfter(delayMs: number, failure: () => Error): void {
    this.#timer = this.#host.after(delayMs, () => {
      const opening = this.#opening
      this.cancel()
      opening?.failed?.(failure())
    })
  }

  /** The stream wants to be given data, as it comes. */
  read(): void {
    this.#wants = true
    if (this.#inStream > 0) {
      const length = this.#inStream
      this.#inStream = 0
      this.#forward(length)
    }
    this.#deliver()
  }

  /** Sends bytes; none are under way. */
  write(chunk: Uint8Array | readonly WriteChunk[], callback: Callback): void {
    if (this.#isBroken) {
      callback(this.#brokenPipe())
      return
    }
    if (chunk instanceof Uint8Array) this.#sending.set(chunk)
    else this.#sending.setAll(chunk)
    this.#writing = callback
    if (this.#sending.left === 0) this.#host.wake(this)
    else this.#offerData()
  }

  /** All has been written, and sent. */
  finish(callback: Callback): void {
    if (this.#isBroken) {
      callback()
      return
    }
    this.#finishing = callback
    this.#shutdownFlags |= spec.VIRTIO_VSOCK_SHUTDOWN_SEND
    this.#send(spec.VIRTIO_VSOCK_OP_SHUTDOWN)
  }

  /**
   * The stream is at its end: in order, where there is no error and the guest then agrees, or at once.
   * @param lingerMs how long to wait for the guest to agree
   */
  end(error: Error | null, lingerMs: number): void {
    this.#stream = undefined
    this.#received.clear()
    this.#sending.clear()
    this.#writing = undefined
    this.#finishing = undefined
    if (this.#state === ESTABLISHED) {
      if (error !== null) this.#reset()
      else {
        this.#shutdownFlags = spec.VIRTIO_VSOCK_SHUTDOWN_BOTH
        this.#state = CLOSING
        this.#send(spec.VIRTIO_VSOCK_OP_SHUTDOWN)
        this.#timer = this.#host.after(lingerMs, () => this.#reset())
      }
    }
    this.#releaseIfDone()
  }

  // Steps

  get #isBroken(): boolean {
    return this.#state !== ESTABLISHED || (this.#peerShutdown & spec.VIRTIO_VSOCK_SHUTDOWN_RCV) !== 0
  }

  #brokenPipe(): Error {
    return connectionError('EPIPE', this, 'the guest does not receive any more')
  }

  #send(operation: number): void {
    this.#operations |= bit(operation)
    this.#host.control(this)
  }

  #offerData(): void {
    if (this.offer() > 0) this.#host.data(this)
  }

  #established(): void {
    this.#state = ESTABLISHED
    this.#timer?.cancel()
  }

  #receiveData(length: number, payload: Parameters<ReceiveBuffer['add']>[0], isWhole: boolean): Received {
    if ((this.#peerShutdown & spec.VIRTIO_VSOCK_SHUTDOWN_SEND) !== 0)
      return this.#violated(RECEIVED_BAD_OPERATION)
    if (!isWhole) return this.#violated(RECEIVED_SHORT)
    if (!this.credit.receive(length)) return this.#violated(RECEIVED_TOO_MUCH)
    if (length > 0) {
      // Nobody reads a stream that has been destroyed, or will be.
      if (this.#failure === undefined && !this.#received.add(payload, length))
        return this.#violated(RECEIVED_SHORT)
      this.#host.wake(this)
    }
    this.#offerData()
    return RECEIVED
  }

  #violated(how: Received): Received {
    this.#fail('ECONNRESET', 'the guest broke the protocol')
    this.#reset()
    return how
  }

  #peerShutsDown(flags: number): void {
    if ((flags & ~this.#peerShutdown) === 0) return
    this.#peerShutdown |= flags
    this.#host.wake(this)
    if ((this.#peerShutdown & spec.VIRTIO_VSOCK_SHUTDOWN_RCV) !== 0) this.#dropUnsent()
    if (this.#peerShutdown === spec.VIRTIO_VSOCK_SHUTDOWN_BOTH) this.#reset()
  }

  #peerReset(): void {
    if (this.#state === CONNECTING) this.#lose('ECONNREFUSED', 'nobody listens there')
    else this.#lose('ECONNRESET', 'the guest has reset the connection')
  }

  /** The connection is no more. What had come before the guest ended its side is still read. */
  #lose(code: DevicesErrorCode, what: string): void {
    if ((this.#peerShutdown & spec.VIRTIO_VSOCK_SHUTDOWN_SEND) === 0) this.#fail(code, what)
    this.#operations = 0
    this.#close()
    this.#host.wake(this)
    this.#forget()
  }

  /** An RST, and no packet after it. */
  #reset(): void {
    this.#close()
    this.#operations = 0
    this.#send(spec.VIRTIO_VSOCK_OP_RST)
  }

  #close(): void {
    this.#state = CLOSED
    this.#dropUnsent()
    this.#timer?.cancel()
    this.#timer = undefined
  }

  #dropUnsent(): void {
    if (this.#sending.left > 0) this.#isLost = true
    this.#sending.clear()
  }

  #fail(code: DevicesErrorCode, what: string): void {
    if (!this.isAlive) return
    this.#failure ??= connectionError(code, this, what)
    this.#received.clear()
    this.#host.wake(this)
  }

  #forget(): void {
    if (!this.#isListed) return
    this.#isListed = false
    this.#host.forget(this)
    this.#releaseIfDone()
  }

  #releaseIfDone(): void {
    if (this.#isListed || this.isAlive || this.#isReleased) return
    this.#isReleased = true
    this.#host.released()
  }

  #forward(length: number): void {
    this.credit.forward(length)
    if (this.credit.updateDue && this.#state === ESTABLISHED) this.#send(spec.VIRTIO_VSOCK_OP_CREDIT_UPDATE)
  }

  /** As much as the stream takes: what it keeps in a buffer of its own counts as read when it asks for more. */
  #deliver(): void {
    const stream = this.#stream
    if (stream === undefined || this.#failure !== undefined) return
    while (this.#wants) {
      const chunk = this.#received.take()
      if (chunk === undefined) break
      if (stream.push(chunk)) this.#forward(chunk.length)
      else {
        this.#wants = false
        this.#inStream += chunk.length
      }
    }
    const isOver = (this.#peerShutdown & spec.VIRTIO_VSOCK_SHUTDOWN_SEND) !== 0 && this.#received.isEmpty
    if (!isOver || this.#endTold || stream !== this.#stream) return
    this.#endTold = true
    stream.push(null)
  }

  #tellWriter(): void {
    const writing = this.#writing
    if (writing !== undefined && this.#sending.left === 0) {
      this.#writing = undefined
      writing(this.#isLost ? (this.#failure ?? this.#brokenPipe()) : null)
    }
    const finishing = this.#finishing
    if (finishing !== undefined && (this.#operations & bit(spec.VIRTIO_VSOCK_OP_SHUTDOWN)) === 0) {
      this.#finishing = undefined
      finishing()
    }
  }
}

/** An error as those of Node's sockets. */
export function connectionError(
  code: DevicesErrorCode,
  { hostPort, guestPort }: { readonly hostPort?: number; readonly guestPort: number },
  what: string,
): DevicesError {
  const host = hostPort === undefined ? '' : ` with port ${hostPort} of the host`
  return new DevicesError(code, `vsock: port ${guestPort} of the guest${host}: ${what}`)
}
