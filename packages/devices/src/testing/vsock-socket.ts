/** A stream socket of AF_VSOCK in the mock guest, as a Node stream. It does what Linux's sockets do with credit. */
import { Buffer } from 'node:buffer'
import { Duplex } from 'node:stream'
import * as spec from '../virtio/vsock/spec.ts'
import type { MockVsockGuest } from './vsock-guest.ts'
import type { MockVsockPacket } from './vsock-packet.ts'

type Callback = (error?: Error | null) => void

/** Linux tells the sender of room when less than this is left. */
const ROOM_LOW = 65_536

/** One end in the guest. Emits `'connect'` when the host has accepted. Half-open where the host ends first. */
export class MockVsockSocket extends Duplex {
  /** The guest's port. */
  readonly localPort: number
  /** The host's port. */
  readonly remotePort: number
  /** The most bytes that were in flight to this socket: never above its buffer, if the device keeps the rules. */
  heldMost = 0
  /** Whether the host has sent RST. */
  wasReset = false
  readonly #guest: MockVsockGuest
  #sent = 0
  #peerBuffer = 0
  #peerForwarded = 0
  #received = 0
  #forwarded = 0
  #advertised = 0
  #held: Buffer[] = []
  #wants = false
  #isConnected = false
  #peerEnded = false
  #isGone = false
  #unsent: Buffer | undefined
  #written: Callback | undefined

  /** @internal */
  constructor(guest: MockVsockGuest, localPort: number, remotePort: number) {
    super({ allowHalfOpen: true, readableHighWaterMark: 1 })
    this.#guest = guest
    this.localPort = localPort
    this.remotePort = remotePort
  }

  /** @internal */
  dial(): void {
    this.#packet(spec.VIRTIO_VSOCK_OP_REQUEST)
  }

  /** @internal */
  accept(request: MockVsockPacket): void {
    this.#credit(request)
    this.#isConnected = true
    this.#packet(spec.VIRTIO_VSOCK_OP_RESPONSE)
  }

  /** @internal */
  receive(packet: MockVsockPacket): void {
    this.#credit(packet)
    if (packet.op === spec.VIRTIO_VSOCK_OP_RESPONSE) {
      this.#isConnected = true
      this.emit('connect')
    } else if (packet.op === spec.VIRTIO_VSOCK_OP_RW) {
      this.#received = (this.#received + packet.len) >>> 0
      const held = (this.#received - this.#advertised) >>> 0
      this.heldMost = Math.max(this.heldMost, held)
      this.#held.push(Buffer.from(packet.payload))
    } else if (packet.op === spec.VIRTIO_VSOCK_OP_CREDIT_REQUEST) {
      this.#packet(spec.VIRTIO_VSOCK_OP_CREDIT_UPDATE)
    } else if (packet.op === spec.VIRTIO_VSOCK_OP_SHUTDOWN) {
      if ((packet.flags & spec.VIRTIO_VSOCK_SHUTDOWN_SEND) !== 0) this.#peerEnded = true
      if (packet.flags === spec.VIRTIO_VSOCK_SHUTDOWN_BOTH) {
        this.#packet(spec.VIRTIO_VSOCK_OP_RST)
        this.#gone()
      }
    } else if (packet.op === spec.VIRTIO_VSOCK_OP_RST) {
      this.wasReset = true
      const isRefused = !this.#isConnected
      this.#peerEnded = true
      this.#gone()
      if (isRefused) this.destroy(Object.assign(new Error('refused'), { code: 'ECONNRESET' }))
    }
    this.#flush()
    this.#deliver()
  }

  /** The transport was reset. @internal */
  reset(): void {
    this.#isGone = true
    this.destroy(Object.assign(new Error('the transport was reset'), { code: 'ECONNRESET' }))
  }

  /** Closes both sides at once, as close(2) does. */
  closeNow(): void {
    this.destroy()
  }

  override _read(): void {
    this.#wants = true
    this.#deliver()
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: Callback): void {
    if (this.#isGone) {
      callback(Object.assign(new Error('gone'), { code: 'EPIPE' }))
      return
    }
    this.#unsent = chunk.length > 0 ? chunk : undefined
    this.#written = callback
    this.#flush()
  }

  override _final(callback: Callback): void {
    if (!this.#isGone && !this.#isConnected) {
      this.once('connect', () => this._final(callback))
      return
    }
    if (!this.#isGone) this.#packet(spec.VIRTIO_VSOCK_OP_SHUTDOWN, spec.VIRTIO_VSOCK_SHUTDOWN_SEND)
    callback()
  }

  override _destroy(error: Error | null, callback: Callback): void {
    // The host answers with RST; until then the ports are taken.
    if (!this.#isGone) this.#packet(spec.VIRTIO_VSOCK_OP_SHUTDOWN, spec.VIRTIO_VSOCK_SHUTDOWN_BOTH)
    callback(error)
  }

  #credit(packet: MockVsockPacket): void {
    this.#peerBuffer = packet.bufAlloc
    this.#peerForwarded = packet.fwdCnt
  }

  #flush(): void {
    while (this.#unsent !== undefined && !this.#isGone && this.#isConnected) {
      const room = this.#peerBuffer - ((this.#sent - this.#peerForwarded) >>> 0)
      const length = Math.min(this.#unsent.length, room, this.#guest.payloadMax)
      if (length <= 0) return
      this.#packet(spec.VIRTIO_VSOCK_OP_RW, 0, this.#unsent.subarray(0, length))
      this.#sent = (this.#sent + length) >>> 0
      this.#unsent = length === this.#unsent.length ? undefined : this.#unsent.subarray(length)
    }
    const written = this.#written
    if (written === undefined || (this.#unsent !== undefined && !this.#isGone)) return
    this.#written = undefined
    written(this.#unsent === undefined ? null : Object.assign(new Error('gone'), { code: 'EPIPE' }))
  }

  #deliver(): void {
    while (this.#wants) {
      const chunk = this.#held.shift()
      if (chunk === undefined) break
      this.#wants = this.push(chunk)
      this.#forwarded = (this.#forwarded + chunk.length) >>> 0
      const left = this.#guest.bufferSize - ((this.#forwarded - this.#advertised) >>> 0)
      if (!this.#isGone && (left < ROOM_LOW || this.#held.length === 0)) {
        this.#packet(spec.VIRTIO_VSOCK_OP_CREDIT_UPDATE)
      }
    }
    if (this.#peerEnded && this.#held.length === 0 && !this.readableEnded) this.push(null)
  }

  #gone(): void {
    this.#isGone = true
    this.#peerEnded = true
    this.#guest.forget(this)
  }

  #packet(op: number, flags = 0, payload: Uint8Array = new Uint8Array(0)): void {
    this.#advertised = this.#forwarded
    this.#guest.send({
      srcPort: this.localPort,
      dstPort: this.remotePort,
      op,
      flags,
      payload,
      bufAlloc: this.#guest.bufferSize,
      fwdCnt: this.#forwarded,
    })
  }
}
