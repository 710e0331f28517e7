/**
 * The balloon: virtio 1.2 section 5.5. The guest gives pages up and takes them back as a target says, reports pages that are
 * free, and sends statistics. Not here: free page hints (VIRTIO_BALLOON_F_FREE_PAGE_HINT), which tell a migration what it need
 * not copy; and VIRTIO_BALLOON_F_MUST_TELL_HOST, as a page that was given back can be used without notice.
 */
import type { DescriptorChain, GuestRegion } from '@vmm/virtio-queue'
import { UNMAPPED } from '@vmm/virtio-queue'
import type { PendingCall } from '../../host.ts'
import { attachOnce } from '../attached.ts'
import type { VirtioDevice, VirtioFault, VirtioTransport } from '../device.ts'
import { BUSY, LATER, QueueRunner } from '../queue-runner.ts'
import { featureBit, VIRTIO_ID_BALLOON } from '../spec.ts'
import { Discarder } from './discarder.ts'
import type { BalloonMemory, BalloonOptions, BalloonSettings } from './options.ts'
import { balloonSettings, checkInterval, refuse, targetPages } from './options.ts'
import * as spec from './spec.ts'
import type { BalloonState } from './state.ts'
import { checkBalloonState } from './state.ts'
import type { BalloonStatistics } from './statistics.ts'
import { readStatistics } from './statistics.ts'

/** Linux has one request in each queue, of up to 32 free blocks on that for reports. */
const QUEUE_SIZE = 64
/**
 * The most pages of a buffer, and buffers of a queue, for one turn of the event loop: if no two of them are neighbours, they
 * take as many system calls.
 */
const PAGES_AT_ONCE = 1024
const BATCH = 4

const STATS_BIT = featureBit(spec.VIRTIO_BALLOON_F_STATS_VQ)
const OOM_BIT = featureBit(spec.VIRTIO_BALLOON_F_DEFLATE_ON_OOM)
const POISON_BIT = featureBit(spec.VIRTIO_BALLOON_F_PAGE_POISON)
const REPORTING_BIT = featureBit(spec.VIRTIO_BALLOON_F_REPORTING)

const PAGES: VirtioFault = Object.freeze({
  code: 'ERR_BALLOON_PAGES',
  needsReset: false,
  message: 'a page for the balloon is not in guest memory, or its number is cut short (5.5.6)',
})

/**
 * virtio-balloon.
 *
 * @example
 * ```ts
 * const balloon = new Balloon({
 *   memory: mapped,
 *   reporting: true,
 *   statisticsInterval: 1000,
 *   events: { statistics: ({ availableMemory = 0 }) => balloon.setTarget(spareOf(availableMemory)) },
 * })
 * ```
 */
export class Balloon implements VirtioDevice {
  readonly type: number = VIRTIO_ID_BALLOON
  readonly featuresLow: number
  readonly featuresHigh = 0
  readonly queueSizes: readonly number[]
  readonly config: Uint8Array = new Uint8Array(spec.VIRTIO_BALLOON_CONFIG_SIZE)
  readonly #view = new DataView(this.config.buffer)
  readonly #memory: BalloonMemory
  readonly #settings: BalloonSettings
  readonly #pages = new Uint32Array(PAGES_AT_ONCE)
  #transport: VirtioTransport | undefined
  #discarder: Discarder | undefined
  #runners: QueueRunner[] = []
  /** Bytes of the first buffer of the inflate queue that are done. */
  #inflateOffset = 0
  #statistics: BalloonStatistics | undefined
  /** The buffer with statistics that waits in its queue has been read. */
  #hasRead = false
  /** It shall go back to the guest, to be filled again. */
  #wantsStatistics = false
  #interval: number
  #timer: PendingCall | undefined

  /** @throws DevicesError ERR_DEVICE_OPTION */
  constructor(options: BalloonOptions) {
    const settings = balloonSettings(options)
    const { deflateOnOom, hasStatistics, reporting } = settings
    this.#memory = options.memory
    this.#settings = settings
    this.#interval = options.statisticsInterval ?? 0
    // Who initializes its free pages reports none to a device that does not offer to hear of it.
    this.featuresLow =
      (hasStatistics ? STATS_BIT : 0) |
      (deflateOnOom ? OOM_BIT : 0) |
      (reporting ? REPORTING_BIT | POISON_BIT : 0)
    // The last of them for reports is 4 (5.5.2), but the numbers close up to Linux, which leaves none for what it has not.
    const queues = reporting ? 5 : hasStatistics ? 3 : 2
    this.queueSizes = Array.from({ length: queues }, () => QUEUE_SIZE)
    this.#setPages(targetPages(options.target ?? 0))
  }

  /** What the guest shall give up, in bytes. */
  get target(): number {
    return this.#view.getUint32(spec.CONFIG_NUM_PAGES_OFFSET, true) * spec.VIRTIO_BALLOON_PAGE_SIZE
  }

  /** What the guest says it has given up, in bytes. */
  get actual(): number {
    return this.#view.getUint32(spec.CONFIG_ACTUAL_OFFSET, true) * spec.VIRTIO_BALLOON_PAGE_SIZE
  }

  /** What was given back to the host, in bytes: all told, the same page as often as it was. */
  get discardedBytes(): number {
    return this.#discarder?.bytes ?? 0
  }

  /** What the guest has sent last; undefined before it has. */
  get statistics(): BalloonStatistics | undefined {
    return this.#statistics
  }

  /**
   * Asks the guest for another size of the balloon. It follows as fast as it likes, and as far as it can.
   * @param bytes to give up, a multiple of 4096 below 2^44
   * @throws DevicesError ERR_DEVICE_OPTION
   */
  setTarget(bytes: number): void {
    const pages = targetPages(bytes)
    if (bytes === this.target) return
    this.#setPages(pages)
    this.#transport?.configChanged()
  }

  /**
   * Asks the guest for statistics, which come as an event.
   * @returns false where it cannot be asked: it has not answered the last time, or has no driver
   */
  requestStatistics(): boolean {
    this.#wantsStatistics = true
    this.#runners[spec.STATS_QUEUE]?.run()
    const isAsked = !this.#wantsStatistics
    this.#wantsStatistics = false
    return isAsked
  }

  /**
   * Sets how often the guest is asked for statistics.
   * @param ms up to a day; 0: not
   * @throws DevicesError ERR_DEVICE_OPTION, also for a balloon that was made without statistics
   */
  setStatisticsInterval(ms: number): void {
    if (!this.#settings.hasStatistics) refuse('made without statistics')
    checkInterval(ms)
    this.#interval = ms
    this.#schedule()
  }

  attach(transport: VirtioTransport): void {
    this.#transport = attachOnce(this.#transport, transport, 'virtio-balloon')
    this.#discarder = new Discarder(this.#memory, transport.memory, this.#settings.pageSize, (error) =>
      transport.hostFailure(error),
    )
    this.#runners = this.queueSizes.map((_, queue) => {
      const serve = (chain: DescriptorChain) => this.#serve(queue, chain)
      return new QueueRunner(transport, queue, { serve }, BATCH)
    })
  }

  activate(): void {
    this.#schedule()
  }

  notify(queue: number): void {
    this.#runners[queue]?.run()
  }

  resetQueue(queue: number): void {
    if (queue === spec.INFLATE_QUEUE) this.#inflateOffset = 0
    if (queue === spec.STATS_QUEUE) this.#hasRead = false
  }

  /** The target stays: the driver that comes next follows it from an empty balloon on. */
  reset(): void {
    this.close()
    this.#inflateOffset = 0
    this.#hasRead = false
    this.#statistics = undefined
    this.#view.setUint32(spec.CONFIG_ACTUAL_OFFSET, 0, true)
    this.#view.setUint32(spec.CONFIG_POISON_VAL_OFFSET, 0, true)
  }

  /** The driver may write what it has given up, and with what it initializes pages. */
  writeConfig(offset: number, size: number, value: number): void {
    if (size !== 4) return
    if (offset === spec.CONFIG_POISON_VAL_OFFSET && this.#has(POISON_BIT)) {
      this.#view.setUint32(offset, value, true)
    }
    if (offset !== spec.CONFIG_ACTUAL_OFFSET) return
    this.#view.setUint32(offset, value, true)
    this.#settings.events.actualChanged?.(this.actual)
  }

  /** Asks for no more statistics: before guest memory goes. Idempotent. */
  close(): void {
    this.#timer?.cancel()
    this.#timer = undefined
  }

  [Symbol.dispose](): void {
    this.close()
  }

  state(): BalloonState {
    return {
      version: 1,
      targetPages: this.target / spec.VIRTIO_BALLOON_PAGE_SIZE,
      actualPages: this.actual / spec.VIRTIO_BALLOON_PAGE_SIZE,
      poison: this.#view.getUint32(spec.CONFIG_POISON_VAL_OFFSET, true),
    }
  }

  /** @throws DevicesError ERR_DEVICE_STATE */
  restore(state: unknown): void {
    const { targetPages, actualPages, poison } = checkBalloonState(state)
    this.#setPages(targetPages)
    this.#view.setUint32(spec.CONFIG_ACTUAL_OFFSET, actualPages, true)
    this.#view.setUint32(spec.CONFIG_POISON_VAL_OFFSET, poison, true)
  }

  /** @param feature one bit of those below 32 */
  #has(feature: number): boolean {
    return ((this.#transport?.featuresLow ?? 0) & feature) !== 0
  }

  #setPages(pages: number): void {
    this.#view.setUint32(spec.CONFIG_NUM_PAGES_OFFSET, pages, true)
  }

  #serve(queue: number, chain: DescriptorChain): number {
    if (queue === spec.INFLATE_QUEUE) return this.#inflate(chain)
    // The pages that come out of the balloon are memory like all other.
    if (queue === spec.DEFLATE_QUEUE) return 0
    if (queue === spec.STATS_QUEUE && this.#has(STATS_BIT)) return this.#takeStatistics(chain)
    return this.#report(chain)
  }

  /** Page numbers, of 32 bits each. */
  #inflate(chain: DescriptorChain): number {
    const reader = chain.reader()
    reader.skip(Math.min(this.#inflateOffset, reader.available))
    this.#inflateOffset = 0
    let count = 0
    while (count < PAGES_AT_ONCE && reader.available > 0) {
      const page = reader.readUint32()
      if (reader.failed) break
      this.#pages[count] = page
      count += 1
    }
    const isInside = this.#discardPages(count)
    if (reader.failed || !isInside) this.#transport?.fault(PAGES, spec.INFLATE_QUEUE)
    if (reader.failed || reader.available === 0) return 0
    this.#inflateOffset = reader.consumed
    return LATER
  }

  #discardPages(count: number): boolean {
    const discarder = this.#discarder as Discarder
    for (let i = 0; i < count; i += 1) {
      const page = this.#pages[i] as number
      discarder.add(page * spec.VIRTIO_BALLOON_PAGE_SIZE, spec.VIRTIO_BALLOON_PAGE_SIZE)
    }
    return discarder.finish()
  }

  /** The buffers themselves are what is free. They must not change where the driver expects to find its own pattern (5.5.6.7). */
  #report(chain: DescriptorChain): number {
    if (!this.#has(REPORTING_BIT) || (this.#has(POISON_BIT) && !this.#discardsToPoison())) return 0
    const discarder = this.#discarder as Discarder
    for (let i = chain.readableCount; i < chain.segmentCount; i += 1) {
      const region = chain.regions[i] as GuestRegion
      if (region === UNMAPPED) continue
      discarder.add(region.start + (chain.offsets[i] as number), chain.lengths[i] as number)
    }
    discarder.finish()
    return 0
  }

  /** Whether a page that was given back has what the driver expects of it. */
  #discardsToPoison(): boolean {
    const poison = this.#view.getUint32(spec.CONFIG_POISON_VAL_OFFSET, true)
    return poison === 0 && this.#memory.discardsToZero !== false
  }

  /** A buffer with statistics stays in its queue until others are wanted: to return it is to ask (5.5.6.3). */
  #takeStatistics(chain: DescriptorChain): number {
    if (!this.#hasRead) {
      this.#hasRead = true
      const statistics = readStatistics(chain.reader())
      this.#statistics = statistics
      this.#settings.events.statistics?.(statistics)
    }
    if (!this.#wantsStatistics) return BUSY
    this.#wantsStatistics = false
    this.#hasRead = false
    return 0
  }

  #schedule(): void {
    this.close()
    if (this.#interval === 0 || !this.#has(STATS_BIT)) return
    this.#timer = this.#settings.timers.after(this.#interval, () => {
      this.requestStatistics()
      this.#schedule()
    })
  }
}
