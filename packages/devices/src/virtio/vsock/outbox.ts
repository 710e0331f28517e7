/**
 * What is to be sent to the guest, packet by packet into the buffers that it gives: answers to packets of no connection
 * first, then packets without payload, then payload, each connection in turn. Bounded: a connection is here once, and the
 * answers are so many that the guest is not listened to while there is no room for more.
 */
import type { Writer } from '@vmm/virtio-queue'
import type { Connection } from './connection.ts'
import { HeaderWriter } from './header.ts'
import { ReadyQueue } from './ready-queue.ts'
import * as spec from './spec.ts'

/** Answers that wait, at most. */
export const RESETS_MAX = 1024
/** The most payload in a packet, as Linux has it: so that a large buffer does not keep all others waiting. */
const PAYLOAD_MAX = 65536

/** What {@link Outbox.next} returns when there is nothing to be sent, */
export const NOTHING = 0
/** and when there is no room for it. */
export const NO_ROOM = -1

export class Outbox {
  readonly #header: HeaderWriter
  readonly #control = new ReadyQueue<Connection>()
  readonly #data = new ReadyQueue<Connection>()
  /** Host port, guest port and type of each packet to be answered with RST. */
  readonly #resets = new Uint32Array(3 * RESETS_MAX)
  #resetsFirst = 0
  #resetsCount = 0

  constructor(guestCid: number) {
    this.#header = new HeaderWriter(guestCid)
  }

  /** Whether there is room for an answer. */
  get hasRoom(): boolean {
    return this.#resetsCount < RESETS_MAX
  }

  /** Whether there may be something to be sent. */
  get isEmpty(): boolean {
    return this.#resetsCount === 0 && this.#control.length === 0 && this.#data.length === 0
  }

  /** Answers a packet of no connection. Ask {@link hasRoom} before. */
  reset(hostPort: number, guestPort: number, type: number): void {
    const at = 3 * ((this.#resetsFirst + this.#resetsCount) % RESETS_MAX)
    this.#resets[at] = hostPort
    this.#resets[at + 1] = guestPort
    this.#resets[at + 2] = type
    this.#resetsCount += 1
  }

  /** A connection has a packet without payload. */
  control(connection: Connection): void {
    if (connection.inControl) return
    connection.inControl = true
    this.#control.push(connection)
  }

  /** A connection has payload. */
  data(connection: Connection): void {
    if (connection.inData) return
    connection.inData = true
    this.#data.push(connection)
  }

  /**
   * Puts the next packet into a buffer.
   * @param room of the buffer, in bytes
   * @returns bytes that were written, {@link NOTHING} or {@link NO_ROOM}
   */
  next(writer: Writer, room: number): number {
    if (this.isEmpty) return NOTHING
    if (room < spec.VIRTIO_VSOCK_HDR_SIZE) return NO_ROOM
    if (this.#resetsCount > 0) return this.#sendReset(writer)
    const sent = this.#sendControl(writer)
    if (sent !== NOTHING) return sent
    const sentData = this.#sendData(writer, room - spec.VIRTIO_VSOCK_HDR_SIZE)
    // Who had no credit asks for some.
    return sentData === NOTHING ? this.#sendControl(writer) : sentData
  }

  /** Forgets everything. */
  clear(): void {
    this.#resetsCount = 0
    for (let one = this.#control.shift(); one !== undefined; one = this.#control.shift())
      one.inControl = false
    for (let one = this.#data.shift(); one !== undefined; one = this.#data.shift()) one.inData = false
  }

  #sendReset(writer: Writer): number {
    const at = 3 * this.#resetsFirst
    this.#resetsFirst = (this.#resetsFirst + 1) % RESETS_MAX
    this.#resetsCount -= 1
    this.#header.begin(writer, this.#resets[at] as number, this.#resets[at + 1] as number, 0)
    this.#header.end(writer, spec.VIRTIO_VSOCK_OP_RST, 0, 0, 0, this.#resets[at + 2] as number)
    return spec.VIRTIO_VSOCK_HDR_SIZE
  }

  #sendControl(writer: Writer): number {
    for (
      let connection = this.#control.shift();
      connection !== undefined;
      connection = this.#control.shift()
    ) {
      connection.inControl = false
      const operation = connection.takeOperation()
      if (connection.hasOperation) this.control(connection)
      if (operation === 0) continue
      this.#begin(writer, connection, 0)
      this.#end(writer, connection, operation, connection.flagsOf(operation))
      return spec.VIRTIO_VSOCK_HDR_SIZE
    }
    return NOTHING
  }

  #sendData(writer: Writer, room: number): number {
    for (let connection = this.#data.shift(); connection !== undefined; connection = this.#data.shift()) {
      connection.inData = false
      const offered = connection.offer()
      if (offered === 0) continue
      if (room === 0) {
        this.data(connection)
        return NO_ROOM
      }
      const length = Math.min(offered, room, PAYLOAD_MAX)
      this.#begin(writer, connection, length)
      this.#end(writer, connection, spec.VIRTIO_VSOCK_OP_RW, 0)
      connection.fill(writer, length)
      if (connection.offer() > 0) this.data(connection)
      return spec.VIRTIO_VSOCK_HDR_SIZE + length
    }
    return NOTHING
  }

  #begin(writer: Writer, { hostPort, guestPort }: Connection, length: number): void {
    this.#header.begin(writer, hostPort, guestPort, length)
  }

  #end(writer: Writer, { credit }: Connection, operation: number, flags: number): void {
    this.#header.end(writer, operation, flags, credit.bufferSize, credit.advertise())
  }
}
