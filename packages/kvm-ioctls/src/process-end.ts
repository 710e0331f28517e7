/**
 * Runs under way when the process ends, by `process.exit` or an exception that nobody catches. libuv waits for its pool's threads
 * then, and a thread in KVM_RUN stays there for as long as the guest likes: the process would never end.
 */
import { type KickTarget, signalRunners } from './kick-signal.ts'

/** A run that can be ended without JavaScript's event loop. */
export interface RunUnderWay extends KickTarget {
  /** Has KVM_RUN return, or not begin; while its signal is on the way. */
  readonly exitAtOnce: () => void
}

/** Signals can come between a look at the flag and the guest: they are sent again until no thread is left to hear them. */
const NAP_MS = 1
const NAPS_MAX = 2000
const QUIET_NAPS = 3

const runs = new Set<RunUnderWay>()
let isListening = false

/** A run begins. */
export function runBegins(run: RunUnderWay): void {
  runs.add(run)
  if (isListening) return
  isListening = true
  process.on('exit', endRuns)
}

/** It is over. */
export function runEnds(run: RunUnderWay): void {
  runs.delete(run)
}

function endRuns(): void {
  if (runs.size === 0) return
  for (const run of runs) run.exitAtOnce()
  const nap = new Int32Array(new SharedArrayBuffer(4))
  for (let naps = 0, quiet = 0; naps < NAPS_MAX && quiet < QUIET_NAPS; naps++) {
    quiet = hasRunners() ? 0 : quiet + 1
    Atomics.wait(nap, 0, 0, NAP_MS)
  }
}

/** Signals them. @returns whether there were any, or nobody could tell for want of a descriptor */
function hasRunners(): boolean {
  try {
    return signalRunners(runs) > 0
  } catch {
    return true
  }
}
