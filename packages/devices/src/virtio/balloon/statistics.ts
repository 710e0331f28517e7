/** Memory statistics of a guest: virtio 1.2 section 5.5.6.3, and the tags that Linux has added since. */
import type { Reader } from '@vmm/virtio-queue'
import { VIRTIO_BALLOON_STAT_SIZE } from './spec.ts'

/** More than there are tags: what is behind is not looked at. */
const STATISTICS_MAX = 64

/** By tag, VIRTIO_BALLOON_S_…: the order is the specification's. */
const NAMES = [
  'swapIn',
  'swapOut',
  'majorFaults',
  'minorFaults',
  'freeMemory',
  'totalMemory',
  'availableMemory',
  'diskCaches',
  'hugetlbAllocations',
  'hugetlbFailures',
  'oomKills',
  'allocationStalls',
  'asyncScan',
  'directScan',
  'asyncReclaim',
  'directReclaim',
] as const

/**
 * What the guest says of its memory. It may say what it likes: take it as a hint. A field is missing where the guest does
 * not know it, or gives 2^53 or more.
 */
export interface BalloonStatistics {
  /** Swapped in since the guest booted, in bytes. */
  readonly swapIn?: number
  /** Swapped out, in bytes. */
  readonly swapOut?: number
  /** Page faults that waited for a disk. */
  readonly majorFaults?: number
  /** Page faults that did not. */
  readonly minorFaults?: number
  /** Not used for anything, in bytes. */
  readonly freeMemory?: number
  /** All that the guest has, in bytes. */
  readonly totalMemory?: number
  /** What programs could have without swapping, in bytes. */
  readonly availableMemory?: number
  /** What could be dropped and read again, in bytes. */
  readonly diskCaches?: number
  /** Huge pages that were allocated. */
  readonly hugetlbAllocations?: number
  /** Huge pages that could not be. */
  readonly hugetlbFailures?: number
  /** Programs killed for want of memory. */
  readonly oomKills?: number
  /** Allocations that had to wait. */
  readonly allocationStalls?: number
  /** Looked at for reclaim in the background, in bytes. */
  readonly asyncScan?: number
  /** Looked at by who wanted memory, in bytes. */
  readonly directScan?: number
  /** Reclaimed in the background, in bytes. */
  readonly asyncReclaim?: number
  /** Reclaimed by who wanted memory, in bytes. */
  readonly directReclaim?: number
}

/** What a buffer of the guest's says. Tags that are not known are left out. */
export function readStatistics(reader: Reader): BalloonStatistics {
  const statistics: { [name: string]: number } = {}
  for (let i = 0; i < STATISTICS_MAX && reader.available >= VIRTIO_BALLOON_STAT_SIZE; i += 1) {
    const name = NAMES[reader.readUint16()]
    const value = reader.readUint64()
    if (reader.failed) break
    if (name !== undefined && Number.isFinite(value)) statistics[name] = value
  }
  return statistics
}
