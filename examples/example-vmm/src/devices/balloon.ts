/**
 * `--balloon [target=SIZE][,deflate-on-oom=on][,reporting=on][,stats=SECONDS]`: memory that the guest gives back. The target
 * is that of the start: nothing changes it while the VM runs.
 */
import type { BalloonStatistics } from '@vmm/devices/virtio'
import { Balloon, VIRTIO_BALLOON_PAGE_SIZE } from '@vmm/devices/virtio'
import type { AttachDevice } from '@vmm/microvm'
import { InvalidArgumentError } from 'commander'
import { type AsGiven, KeyValues } from './key-values.ts'

/** The balloon, as it was asked for. */
export interface BalloonOption extends AsGiven {
  /** In bytes, a multiple of 4096. */
  readonly target: number
  readonly deflateOnOom: boolean
  readonly reporting: boolean
  /** Between statistics, in seconds; 0: none. */
  readonly stats: number
}

const STATS_MAX_SECONDS = 86_400

/**
 * @param text empty: one that is empty, and stays so
 * @throws InvalidArgumentError
 */
export function parseBalloon(text: string): BalloonOption {
  if (text === '') return { text, target: 0, deflateOnOom: false, reporting: false, stats: 0 }
  const values = new KeyValues(text, ['target', 'deflate-on-oom', 'reporting', 'stats'])
  const target = values.size('target') ?? 0
  if (target % VIRTIO_BALLOON_PAGE_SIZE !== 0) {
    throw new InvalidArgumentError(`Expected a target of whole pages of 4096 bytes, got ${target} bytes.`)
  }
  return {
    text,
    target,
    deflateOnOom: values.isOn('deflate-on-oom', false),
    reporting: values.isOn('reporting', false),
    stats: values.wholeNumber('stats', { least: 1, most: STATS_MAX_SECONDS }) ?? 0,
  }
}

/** What became of the balloon, for the report. */
export interface BalloonReport {
  /** In bytes. */
  readonly target: number
  /** What the guest said it had given up, in bytes. */
  readonly actual: number
  /** What was given back to the host, in bytes: the same page as often as it was. */
  readonly discarded: number
  /** The last that the guest sent; null for none. */
  readonly statistics: BalloonStatistics | null
}

/** The balloon of a VM. */
export class VmBalloon {
  readonly #option: BalloonOption
  #balloon: Balloon | undefined
  // A guest that shuts down resets its devices, which forget both.
  #actual = 0
  #statistics: BalloonStatistics | null = null

  constructor(option: BalloonOption) {
    this.#option = option
  }

  /** Puts it into the VM. */
  readonly attach: AttachDevice = (host) => {
    const { target, deflateOnOom, reporting, stats } = this.#option
    const balloon = new Balloon({
      memory: host,
      target,
      deflateOnOom,
      reporting,
      events: {
        actualChanged: (bytes) => {
          this.#actual = bytes
        },
        statistics: (statistics) => {
          this.#statistics = statistics
        },
      },
      ...(stats === 0 ? {} : { statisticsInterval: 1000 * stats }),
    })
    host.virtio.attach(balloon, { hostFailure: (error) => host.warn((error as Error).message) })
    host.own(balloon)
    this.#balloon = balloon
  }

  /** As of now; null before it is in a VM. */
  report(): BalloonReport | null {
    if (this.#balloon === undefined) return null
    const { target, discardedBytes } = this.#balloon
    return { target, actual: this.#actual, discarded: discardedBytes, statistics: this.#statistics }
  }
}
