/**
 * One connection: where it stands, what is to be sent for it, and what its stream is to be told (virtio 1.2, 5.10.6.4 and
 * 5.10.6.5). It knows nothing of queues, and calls nobody's code: what a stream is told it is told by {@link settle}, which
 * the device calls when the guest's packets have been dealt with.
 */
import type { Reader, Writer } from '@vmm/virtio-queue'
import type { DevicesErrorCode } from '../../error.ts'
import type { PendingCall } from '../../host.ts'
import {
  type ConnectionHost,
  type ConnectionStream,
  connectionError,
  type Opening,
  type StreamCallback,
} from './connection-host.ts'
import { Credit } from './credit.ts'
import type { PacketHeader } from './header.ts'
import { Incoming } from './incoming.ts'
import { Operations } from './operations.ts'
import { Outgoing } from './outgoing.ts'
import type { WriteChunk } from './send-buffer.ts'
import * as spec from './spec.ts'

/** The host asks, the guest has not answered. */
const CONNECTING = 0
/** The guest asks, the host has not answered. */
const REQUESTED = 1
const ESTABLISHED = 2
/** SHUTDOWN was sent for both directions: the guest answers with RST. */
const CLOSING = 3
/** Nothing more is received; perhaps an RST is still to be sent. */
const CLOSED = 4

/** What a packet led to. */
export const RECEIVED = 0
export const RECEIVED_BAD_OPERATION = 1
export const RECEIVED_TOO_MUCH = 2
export const RECEIVED_SHORT = 3
export type Received = 0 | 1 | 2 | 3

export class Connection {
  readonly hostPort: number
  readonly guestPort: number
  readonly credit: Credit
  /** Whether the device's queues have it: kept by the device. */
  inControl = false
  inData = false
  inWoken = false

  readonly #host: ConnectionHost
  readonly #operations = new Operations()
  readonly #incoming: Incoming
  readonly #outgoing = new Outgoing()
  #opening: Opening | undefined
  #stream: ConnectionStream | undefined
  #timer: PendingCall | undefined
  #state: number
  #shutdownFlags = 0
  #peerShutdown = 0
  #isCreditAsked = false
  /** Whoever answers the guest has been told of its request. */
  #isAsked = false
  #failure: Error | undefined
  /** The guest's ports are taken. */
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
    this.#incoming = new Incoming(this.credit)
    this.#opening = opening
    this.#state = asks ? CONNECTING : REQUESTED
    if (asks) this.#send(spec.VIRTIO_VSOCK_OP_REQUEST)
  }

  /** Whether the guest waits for the host's answer. */
  get isRequested(): boolean {
    return this.#state === REQUESTED
  }

  /** Whether the stream is still to be told things, or reads and writes. */
  get #isAlive(): boolean {
    return this.#opening !== undefined || this.#stream !== undefined
  }

  /** Whether there is something that the stream has not been given yet. */
  get hasUnread(): boolean {
    return this.#incoming.hasUnread
  }

  // What the device does

  /** Takes a packet of the guest. @param isWhole whether the payload is all in memory */
  receive(header: PacketHeader, payload: Reader, isWhole: boolean): Received {
    const state = this.#state
    if (state === CLOSED) {
      // The guest has let go of it as well: there is nobody to be told, and the next one may have the ports.
      if (header.op === spec.VIRTIO_VSOCK_OP_RST) {
        this.#operations.clear()
        this.#forget()
      }
      return RECEIVED
    }
    this.credit.update(header.bufAlloc, header.fwdCnt)
    if (header.op === spec.VIRTIO_VSOCK_OP_RST) {
      this.#peerReset()
      return RECEIVED
    }
    if (state === CLOSING) {
      // Both sides came to it at once: the guest waits for the same answer.
      if (header.op === spec.VIRTIO_VSOCK_OP_SHUTDOWN) {
        this.#peerShutsDown(header.flags & spec.VIRTIO_VSOCK_SHUTDOWN_BOTH)
      }
      return RECEIVED
    }
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
    const operation = this.#operations.take()
    if (operation === spec.VIRTIO_VSOCK_OP_RST) this.#forget()
    if (operation === spec.VIRTIO_VSOCK_OP_SHUTDOWN) this.#host.wake(this)
    return operation
  }

  /** Whether {@link takeOperation} has more. */
  get hasOperation(): boolean {
    return !this.#operations.isEmpty
  }

  /** Of a packet that is about to be sent. */
  flagsOf(operation: number): number {
    return operation === spec.VIRTIO_VSOCK_OP_SHUTDOWN ? this.#shutdownFlags : 0
  }

  /** Bytes of payload that may be sent now. Without credit the guest is asked for some. */
  offer(): number {
    const { left } = this.#outgoing
    if (left === 0) return 0
    const { sendable } = this.credit
    if (sendable > 0) {
      this.#isCreditAsked = false
    } else if (!this.#isCreditAsked) {
      this.#isCreditAsked = true
      this.#send(spec.VIRTIO_VSOCK_OP_CREDIT_REQUEST)
    }
    return Math.min(left, sendable)
  }

  /** Puts payload into a packet. @param length at most {@link offer} */
  fill(writer: Writer, length: number): void {
    this.#outgoing.fill(writer, length)
    this.credit.send(length)
    if (this.#outgoing.left === 0) this.#host.wake(this)
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
    const isEndSent = !this.#operations.has(spec.VIRTIO_VSOCK_OP_SHUTDOWN)
    this.#outgoing.settle(isEndSent, () => this.#failure ?? this.#brokenPipe())
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
    if (this.#operations.has(spec.VIRTIO_VSOCK_OP_REQUEST)) {
      this.#operations.clear()
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
    this.#incoming.want()
    this.#deliver()
  }

  /** Sends bytes; none are under way. */
  write(chunk: Uint8Array | readonly WriteChunk[], callback: StreamCallback): void {
    if (this.#isBroken) {
      callback(this.#brokenPipe())
      return
    }
    this.#outgoing.write(chunk, callback)
    if (this.#outgoing.left === 0) this.#host.wake(this)
    else this.#offerData()
  }

  /** All has been written, and sent. */
  finish(callback: StreamCallback): void {
    if (this.#isBroken) {
      callback()
      return
    }
    this.#outgoing.finish(callback)
    this.#shutdownFlags |= spec.VIRTIO_VSOCK_SHUTDOWN_SEND
    this.#send(spec.VIRTIO_VSOCK_OP_SHUTDOWN)
  }

  /**
   * The stream is at its end: in order, where there is no error and the guest then agrees, or at once.
   * @param lingerMs how long to wait for the guest to agree
   */
  end(error: Error | null, lingerMs: number): void {
    this.#stream = undefined
    this.#incoming.clear()
    this.#outgoing.forget()
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
    this.#operations.add(operation)
    this.#host.control(this)
  }

  #offerData(): void {
    if (this.offer() > 0) this.#host.data(this)
  }

  #established(): void {
    this.#state = ESTABLISHED
    this.#timer?.cancel()
  }

  #receiveData(length: number, payload: Reader, isWhole: boolean): Received {
    if (this.#incoming.isEnded) return this.#violated(RECEIVED_BAD_OPERATION)
    if (!isWhole) return this.#violated(RECEIVED_SHORT)
    if (!this.credit.receive(length)) return this.#violated(RECEIVED_TOO_MUCH)
    if (length > 0) {
      // Nobody reads a stream that has been destroyed, or will be.
      if (this.#failure === undefined && !this.#incoming.add(payload, length)) {
        return this.#violated(RECEIVED_SHORT)
      }
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
    if ((flags & spec.VIRTIO_VSOCK_SHUTDOWN_SEND) !== 0) this.#incoming.end()
    if ((flags & spec.VIRTIO_VSOCK_SHUTDOWN_RCV) !== 0) this.#outgoing.drop()
    if (this.#peerShutdown === spec.VIRTIO_VSOCK_SHUTDOWN_BOTH) this.#reset()
  }

  #peerReset(): void {
    if (this.#state === CONNECTING) this.#lose('ECONNREFUSED', 'nobody listens there')
    else this.#lose('ECONNRESET', 'the guest has reset the connection')
  }

  /** The connection is no more. What had come before the guest ended its side is still read. */
  #lose(code: DevicesErrorCode, what: string): void {
    if (!this.#incoming.isEnded) this.#fail(code, what)
    this.#operations.clear()
    this.#close()
    this.#host.wake(this)
    this.#forget()
  }

  /** An RST, and no packet after it. */
  #reset(): void {
    this.#close()
    this.#operations.clear()
    this.#send(spec.VIRTIO_VSOCK_OP_RST)
  }

  #close(): void {
    this.#state = CLOSED
    this.#outgoing.drop()
    this.#timer?.cancel()
    this.#timer = undefined
  }

  #fail(code: DevicesErrorCode, what: string): void {
    if (!this.#isAlive) return
    this.#failure ??= connectionError(code, this, what)
    this.#incoming.clear()
    this.#host.wake(this)
  }

  #forget(): void {
    if (!this.#isListed) return
    this.#isListed = false
    this.#host.forget(this)
    this.#releaseIfDone()
  }

  #releaseIfDone(): void {
    if (this.#isListed || this.#isAlive || this.#isReleased) return
    this.#isReleased = true
    this.#host.released()
  }

  #deliver(): void {
    const stream = this.#stream
    if (stream === undefined || this.#failure !== undefined) return
    this.#incoming.deliver(stream)
    if (this.credit.updateDue && this.#state === ESTABLISHED) this.#send(spec.VIRTIO_VSOCK_OP_CREDIT_UPDATE)
  }
}
