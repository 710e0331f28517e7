/** A port of the switch for JavaScript: a function that gets frames, and `send`. */
import {
  ETHERNET_HEADER_SIZE,
  FRAME_BYTES_MAX,
  NetFrame as Frame,
  FrameQueue,
  NET_BUSY,
  NET_DONE,
  type NetFrame,
} from '@vmm/devices/virtio'
import { NetError } from '../error.ts'
import type { MutablePortCounters, PortCounters } from './counters.ts'
import { newPortCounters } from './counters.ts'
import type { Inlet } from './outlet.ts'

/** The most calls to `receive` that may not have settled: then frames are dropped. */
const PARALLEL = 64

/** Options of {@link Switch.connect}. */
export interface UserPortOptions {
  /**
   * Gets each frame that goes out by this port: a plain one, a copy, the user's to keep. Where it returns a promise, up to
   * 64 of them may be unsettled before frames are dropped.
   */
  receive(frame: Uint8Array): unknown
  /** Gets what `receive` throws or rejects with. Default: it becomes an uncaught exception. */
  failed?(error: unknown): void
  /** The one address that frames may come from, and to which those for this port go. Default any. */
  readonly mac?: string | Uint8Array | undefined
}

/** Options, checked. */
export interface UserPortSettings {
  readonly options: UserPortOptions
  readonly inlet: Inlet
  readonly fixedMac: number | undefined
  readonly queueBytes: number
}

/** JavaScript on a switch. Made by `Switch.connect`. */
export class UserPort implements Disposable {
  /** @internal */
  readonly takes = 0
  /** @internal */
  readonly fixedMac: number | undefined
  /** @internal */
  isTouched = false
  /** @internal */
  readonly tally: MutablePortCounters = newPortCounters()
  readonly #options: UserPortOptions
  readonly #inlet: Inlet
  readonly #frame = new Frame()
  readonly #queued = new Frame()
  /** What was sent from within a call of `receive`, whose frame's way ends first, or when the switch had done enough. */
  readonly #later: FrameQueue
  #isScheduled = false
  #unsettled = 0
  #isClosed = false

  /** @internal Use `Switch.connect`. */
  constructor({ options, inlet, fixedMac, queueBytes }: UserPortSettings) {
    this.#options = options
    this.#inlet = inlet
    this.fixedMac = fixedMac
    this.#later = new FrameQueue(queueBytes)
  }

  /** What passed and what did not. */
  get counters(): PortCounters {
    return this.tally
  }

  /** Whether {@link close} has been called. */
  get closed(): boolean {
    return this.#isClosed
  }

  /** @internal */
  get isUp(): boolean {
    return !this.#isClosed
  }

  /**
   * Sends a frame.
   * @param frame plain, from the destination address on, 14 to 65557 bytes; copied, or delivered, in here
   * @returns false where it went nowhere: there is nobody of that address, the port is closed, or too much was sent at once
   * @throws NetError ERR_NET_OPTION for what is no frame
   */
  send(frame: Uint8Array): boolean {
    if (frame.length < ETHERNET_HEADER_SIZE || frame.length > FRAME_BYTES_MAX) {
      const limits = `${ETHERNET_HEADER_SIZE} to ${FRAME_BYTES_MAX} bytes`
      throw new NetError('ERR_NET_OPTION', `an Ethernet frame has ${limits}, got ${frame.length}`)
    }
    if (this.#isClosed) return false
    const outgoing = this.#frame.setBytes(frame)
    if (!this.#inlet.isForwarding && this.#later.count === 0) {
      const outcome = this.#inlet.forward(outgoing, this, 0)
      this.#inlet.flush()
      if (outcome !== NET_BUSY) return outcome === NET_DONE
      outgoing.rewind()
    } else this.#schedule()
    return this.#later.push(outgoing)
  }

  /** @internal */
  put(frame: NetFrame): void {
    if (this.#unsettled >= PARALLEL) {
      this.tally.dropped += 1
      return
    }
    const bytes = new Uint8Array(frame.length)
    frame.copyTo(bytes)
    this.tally.framesOut += 1
    this.tally.bytesOut += bytes.length
    try {
      const result = this.#options.receive(bytes)
      if (result instanceof Promise) void this.#settle(result)
    } catch (error) {
      this.#failed(error)
    }
  }

  /** @internal */
  flush(): void {}

  /** Takes the port away. Idempotent. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#later.clear()
    this.#inlet.remove(this)
  }

  [Symbol.dispose](): void {
    this.close()
  }

  /** @internal */
  resume(): void {
    for (let left = this.#later.count; left > 0 && this.#later.peek(this.#queued); left -= 1) {
      if (this.#inlet.forward(this.#queued, this, 0) === NET_BUSY) break
      this.#later.shift()
    }
    this.#inlet.flush()
  }

  /** What came in one turn goes in the next: two that answer each other for ever leave time for others. */
  #schedule(): void {
    if (this.#isScheduled) return
    this.#isScheduled = true
    setImmediate(() => {
      this.#isScheduled = false
      this.resume()
    })
  }

  async #settle(result: Promise<unknown>): Promise<void> {
    this.#unsettled += 1
    try {
      await result
    } catch (error) {
      this.#failed(error)
    }
    this.#unsettled -= 1
  }

  #failed(error: unknown): void {
    if (this.#options.failed !== undefined) {
      this.#options.failed(error)
      return
    }
    queueMicrotask(() => {
      throw error
    })
  }
}
