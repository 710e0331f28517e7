/**
 * What `--report` writes: when things happened, why the vCPUs came out, what it took.
 */
import { writeFileSync } from 'node:fs'
import type { BalloonReport } from './devices/balloon.ts'
import type { RunEnd } from './end.ts'

/** The report, as JSON. Times are milliseconds since the process started; null for what never happened. */
export interface Report {
  /** 0 to 4, or 128+N: the exit status. */
  readonly status: number
  /** Why it ended, in a sentence. */
  readonly reason: string
  /** How many VMs there were: more than one with --clones, and everything below is of all of them together. */
  readonly vms: number
  readonly times: {
    /** Memory, devices and vCPUs are set up, the kernel is loaded or the saved state restored. */
    readonly vmReady: number | null
    /** The first vCPU is about to enter the guest. */
    readonly firstRun: number | null
    /** The guest wrote the boot marker. */
    readonly bootMarker: number | null
    /** The VM ended. */
    readonly exit: number | null
  }
  /** How often vCPUs came out of KVM_RUN, by the kind of exit, all vCPUs together. */
  readonly exits: Readonly<Record<string, number>>
  /** Instructions completed for KVM, by mnemonic. */
  readonly completions: Readonly<Record<string, number>>
  /** The host's RAM that it took, in KiB. */
  readonly memory: {
    /** The most the process has had, guest memory included. */
    readonly peakRssKib: number
    /** The process at the end, guest memory included. */
    readonly rssKib: number
    /** Guest memory at the end; of a restored VM what it has written. */
    readonly guestRssKib: number
  }
  /** What became of `--balloon`, of the first VM; null without. */
  readonly balloon: BalloonReport | null
  /** What `--snapshot` has written. */
  readonly snapshots: readonly SnapshotReport[]
}

/** One snapshot. */
export interface SnapshotReport {
  readonly kind: 'full' | 'differential'
  /** Bytes of guest memory that were written. */
  readonly memoryBytes: number
  /** How long the VM stood still for it. */
  readonly pauseMs: number
  /** How long it took until the snapshot was on the disk. */
  readonly totalMs: number
}

/** What is known at the end alone. */
export interface FinalReport {
  readonly vms: number
  readonly guestRssKib: number
  readonly balloon: BalloonReport | null
}

/** Milliseconds as reports have them, to the hundredth. */
export function inMs(ms: number): number {
  return Math.round(ms * 100) / 100
}

/** Collects a report while the VM runs. */
export class ReportBuilder {
  readonly #times = { vmReady: null, firstRun: null, bootMarker: null, exit: null } as {
    -readonly [K in keyof Report['times']]: number | null
  }
  readonly #exits = new Map<string, number>()
  readonly #completions = new Map<string, number>()
  readonly #snapshots: SnapshotReport[] = []

  /** Notes the time of an event, the first time it happens. */
  mark(event: keyof Report['times']): void {
    // performance.now() counts from the start of the process.
    this.#times[event] ??= inMs(performance.now())
  }

  /** Counts an exit. */
  countExit(reason: string): void {
    this.#exits.set(reason, (this.#exits.get(reason) ?? 0) + 1)
  }

  /** Counts an instruction completed for KVM. */
  countCompletion(mnemonic: string): void {
    this.#completions.set(mnemonic, (this.#completions.get(mnemonic) ?? 0) + 1)
  }

  /** Notes a snapshot. */
  addSnapshot(snapshot: SnapshotReport): void {
    this.#snapshots.push(snapshot)
  }

  /** The report, as of now. */
  finish({ status, reason }: RunEnd, { vms, guestRssKib, balloon }: FinalReport): Report {
    const rssKib = Math.round(process.memoryUsage.rss() / 1024)
    return {
      status,
      reason,
      vms,
      times: this.#times,
      exits: Object.fromEntries(this.#exits),
      completions: Object.fromEntries(this.#completions),
      memory: {
        // The kernel is behind with the peak by a few pages.
        peakRssKib: Math.max(process.resourceUsage().maxRSS, rssKib),
        rssKib,
        guestRssKib,
      },
      balloon,
      snapshots: this.#snapshots,
    }
  }
}

/** Writes a report to a file. */
export function writeReport(path: string, report: Report): void {
  writeFileSync(path, `${JSON.stringify(report, null, 2)}\n`)
}
