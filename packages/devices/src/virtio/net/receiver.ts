/**
 * The way to the guest through one receive queue: virtio 1.2, 5.1.6.3 and 5.1.6.4. Frames are copied in here, or put there by
 * whoever can write to guest memory itself, as readv(2) of a tap can; over several buffers where the driver merges them.
 */
import type { DescriptorChain, GuestRegion, Virtqueue } from '@vmm/virtio-queue'
import { DescriptorChain as Chain, ChainPool, faultOf, POP_EMPTY, POP_OK, Writer } from '@vmm/virtio-queue'
import type { VirtioFault, VirtioTransport } from '../device.ts'
import type { RateLane } from '../rate-limiter.ts'
import { featureBit } from '../spec.ts'
import type { MutableNetCounters } from './counters.ts'
import type { NetFrame } from './frame.ts'
import { NET_BUSY, NET_DONE, NET_DROPPED, type NetOutcome } from './network.ts'
import * as spec from './spec.ts'

const MERGE_BIT = featureBit(spec.VIRTIO_NET_F_MRG_RXBUF)
const GUEST_CSUM_BIT = featureBit(spec.VIRTIO_NET_F_GUEST_CSUM)
/** The most buffers to look at for one frame that are of no use. */
const USELESS_MAX = 256

const NO_CHAIN: DescriptorChain = new Chain()

const NO_HEADER: VirtioFault = Object.freeze({
  code: 'ERR_NET_BUFFER_SIZE',
  needsReset: false,
  message: 'a receive buffer has no room for the header (5.1.6.3.1)',
})

/** What a receiver asks of its device. */
export interface ReceiverOptions {
  readonly transport: VirtioTransport
  readonly pair: number
  readonly counters: MutableNetCounters
  /** Whether frames may reach this queue: in use, and the link up. */
  isUp(pair: number): boolean
  /** The limit on what the guest is given. */
  readonly lane: RateLane
}

/**
 * One for each pair of queues, made by `Net`. A frame is either copied, by {@link deliver}, or written to the pieces
 * of memory that {@link reserve} and {@link takePiece} give, and completed by {@link commit}. After some of them: {@link flush}.
 *
 * @example
 * ```ts
 * if (receiver.reserve(12 + 1514) > 0) {
 *   for (let n = receiver.takePiece(); n > 0; n = receiver.takePiece()) {
 *     iovec.push((receiver.pieceRegion.hostAddress ?? 0n) + BigInt(receiver.pieceOffset), n)
 *   }
 *   receiver.commit(readFrame(fd, iovec)) // readv(2): the kernel writes header and frame
 * }
 * receiver.flush()
 * ```
 */
export class NetReceiver {
  /** Of queues. */
  readonly pair: number
  readonly #options: ReceiverOptions
  readonly #transport: VirtioTransport
  readonly #pool = new ChainPool()
  /** The first `#count` are reserved; what is behind them is left over. */
  readonly #chains: DescriptorChain[] = []
  readonly #writer = new Writer()
  readonly #header = new Writer()
  /** Of the chains that are reserved. */
  #capacity = 0
  #count = 0
  #queue: Virtqueue | undefined
  /** The chain that the writer is in. */
  #at = 0
  /** There was no room: the driver's next notification is the network's to know. */
  #starved = true
  /** The network had frames, or their time came, while none could be given, as in a pause: its end is the network's to know. */
  #missed = false
  /** Frames were delivered since then. */
  #delivered = false
  /** Bytes that were delivered and did not count yet: a frame's length is known when it is there. */
  #owed = 0

  /** @internal */
  constructor(options: ReceiverOptions) {
    this.#options = options
    this.#transport = options.transport
    this.pair = options.pair
  }

  /** Whether a guest is there to receive, and the link is up. Frames for one that is not are of no use to anybody. */
  get isUp(): boolean {
    return this.#transport.running && this.#options.isUp(this.pair)
  }

  /** Region of the piece that {@link takePiece} gave last. */
  get pieceRegion(): GuestRegion {
    return this.#writer.pieceRegion
  }

  /** Offset of that piece in its region, in bytes. */
  get pieceOffset(): number {
    return this.#writer.pieceOffset
  }

  /**
   * Copies a frame into the guest's buffers.
   * @param frame from its first byte on; where its header asks for what the driver does not take, that is the network's fault
   * @returns {@link NET_BUSY} where there is no room now: `Network.refill` tells of it. {@link NET_DROPPED}, and counted, where
   *   the guest does not receive, or has buffers that are too short
   */
  deliver(frame: NetFrame): NetOutcome {
    const length = spec.VIRTIO_NET_HDR_SIZE + frame.length
    const room = this.isUp ? this.reserve(length) : -1
    if (room === 0) return NET_BUSY
    if (room < length) {
      this.drop()
      return NET_DROPPED
    }
    this.#write(frame.header, 0, spec.VIRTIO_NET_HDR_SIZE)
    for (let piece = frame.takePiece(); piece > 0; piece = frame.takePiece()) {
      this.#write(frame.pieceBytes, frame.pieceOffset, piece)
    }
    this.commit(length)
    return NET_DONE
  }

  /**
   * Takes buffers for one frame, and goes to the first byte. Those of an earlier call that were not used are among them.
   * @param bytes of header and frame, as many as may come
   * @returns how many there is room for, which may be fewer; 0 where there is no room now: `Network.refill` tells of it
   */
  reserve(bytes: number): number {
    const queue = this.#transport.queue(2 * this.pair)
    this.#queue = queue
    if (queue === undefined || !this.receives() || !this.#pay()) return 0
    const isMerging = (this.#transport.featuresLow & MERGE_BIT) !== 0
    while (this.#capacity < bytes && (isMerging || this.#count === 0) && this.#pop(queue)) {
      // Until there are enough.
    }
    const [first] = this.#chains
    if (this.#count === 0 || first === undefined) return this.#starve()
    this.#at = 0
    this.#writer.attach(first)
    if (!isMerging) return first.writableBytes
    // The ring runs low. A driver that was given frames gives their buffers back, most when half of them are used: it is worth
    // the wait. One that has no more buffers than these would wait for ever.
    const isLow = this.#capacity < bytes && 2 * this.#count < queue.size
    return isLow && (this.#delivered || this.#starved) ? this.#starve() : this.#capacity
  }

  /**
   * Takes buffers for several frames, one buffer each, which lies together in guest memory, and has room for more than a frame may
   * have: for networks that are given many frames at once. Each is at {@link bufferOffset} in {@link bufferRegion}; then
   * {@link commitMany}.
   * @param bytes of header and frame, as many as may come
   * @param most how many to take
   * @returns how many there are; 0 where it has to be one at a time, by {@link reserve}
   */
  reserveMany(bytes: number, most: number): number {
    const queue = this.#transport.queue(2 * this.pair)
    this.#queue = queue
    if (queue === undefined || !this.receives() || this.#options.lane.isLimited || !this.#pay()) return 0
    let count = 0
    while (count < most) {
      if (count === this.#count && !this.#pop(queue, false)) break
      if (!isWhole(this.#chains[count] as DescriptorChain, bytes)) break
      count += 1
    }
    return count
  }

  /** Region of a buffer of {@link reserveMany}, by its number. */
  bufferRegion(index: number): GuestRegion {
    const chain = this.#chains[index] as DescriptorChain
    return chain.regions[chain.readableCount] as GuestRegion
  }

  /** Offset of that buffer in its region, in bytes. */
  bufferOffset(index: number): number {
    const chain = this.#chains[index] as DescriptorChain
    return chain.offsets[chain.readableCount] as number
  }

  /** How long it is, in bytes. */
  bufferLength(index: number): number {
    return (this.#chains[index] as DescriptorChain).writableBytes
  }

  /**
   * Completes frames in the buffers of {@link reserveMany}.
   * @param lengths for each buffer, what was written: header and frame; where there is nothing, 0 or less; where the buffer is
   *   full, the frame was cut, and is dropped
   * @param count of buffers
   */
  commitMany(lengths: Int32Array, count: number): void {
    const chains = this.#chains
    const queue = this.#queue
    if (queue === undefined || count > this.#count) return
    let kept = 0
    for (let i = 0; i < this.#count; i += 1) {
      const chain = chains[i] as DescriptorChain
      const length = i < count ? (lengths[i] as number) : 0
      if (length > 0 && length < chain.writableBytes) {
        this.#finishHeader(chain, 1)
        this.#capacity -= chain.writableBytes
        queue.pushUsed(chain, length)
        this.#pool.give(chain)
        this.#counted(length)
      } else {
        if (length > 0) this.drop()
        chains[kept] = chain
        kept += 1
      }
    }
    this.#count = kept
  }

  /**
   * Takes bytes that lie together in guest memory, of those that are reserved: at `pieceOffset` in `pieceRegion`.
   * @returns how many; 0 when there are no more
   */
  takePiece(): number {
    for (;;) {
      const length = this.#writer.takePiece()
      if (length > 0 || !this.#next()) return length
    }
  }

  /**
   * Completes a frame in the buffers that are reserved: the guest sees it with the next {@link flush}.
   * @param length bytes that were written, header and frame: at least 12, and no more than there was room for
   */
  commit(length: number): void {
    const queue = this.#queue
    const [first] = this.#chains
    if (queue === undefined || first === undefined || length > this.#capacity || length <= 0) return
    let used = 0
    for (let left = length; left > 0; used += 1) left -= (this.#chains[used] as DescriptorChain).writableBytes
    this.#finishHeader(first, used)
    let left = length
    for (let i = 0; i < used; i += 1) {
      const chain = this.#chains[i] as DescriptorChain
      const bytes = chain.writableBytes
      queue.pushUsed(chain, Math.min(bytes, left))
      this.#pool.give(chain)
      this.#capacity -= bytes
      left -= bytes
    }
    this.#count -= used
    for (let i = 0; i < this.#count; i += 1) this.#chains[i] = this.#chains[i + used] as DescriptorChain
    this.#owed = length - spec.VIRTIO_NET_HDR_SIZE
    this.#counted(length)
  }

  /** Counts a frame that the network had to drop. */
  drop(): void {
    this.#options.counters.rxDropped += 1
  }

  /** Shows the guest what was completed, and gives buffers back that were not used. */
  flush(): void {
    const queue = this.#queue
    if (queue === undefined) return
    while (this.#count > 0) {
      this.#count -= 1
      const chain = this.#chains[this.#count] as DescriptorChain
      // One that a malformed chain came after cannot go back into the ring: it is used, for nothing.
      if (!queue.unpop(chain)) queue.pushUsed(chain)
      this.#pool.give(chain)
    }
    this.#capacity = 0
    queue.publishUsed()
    if (queue.needsNotification()) this.#transport.interruptQueue(2 * this.pair)
  }

  /** @internal The driver says that there are buffers, or the device goes on. @returns whether somebody waits for that */
  notify(): boolean {
    this.#transport.queue(2 * this.pair)?.disableNotification()
    const waited = this.#starved || this.#missed
    this.#starved = false
    this.#missed = false
    return waited
  }

  /** @internal Whether frames can be given now. Where not, somebody waits: {@link notify} tells of that. */
  receives(): boolean {
    if (this.isUp) return true
    this.#missed = true
    return false
  }

  /** @internal The driver takes the queue away, with the chains that are here. */
  reset(): void {
    for (let i = 0; i < this.#count; i += 1) this.#pool.give(this.#chains[i] as DescriptorChain)
    this.#count = 0
    this.#capacity = 0
    this.#queue = undefined
    this.#starved = true
    this.#missed = false
    this.#delivered = false
    this.#writer.attach(NO_CHAIN)
    this.#options.lane.cancel()
  }

  #counted(length: number): void {
    const { counters } = this.#options
    this.#delivered = true
    counters.rxFrames += 1
    counters.rxBytes += length - spec.VIRTIO_NET_HDR_SIZE
  }

  /** What was delivered counts before more is. */
  #pay(): boolean {
    if (this.#owed > 0 && !this.#options.lane.take(this.#owed)) return false
    this.#owed = 0
    return true
  }

  #starve(): 0 {
    this.#starved = true
    this.#delivered = false
    return 0
  }

  /** @param isNeeded whether the driver is asked to say when there is one more */
  #pop(queue: Virtqueue, isNeeded = true): boolean {
    for (let i = 0; i < USELESS_MAX && this.#transport.running; i += 1) {
      const chain = this.#pool.take()
      const result = queue.pop(chain)
      if (result === POP_OK && chain.writableBytes >= spec.VIRTIO_NET_HDR_SIZE) {
        this.#chains[this.#count] = chain
        this.#count += 1
        this.#capacity += chain.writableBytes
        return true
      }
      if (result !== POP_EMPTY) {
        this.#transport.fault(faultOf(result) ?? NO_HEADER, 2 * this.pair)
        // Shown at once: perhaps no frame follows whose flush would do it.
        queue.addUsed(chain)
      }
      this.#pool.give(chain)
      if (result === POP_EMPTY && !(isNeeded && queue.enableNotification())) return false
    }
    return false
  }

  #write(bytes: Uint8Array, offset: number, length: number): void {
    let done = 0
    while (done < length) {
      const written = this.#writer.write(bytes, offset + done, length - done)
      done += written
      if (done < length && !this.#next()) return
    }
  }

  /** Goes to the next chain. */
  #next(): boolean {
    const isMerging = (this.#transport.featuresLow & MERGE_BIT) !== 0
    if (this.#at + 1 >= this.#count || !isMerging) return false
    this.#at += 1
    this.#writer.attach(this.#chains[this.#at] as DescriptorChain)
    return true
  }

  /** 5.1.6.4.1: the number of buffers, and no flags where the driver does not take partial checksums. */
  #finishHeader(first: DescriptorChain, buffers: number): void {
    const header = this.#header.attach(first)
    const takesFlags = (this.#transport.featuresLow & GUEST_CSUM_BIT) !== 0
    if (takesFlags) header.skip(1)
    else header.writeUint8(0)
    header.skip(spec.HDR_NUM_BUFFERS_OFFSET - 1)
    header.writeUint16(buffers)
  }
}

/** Whether a buffer lies together, and a frame of so many bytes does not fill it. */
function isWhole(chain: DescriptorChain, bytes: number): boolean {
  return chain.segmentCount === chain.readableCount + 1 && chain.writableBytes > bytes
}
