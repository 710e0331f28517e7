/**
 * The block device: virtio 1.2 section 5.2. Reads, writes, flush, discard, write zeroes, get ID, over any `Disk`. Not
 * here: secure erase, zones, lifetime, the geometry of old.
 *
 * A completed flush, or a completed write where the driver has no write cache, is on stable storage as far as the disk keeps
 * that promise.
 */
import type { DescriptorChain, Virtqueue } from '@vmm/virtio-queue'
import { DevicesError } from '../../error.ts'
import { attachOnce } from '../attached.ts'
import type { VirtioDevice, VirtioFault, VirtioTransport } from '../device.ts'
import { BUSY, IN_FLIGHT, LATER, QueueRunner } from '../queue-runner.ts'
import type { RateLane, RateLimiter } from '../rate-limiter.ts'
import { limiterOf } from '../rate-limiter.ts'
import { featureBit, VIRTIO_ID_BLOCK } from '../spec.ts'
import type { BlkOptions, BlkSettings } from './config.ts'
import { blkFeatures, blkSettings, checkDiskSize, writeBlkConfig, writeCapacity } from './config.ts'
import type { Disk, DiskOutcome, DiskSink } from './disk.ts'
import { DISK_FAILED, DISK_PENDING, DISK_WRITE, DISK_WRITE_ZEROES } from './disk.ts'
import { PARSE_GET_ID, PARSE_SUBMIT, parseRequest } from './parse.ts'
import { BlockRequest, countedBytes, finishRequest, noteFailedRead } from './request.ts'
import * as spec from './spec.ts'
import type { BlkState } from './state.ts'
import { checkBlkState } from './state.ts'

/** The most requests to take in one turn of the event loop, */
const BATCH = 128
/** and the most bytes that a disk is given in it, but for the request that passes it: it may copy them at once. */
const BATCH_BYTES = 2 ** 24

const FLUSH_BIT = featureBit(spec.VIRTIO_BLK_F_FLUSH)
const CONFIG_WCE_BIT = featureBit(spec.VIRTIO_BLK_F_CONFIG_WCE)

const NO_STATUS: VirtioFault = Object.freeze({
  code: 'ERR_BLK_NO_STATUS',
  needsReset: true,
  message: 'a block request has no byte for its status (5.2.6)',
})
const MALFORMED: VirtioFault = Object.freeze({
  code: 'ERR_BLK_REQUEST',
  needsReset: false,
  message: 'a block request is not in guest memory, or has no whole header (5.2.6)',
})

/**
 * virtio-blk.
 *
 * @example
 * ```ts
 * const disk = new UserDisk({
 *   size: 1 << 20,
 *   read: async (target, position) => { target.set(await fetchBytes(position, target.length)) },
 *   write: async (source, position) => { await storeBytes(position, source) },
 * })
 * const transport = new MmioTransport({ device: new Blk({ disk, id: 'data' }), memory, interrupt })
 * ```
 */
export class Blk implements VirtioDevice {
  readonly type: number = VIRTIO_ID_BLOCK
  readonly featuresLow: number
  readonly featuresHigh = 0
  readonly queueSizes: readonly number[]
  readonly config: Uint8Array = new Uint8Array(spec.VIRTIO_BLK_CONFIG_SIZE)
  /** What limits this device: `update` it at any time. Without the option it limits nothing yet. */
  readonly rateLimiter: RateLimiter
  /** Whether nobody else has the limiter: then it is saved with this device. */
  readonly #ownsLimiter: boolean
  readonly #disk: Disk
  readonly #settings: BlkSettings
  readonly #idle: BlockRequest[] = []
  /** Requests at the disk, those of before a reset included, and how many there may be: as many as fit the queues. */
  #pending = 0
  readonly #pendingMax: number
  /** A queue waits for room among them. */
  #blocked = false
  /** The driver takes its memory back: nothing new is begun. */
  #draining = false
  /** {@link #later} is on its way. */
  #deferred = false
  readonly #later: () => void = () => {
    this.#deferred = false
    this.#flush()
  }
  /** Where the disk reports to. */
  readonly #sink: DiskSink = {
    complete: (request, outcome) => this.#complete(request, outcome),
    flush: () => this.#flush(),
    failure: (error) => this.#transport?.hostFailure(error),
  }
  /** Bytes that the disk was given in this turn, pending requests included: it may copy at once and only then wait. */
  #batchBytes = 0
  #waiting: (() => void)[] = []
  /** Since the guest was saved. */
  #hasGrown = false
  #transport: VirtioTransport | undefined
  #runners: QueueRunner[] = []
  /** Of each queue, in the row of those who wait for tokens. */
  #lanes: RateLane[] = []

  /** @throws DevicesError ERR_DEVICE_OPTION */
  constructor(options: BlkOptions) {
    const settings = blkSettings(options)
    checkDiskSize(options.disk.size, settings.blockSize)
    this.#disk = options.disk
    this.#settings = settings
    this.rateLimiter = limiterOf(options.rateLimit)
    this.#ownsLimiter = this.rateLimiter !== options.rateLimit
    this.featuresLow = blkFeatures(options.disk, settings)
    this.queueSizes = Array.from({ length: settings.queues }, () => settings.queueSize)
    this.#pendingMax = settings.queues * settings.queueSize
    writeBlkConfig(this.config, options.disk, settings)
  }

  /** Requests that the disk has not completed. */
  get pending(): number {
    return this.#pending
  }

  attach(transport: VirtioTransport): void {
    this.#transport = attachOnce(this.#transport, transport, 'virtio-blk')
    const handler = {
      serve: (chain: DescriptorChain, queue: Virtqueue, runner: QueueRunner, isMapped: boolean) =>
        this.#serve(chain, queue, runner, isMapped),
      beginTurn: () => {
        this.#batchBytes = 0
      },
      endBatch: () => this.#disk.commit?.(),
    }
    this.#runners = this.queueSizes.map((_, i) => new QueueRunner(transport, i, handler, BATCH))
    this.#lanes = this.#runners.map((runner) => this.rateLimiter.lane(() => runner.run()))
  }

  notify(queue: number): void {
    this.#runners[queue]?.run()
  }

  resetQueue(queue: number): void {
    this.#lanes[queue]?.cancel()
    this.#drain()
    // Other queues may have room now.
    if (!this.#blocked || this.#deferred) return
    this.#deferred = true
    this.#transport?.defer(this.#later)
  }

  reset(): void {
    for (const lane of this.#lanes) lane.cancel()
    this.#drain()
    this.config[spec.CONFIG_WRITEBACK_OFFSET] = this.#settings.writeback && !this.#disk.readOnly ? 1 : 0
  }

  /** A guest that was saved with another size is told. */
  activate(): void {
    if (this.#hasGrown) this.#transport?.configChanged()
    this.#hasGrown = false
  }

  /** The driver may choose the write cache, and nothing else. */
  writeConfig(offset: number, size: number, value: number): void {
    const isNegotiated = ((this.#transport?.featuresLow ?? 0) & CONFIG_WCE_BIT) !== 0
    if (offset !== spec.CONFIG_WRITEBACK_OFFSET || size !== 1 || value > 1 || !isNegotiated) return
    this.config[offset] = value
  }

  /**
   * The disk has another size: shows it to the guest.
   * @throws DevicesError ERR_DEVICE_OPTION for a size that no disk can have
   */
  sizeChanged(): void {
    checkDiskSize(this.#disk.size, this.#settings.blockSize)
    writeCapacity(this.config, this.#disk.size)
    this.#transport?.configChanged()
  }

  /**
   * Settles when the disk has completed all requests: with the vCPUs stopped, before the state is saved. Requests that wait
   * for the rate limit are still in their rings, and saved with them.
   */
  idle(): Promise<void> {
    if (this.#pending === 0) return Promise.resolve()
    return new Promise((resolve) => {
      this.#waiting.push(resolve)
    })
  }

  /** @throws DevicesError ERR_DEVICE_BUSY while the disk has requests, see {@link idle} */
  state(): BlkState {
    if (this.#pending > 0) {
      throw new DevicesError(
        'ERR_DEVICE_BUSY',
        `virtio-blk: the disk has ${this.#pending} requests to complete`,
      )
    }
    return {
      version: 1,
      writeback: this.config[spec.CONFIG_WRITEBACK_OFFSET] === 1,
      size: this.#disk.size,
      rateLimit: this.#ownsLimiter && this.rateLimiter.isLimited ? this.rateLimiter.state() : null,
    }
  }

  /**
   * The disk may be another one: of the same size, or larger, which a guest that runs is told with `resume`.
   * @throws DevicesError ERR_DEVICE_STATE
   */
  restore(state: unknown): void {
    const { writeback, rateLimit, size } = checkBlkState(state, this.#disk)
    this.#hasGrown = size !== this.#disk.size
    if (rateLimit !== null && this.#ownsLimiter) this.rateLimiter.restore(rateLimit)
    this.config[spec.CONFIG_WRITEBACK_OFFSET] = writeback ? 1 : 0
  }

  #serve(chain: DescriptorChain, queue: Virtqueue, runner: QueueRunner, isMapped: boolean): number {
    const transport = this.#transport as VirtioTransport
    if (this.#batchBytes >= BATCH_BYTES) return LATER
    if (this.#pending >= this.#pendingMax) {
      this.#blocked = true
      return BUSY
    }
    if (chain.writableBytes === 0) {
      transport.fault(NO_STATUS, runner.index)
      return 0
    }
    const request = this.#idle.pop() ?? new BlockRequest(this.#sink)
    request.chain = chain
    request.queue = queue
    request.runner = runner
    const disk = this.#disk
    let outcome = parseRequest(request, transport.featuresLow, disk.size, disk.readOnly)
    if (!isMapped || request.source.failed) {
      // The pop has reported memory that is not there.
      if (isMapped) transport.fault(MALFORMED, runner.index)
      outcome = spec.VIRTIO_BLK_S_IOERR
    } else if (
      this.#lanes[runner.index]?.take(outcome === PARSE_SUBMIT ? countedBytes(request) : 0) === false
    ) {
      this.#idle.push(request)
      return BUSY
    }
    if (outcome === PARSE_SUBMIT) outcome = this.#submit(request, transport)
    else if (outcome === PARSE_GET_ID) {
      request.target.write(this.#settings.id)
      outcome = spec.VIRTIO_BLK_S_OK
    }
    if (outcome === DISK_PENDING) return IN_FLIGHT
    this.#idle.push(request)
    return finishRequest(request, outcome)
  }

  #submit(request: BlockRequest, transport: VirtioTransport): number {
    const { operation } = request
    const mutable = request as { durable: boolean }
    mutable.durable =
      (operation === DISK_WRITE || operation === DISK_WRITE_ZEROES) && !this.#hasCache(transport)
    // Before the disk has it: it may complete the request while it is submitted.
    request.pending = true
    this.#pending += 1
    this.#batchBytes += request.length
    let outcome: number
    try {
      outcome = this.#disk.submit(request)
    } catch (error) {
      transport.hostFailure(error)
      outcome = DISK_FAILED
    }
    // Completed while it was submitted, whatever came after.
    if (!request.pending) return DISK_PENDING
    noteFailedRead(request, outcome)
    if (outcome !== DISK_PENDING) {
      request.pending = false
      this.#pending -= 1
    }
    return outcome
  }

  /** Without VIRTIO_BLK_F_FLUSH a driver cannot flush: it has no cache (5.2.5.2). */
  #hasCache(transport: VirtioTransport): boolean {
    const features = transport.featuresLow
    if ((features & CONFIG_WCE_BIT) !== 0) return this.config[spec.CONFIG_WRITEBACK_OFFSET] === 1
    return (features & FLUSH_BIT) !== 0
  }

  #complete(request: BlockRequest, outcome: DiskOutcome): void {
    const { chain, queue, runner } = request
    if (!request.pending || queue === undefined || runner === undefined) return
    request.pending = false
    this.#pending -= 1
    noteFailedRead(request, outcome)
    const length = request.isCurrent ? finishRequest(request, outcome) : 0
    this.#idle.push(request)
    runner.complete(chain, queue, length)
    if (this.#pending === 0) this.#wake()
  }

  #flush(): void {
    for (const runner of this.#runners) runner.flush()
    if (!this.#blocked || this.#draining || this.#pending >= this.#pendingMax) return
    this.#blocked = false
    for (const runner of this.#runners) runner.run()
  }

  #drain(): void {
    this.#draining = true
    try {
      this.#disk.drain?.()
    } finally {
      this.#draining = false
    }
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve()
  }
}
