/**
 * A tap as a network: frames go by readv(2) and writev(2), at once, on the event loop's thread, straight between guest
 * memory and the kernel, with the header of virtio-net in front of them. What is to be summed and cut the kernel does, or leaves to the
 * guest, as was negotiated.
 */
import type { NetFrame, NetOutcome, NetReceiver, Network, NetworkSink } from '@vmm/devices/virtio'
import {
  ETHERNET_HEADER_SIZE,
  FRAME_BYTES_MAX,
  NET_DONE,
  NET_DROPPED,
  NET_OFFLOAD_TSO4,
  NET_OFFLOAD_TSO6,
  NET_OFFLOADS_ALL,
  VIRTIO_NET_HDR_SIZE,
} from '@vmm/devices/virtio'
import {
  _IOW,
  EPOLLERR,
  EPOLLET,
  EPOLLIN,
  EPOLLOUT,
  errnoName,
  ioctlRaw,
  type OwnedFd,
  SystemError,
  type Watch,
  watch,
} from '@vmm/sys-util'
import { NetError } from '../error.ts'
import { BATCH, FrameBatch } from './frame-batch.ts'
import { FrameIo } from './frame-io.ts'
import { FrameReader } from './frame-reader.ts'

/** The most frames of before the guest's start to drop: what a tap's queue holds, and those that come meanwhile. */
const STALE_MAX = 4096
/** Room that frames have besides the MTU: the Ethernet header and two VLAN tags. */
const FRAME_BYTES_BESIDE_MTU: number = ETHERNET_HEADER_SIZE + 8

/** <linux/if_tun.h>. */
const TUNSETOFFLOAD = _IOW(0x54, 208, 4)
const TUNSETQUEUE = _IOW(0x54, 217, 4)
const IFF_ATTACH_QUEUE = 0x0200
const IFF_DETACH_QUEUE = 0x0400
/** Until the kernel is asked again for what it did not have: in milliseconds. */
const RETRY_MS = 10
/** `struct ifreq`, and where its flags are. */
const IFREQ_SIZE = 40
const IFREQ_FLAGS_OFFSET = 16

const EIO = 5
const EAGAIN = 11
const EINVAL = 22
const EBADFD = 77

/** The most batches of the guest's to let pass without a look for answers: a power of two. */
const LOOK_EACH_MAX = 64

/** What a {@link Tap} is made of. */
export interface TapParts {
  readonly name: string
  /** A descriptor for each queue, the tap's own from now on. */
  readonly files: readonly OwnedFd[]
  readonly isUp: boolean
  /** In bytes. */
  readonly mtu: number
}

/** A queue of the tap. */
interface TapQueue {
  readonly file: OwnedFd
  /** Undefined while it is read turn by turn. */
  watch: Watch | undefined
  /** How many frames may yet be read in this turn of the event loop, up to {@link BATCH}. */
  left: number
  readonly reader: FrameReader
  /** It is read on in the next turn. */
  goesOn: boolean
  readonly goOn: () => void
  /** After how many batches of the guest's to look for answers, and how many are left of them. */
  lookEach: number
  untilLook: number
}

/**
 * A tap, open. Give it to one `Net`. Made by `openTap`.
 *
 * When it is taken down (`ip link set … down`), the guest's link goes down with the next frame that the guest sends, and
 * comes back with the tap; when it is deleted, it stays down. Both are reported as a {@link NetError}.
 */
export class Tap implements Network, Disposable {
  readonly offloads: number = NET_OFFLOADS_ALL
  readonly queuePairs: number
  /** Of the interface, when it was opened. */
  readonly name: string
  /** In bytes, when it was opened: what a guest may be told to use. */
  readonly mtu: number
  readonly #queues: readonly TapQueue[]
  readonly #frameBytes: number
  readonly #io = new FrameIo()
  readonly #batch = new FrameBatch()
  /** The queue that the frames in the batch go by. */
  #batchPair = 0
  #sink: NetworkSink | undefined
  #active = 0
  /** The most bytes that a frame can come with, its header among them. */
  #readBytes: number
  #isUp: boolean
  #isGone = false
  #isClosed = false

  /** Use `openTap`. */
  constructor({ name, files, isUp, mtu }: TapParts) {
    this.name = name
    this.mtu = mtu
    this.queuePairs = files.length
    this.#queues = files.map((file, index) => ({
      file,
      watch: undefined,
      left: BATCH,
      reader: new FrameReader(this.#io, this.#batch),
      goesOn: false,
      goOn: () => this.#goOn(index),
      lookEach: 1,
      untilLook: 1,
    }))
    this.#frameBytes = VIRTIO_NET_HDR_SIZE + FRAME_BYTES_BESIDE_MTU + Math.min(mtu, 65535)
    this.#readBytes = this.#frameBytes
    this.#isUp = isUp
  }

  /** Whether {@link close} has been called. */
  get closed(): boolean {
    return this.#isClosed
  }

  /** Whether frames pass: the interface is up, as far as is known. */
  get linkUp(): boolean {
    return this.#isUp && !this.#isClosed
  }

  /** What a device does. */
  /** `Net` calls this. @throws NetError ERR_NET_OPTION for a second device */
  attach(sink: NetworkSink): void {
    if (this.#sink !== undefined) {
      throw new NetError('ERR_NET_OPTION', `tap ${this.name} has a device already: open a queue for each`)
    }
    this.#sink = sink
    this.#setOffloads(0)
    for (let i = 0; i < this.#queues.length; i += 1) this.#await(i)
    if (!this.#isUp) sink.linkChanged(false)
  }

  configure(offloads: number, queuePairs: number): void {
    if (this.#isClosed || this.#isGone) return
    const wasIdle = this.#active === 0
    this.#active = queuePairs
    this.#setOffloads(offloads)
    // Frames are steered to queues that are attached: the first always is.
    for (let i = 1; i < this.#queues.length; i += 1) {
      const request = new DataView(new ArrayBuffer(IFREQ_SIZE))
      request.setUint16(IFREQ_FLAGS_OFFSET, i < queuePairs ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE, true)
      // Fails where it is so already.
      ioctlRaw(this.#fd(i), TUNSETQUEUE, request)
    }
    if (wasIdle && queuePairs > 0) this.#dropStale()
    for (let i = 0; i < this.#queues.length; i += 1) this.#look(i)
  }

  transmit(frame: NetFrame, pair: number): NetOutcome {
    if (!this.linkUp) return NET_DROPPED
    if (pair !== this.#batchPair) this.#send()
    this.#batchPair = pair
    if (this.#batch.add(frame)) {
      if (this.#batch.count === BATCH) this.#send()
      return NET_DONE
    }
    this.#send()
    frame.rewind()
    const result = this.#io.write(this.#fd(pair), frame)
    if (result >= 0) return NET_DONE
    this.#lost(result)
    return NET_DROPPED
  }

  /**
   * The guest has sent what it had. Where the host's own kernel is who answers, the answers are there by now: a look is worth it
   * that is cheaper than to be woken for them, as long as it finds some.
   */
  commit(pair: number): void {
    this.#send()
    const queue = this.#queues[pair]
    if (queue === undefined) return
    queue.untilLook -= 1
    if (queue.untilLook > 0) return
    queue.lookEach = this.#look(pair) > 0 ? 1 : Math.min(LOOK_EACH_MAX, 2 * queue.lookEach)
    queue.untilLook = queue.lookEach
  }

  refill(pair: number): void {
    this.#look(pair)
  }

  /**
   * Closes the tap: the guest's link goes down. A tap that was created by `openTap` is gone then. Idempotent.
   */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#batch.close()
    for (const queue of this.#queues) {
      queue.watch?.close()
      queue.file.close()
    }
    this.#sink?.linkChanged(false)
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #fd(index: number): number {
    return this.#queues[index]?.file.fd ?? -1
  }

  /** Frames that the guest was told of as sent. */
  #send(): void {
    const batch = this.#batch
    if (batch.count === 0) return
    const count = batch.send(this.#fd(this.#batchPair))
    let frames = 0
    let bytes = 0
    for (let i = 0; i < count; i += 1) {
      const result = batch.results[i] as number
      if (result >= 0) continue
      this.#lost(result)
      frames += 1
      bytes += batch.lengthOf(i)
    }
    if (frames > 0) this.#sink?.dropped(frames, bytes)
  }

  /** Looks at the result of a write that failed. */
  #lost(result: number): void {
    // The kernel has looked at the frame and does not believe it: nothing that the host could do about.
    if (result !== -EINVAL && result !== -EAGAIN) this.#failed(-result, 'written')
  }

  #setOffloads(offloads: number): void {
    const canBeLong = (offloads & (NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6)) !== 0
    this.#readBytes = canBeLong ? VIRTIO_NET_HDR_SIZE + FRAME_BYTES_MAX : this.#frameBytes
    const result = ioctlRaw(this.#fd(0), TUNSETOFFLOAD, offloads)
    if (result < 0) this.#failed(-result, 'set up')
  }

  #ready(index: number, events: number): void {
    // Others are in error, too, while they are detached.
    if (index === 0 && (events & EPOLLERR) !== 0) {
      this.#wasDeleted()
      return
    }
    if (!this.#isUp && (events & EPOLLOUT) !== 0) this.#cameUp()
    this.#look(index)
  }

  /** Has the kernel tell of what comes. What is there by now it tells at once. */
  #await(index: number): void {
    const queue = this.#queues[index]
    if (queue === undefined || queue.watch !== undefined) return
    try {
      queue.watch = watch(queue.file.fd, this.#events(index), (events) => this.#ready(index, events))
    } catch (cause) {
      // The kernel lacks memory, or allows no more watches.
      queue.goesOn = true
      setTimeout(queue.goOn, RETRY_MS)
      this.#sink?.failure(new NetError('ERR_NET_TAP_IO', `tap ${this.name} cannot be waited for`, cause))
    }
  }

  /** It tells those who wait to write when the interface comes up. */
  #events(index: number): number {
    return EPOLLET | EPOLLIN | (this.#isUp || index > 0 ? 0 : EPOLLOUT)
  }

  /** A turn of the event loop begins. */
  #goOn(index: number): void {
    const queue = this.#queues[index]
    if (queue === undefined) return
    queue.left = BATCH
    queue.goesOn = false
    this.#look(index)
  }

  /**
   * Reads what is there, up to a batch for each turn of the event loop. Where there was something it looks again in the next turn,
   * and the kernel need not tell: each frame that it tells of costs 0.2 us when it comes, and an event as much as a few frames.
   * @returns how many frames there were
   */
  #look(index: number): number {
    const queue = this.#queues[index]
    const receiver = this.#sink?.receivers[index]
    if (queue === undefined || receiver === undefined || this.#isClosed || this.#isGone) return 0
    const count = index < this.#active ? this.#read(queue, receiver) : 0
    queue.left -= count
    if (count === 0) {
      if (!queue.goesOn) this.#await(index)
      return 0
    }
    queue.watch?.close()
    queue.watch = undefined
    if (!queue.goesOn) {
      queue.goesOn = true
      setImmediate(queue.goOn)
    }
    return count
  }

  #read({ file, reader, left }: TapQueue, receiver: NetReceiver): number {
    const count = reader.read(file.fd, receiver, this.#readBytes, left)
    if (reader.errno !== 0) this.#failed(reader.errno, 'read')
    return count
  }

  /** Frames that came before there was a guest are nobody's any more. */
  #dropStale(): void {
    for (let i = 0; i < this.#active; i += 1) {
      for (let left = STALE_MAX; left > 0 && this.#io.discard(this.#fd(i)) >= 0; left -= 1) {
        // Until there are none.
      }
    }
  }

  #failed(errno: number, what: string): void {
    if (errno === EIO) this.#wentDown()
    else if (errno === EBADFD) this.#wasDeleted()
    else {
      const cause = new SystemError('tap', errno)
      const message = `tap ${this.name} cannot be ${what}: ${errnoName(errno)}`
      this.#sink?.failure(new NetError('ERR_NET_TAP_IO', message, cause))
    }
  }

  #wentDown(): void {
    if (!this.#isUp) return
    this.#sink?.failure(new NetError('ERR_NET_TAP_DOWN', `tap ${this.name} was taken down`))
    this.#awaitUp()
  }

  /** The kernel tells those who wait to write when the interface comes up. */
  #awaitUp(): void {
    this.#isUp = false
    this.#sink?.linkChanged(false)
    this.#queues[0]?.watch?.modify(this.#events(0))
  }

  #cameUp(): void {
    this.#isUp = true
    this.#queues[0]?.watch?.modify(this.#events(0))
    this.#sink?.linkChanged(true)
  }

  #wasDeleted(): void {
    if (this.#isGone) return
    this.#isGone = true
    this.#isUp = false
    for (const queue of this.#queues) queue.watch?.close()
    this.#sink?.failure(new NetError('ERR_NET_TAP_GONE', `tap ${this.name} was deleted`))
    this.#sink?.linkChanged(false)
  }
}
