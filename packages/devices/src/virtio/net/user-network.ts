/**
 * A network of the user's own: a function that gets the frames the guest sends, and `send` for those it shall get. Plain
 * Ethernet frames, as on a wire without the checksum: nothing is left for the receiver to complete, since no offload is offered.
 */
import { DevicesError } from '../../error.ts'
import { NetFrame } from './frame.ts'
import { FRAME_QUEUE_BYTES_MIN, FrameQueue } from './frame-queue.ts'
import type { NetOutcome, Network, NetworkSink } from './network.ts'
import { NET_BUSY, NET_DONE, NET_DROPPED } from './network.ts'
import { ETHERNET_HEADER_SIZE, FRAME_BYTES_MAX } from './spec.ts'

/** The most calls to `receive` that may not have settled: then the guest waits. */
const PARALLEL = 64
const QUEUE_BYTES = 2 ** 20

/** Options of {@link UserNetwork}. */
export interface UserNetworkOptions {
  /**
   * Gets each frame that the guest sends: a copy, the user's to keep. Where it returns a promise, up to 64 of them may be
   * unsettled before the guest has to wait. What it throws, or rejects with, is reported as a host failure.
   */
  receive(frame: Uint8Array): unknown
  /** Room for frames that the guest has no room for, in bytes: 65569 at least; default 1 MiB. Taken when it is first needed. */
  readonly queueBytes?: number | undefined
}

/**
 * A {@link Network} of a function.
 *
 * @example
 * ```ts
 * const network = new UserNetwork({
 *   receive: (frame) => {
 *     if (isArpRequest(frame)) network.send(arpReply(frame))
 *   },
 * })
 * const device = new Net({ network })
 * ```
 */
export class UserNetwork implements Network {
  readonly #receive: (frame: Uint8Array) => unknown
  readonly #queue: FrameQueue
  readonly #frame = new NetFrame()
  readonly #queued = new NetFrame()
  readonly #waiting: (() => void)[] = []
  #sink: NetworkSink | undefined
  #unsettled = 0
  #isHeld = false
  #dropped = 0
  #flushPending = false

  /** @throws DevicesError ERR_DEVICE_OPTION */
  constructor(options: UserNetworkOptions) {
    const { queueBytes = QUEUE_BYTES } = options
    if (!(Number.isSafeInteger(queueBytes) && queueBytes >= FRAME_QUEUE_BYTES_MIN && queueBytes < 2 ** 32)) {
      throw new DevicesError(
        'ERR_DEVICE_OPTION',
        `virtio-net: a queue has ${FRAME_QUEUE_BYTES_MIN} bytes or more, got ${queueBytes}`,
      )
    }
    this.#receive = (frame) => options.receive(frame)
    this.#queue = new FrameQueue(queueBytes)
  }

  /** Frames that wait for room in the guest. */
  get queued(): number {
    return this.#queue.count
  }

  /** Frames that {@link send} had to drop, there being no room, or no guest. */
  get dropped(): number {
    return this.#dropped
  }

  /**
   * Gives a frame to the guest, at once or when it has room.
   * @param frame from the destination address on, 14 to 65557 bytes; copied in here
   * @returns false where it was dropped: more are waiting than there is room for, or nobody is there to receive
   * @throws DevicesError ERR_DEVICE_OPTION for what is no frame
   */
  send(frame: Uint8Array): boolean {
    if (frame.length < ETHERNET_HEADER_SIZE || frame.length > FRAME_BYTES_MAX) {
      throw new DevicesError(
        'ERR_DEVICE_OPTION',
        `an Ethernet frame has ${ETHERNET_HEADER_SIZE} to ${FRAME_BYTES_MAX} bytes, got ${frame.length}`,
        { size: frame.length },
      )
    }
    const receiver = this.#sink?.receivers[0]
    const outgoing = this.#frame.setBytes(frame)
    let outcome: NetOutcome = NET_DROPPED
    if (receiver?.isUp === true) {
      outcome = this.#queue.count > 0 ? NET_BUSY : receiver.deliver(outgoing)
      if (outcome === NET_BUSY) outcome = this.#queue.push(outgoing) ? NET_DONE : NET_DROPPED
      else this.#flushSoon()
    }
    if (outcome === NET_DROPPED) this.#dropped += 1
    return outcome === NET_DONE
  }

  /** Settles when no frame waits: to send no faster than the guest takes. */
  drained(): Promise<void> {
    if (this.#queue.count === 0) return Promise.resolve()
    return new Promise((resolve) => {
      this.#waiting.push(resolve)
    })
  }

  /** `Net` calls this. @throws DevicesError ERR_DEVICE_OPTION for a second device */
  attach(sink: NetworkSink): void {
    if (this.#sink !== undefined) {
      throw new DevicesError('ERR_DEVICE_OPTION', 'this network has a device already: make one for each')
    }
    this.#sink = sink
  }

  configure(_offloads: number, queuePairs: number): void {
    // What waits is for a driver that is gone.
    if (queuePairs === 0) {
      this.#dropped += this.#queue.clear()
      this.#wake()
    }
  }

  transmit(frame: NetFrame): NetOutcome {
    if (this.#unsettled >= PARALLEL) {
      this.#isHeld = true
      return NET_BUSY
    }
    const bytes = new Uint8Array(frame.length)
    frame.copyTo(bytes)
    const result = this.#receive(bytes)
    if (result instanceof Promise) void this.#settle(result)
    return NET_DONE
  }

  refill(): void {
    const receiver = this.#sink?.receivers[0]
    if (receiver === undefined) return
    while (this.#queue.peek(this.#queued)) {
      const outcome = receiver.deliver(this.#queued)
      if (outcome === NET_BUSY) break
      if (outcome === NET_DROPPED) this.#dropped += 1
      this.#queue.shift()
    }
    receiver.flush()
    if (this.#queue.count === 0) this.#wake()
  }

  /** Once for all that is sent in this turn. */
  #flushSoon(): void {
    if (this.#flushPending) return
    this.#flushPending = true
    queueMicrotask(() => {
      this.#flushPending = false
      this.#sink?.receivers[0]?.flush()
    })
  }

  async #settle(result: Promise<unknown>): Promise<void> {
    this.#unsettled += 1
    try {
      await result
    } catch (error) {
      this.#sink?.failure(error)
    }
    this.#unsettled -= 1
    if (!this.#isHeld) return
    this.#isHeld = false
    this.#sink?.resume(0)
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve()
  }
}
