/** What a balloon is made of, and what its maker hears of it. */
import { DevicesError } from '../../error.ts'
import type { Timers } from '../../host.ts'
import { NODE_TIMERS } from '../../host.ts'
import { VIRTIO_BALLOON_PAGE_SIZE, VIRTIO_BALLOON_PAGES_MAX } from './spec.ts'
import type { BalloonStatistics } from './statistics.ts'

/** The longest time that {@link Timers} take. */
const INTERVAL_MAX_MS = 86_400_000

/** Who gives guest memory back to the host: `MappedMemory` of `@vmm/vm-memory/mmap`, or a VMM's own. */
export interface BalloonMemory {
  /**
   * Whether pages read as zeros once they were given back; default true. False for a private mapping of a file, whose
   * pages they are then again: what the guest expects to be zeros is not given back.
   */
  readonly discardsToZero?: boolean | undefined
  /**
   * Gives a range back. A VMM leaves out here what must stay. The guest may use it again at any time.
   * @param address of guest memory, a multiple of the page size; all of the range is in one region
   * @param size in bytes, a multiple of the page size
   */
  discard(address: number, size: number): void
}

/** Every method is optional. They run inside the device's work: take note and return. */
export interface BalloonEvents {
  /** The guest has sent statistics. */
  statistics?(statistics: BalloonStatistics): void
  /** The guest says that its balloon has another size, in bytes. It does so many times on the way to a target. */
  actualChanged?(bytes: number): void
}

/** Options of {@link Balloon}. */
export interface BalloonOptions {
  /** Where the pages go: `MappedMemory` of `@vmm/vm-memory/mmap` is one. */
  readonly memory: BalloonMemory
  /** What the guest shall give up, in bytes, a multiple of 4096 below 2^44; default 0. */
  readonly target?: number | undefined
  /** Whether the guest may take pages back before it kills a program for want of memory; default false. */
  readonly deflateOnOom?: boolean | undefined
  /** Whether the guest reports free pages, which go back to the host until it uses them again; default false. */
  readonly reporting?: boolean | undefined
  /**
   * How often the guest is asked for statistics, in milliseconds, up to a day; 0: only by `requestStatistics`. Default: no
   * statistics.
   */
  readonly statisticsInterval?: number | undefined
  /**
   * Of the host's pages that hold guest memory, in bytes, a power of two from 4096 on: with huge pages, theirs. Only whole
   * ones are given back. Default 4096.
   */
  readonly pageSize?: number | undefined
  /** Default Node's. */
  readonly timers?: Timers | undefined
  /** Told of statistics and sizes; default nobody. */
  readonly events?: BalloonEvents | undefined
}

/** The options, with nothing left open. */
export interface BalloonSettings {
  readonly deflateOnOom: boolean
  readonly reporting: boolean
  readonly hasStatistics: boolean
  readonly pageSize: number
  readonly timers: Timers
  readonly events: BalloonEvents
}

/** @throws DevicesError ERR_DEVICE_OPTION */
export function balloonSettings(options: BalloonOptions): BalloonSettings {
  if (typeof options?.memory?.discard !== 'function') {
    refuse('there is no memory in the options: new Balloon({ memory })')
  }
  const { deflateOnOom = false, reporting = false, statisticsInterval } = options
  const { pageSize = VIRTIO_BALLOON_PAGE_SIZE, timers = NODE_TIMERS, events = {} } = options
  if (!(pageSize >= VIRTIO_BALLOON_PAGE_SIZE && Number.isInteger(Math.log2(pageSize)))) {
    refuse(`a page has a power of two of bytes, 4096 or more, got ${pageSize}`)
  }
  const hasStatistics = statisticsInterval !== undefined
  if (hasStatistics) checkInterval(statisticsInterval)
  return { deflateOnOom, reporting, hasStatistics, pageSize, timers, events }
}

/**
 * In pages of 4096 bytes.
 * @throws DevicesError ERR_DEVICE_OPTION
 */
export function targetPages(bytes: number): number {
  const pages = bytes / VIRTIO_BALLOON_PAGE_SIZE
  if (Number.isInteger(pages) && pages >= 0 && pages <= VIRTIO_BALLOON_PAGES_MAX) return pages
  return refuse(`a target is a multiple of 4096 bytes below 2^44, got ${bytes}`)
}

/** @throws DevicesError ERR_DEVICE_OPTION */
export function checkInterval(ms: number): void {
  if (ms >= 0 && ms <= INTERVAL_MAX_MS) return
  refuse(`an interval of statistics is 0 to ${INTERVAL_MAX_MS} ms, got ${ms}`)
}

/** @throws DevicesError ERR_DEVICE_OPTION, always */
export function refuse(what: string): never {
  throw new DevicesError('ERR_DEVICE_OPTION', `virtio-balloon: ${what}`)
}
