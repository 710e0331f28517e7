/** Stand-ins for the host's side of a device, shared by the tests. */
import type { Readable } from 'node:stream'
import type { Clock, Interrupt, PendingCall, Timers } from '../src/host.ts'

/** Counts edges. */
export class CountingInterrupt implements Interrupt {
  count = 0

  trigger(): void {
    this.count += 1
  }

  /** The edges since this was last asked. */
  take(): number {
    const count = this.count
    this.count = 0
    return count
  }
}

/** A clock and its timers, moved by hand. */
export class ManualTime implements Clock, Timers {
  #now: number
  #pending: { at: number; callback: () => void }[] = []

  constructor(now: number) {
    this.#now = now
  }

  now(): number {
    return this.#now
  }

  /** Sets the clock without running timers, as an administrator would. */
  set(now: number): void {
    this.#now = now
  }

  get pendingCount(): number {
    return this.#pending.length
  }

  after(delayMs: number, callback: () => void): PendingCall {
    const entry = { at: this.#now + delayMs, callback }
    this.#pending.push(entry)
    return {
      cancel: () => {
        this.#pending = this.#pending.filter((other) => other !== entry)
      },
    }
  }

  /** Lets time pass, timers going off in order. */
  advance(ms: number): void {
    const end = this.#now + ms
    for (;;) {
      const next = this.#pending.filter((entry) => entry.at <= end).sort((a, b) => a.at - b.at)[0]
      if (next === undefined) break
      this.#pending = this.#pending.filter((entry) => entry !== next)
      this.#now = Math.max(this.#now, next.at)
      next.callback()
    }
    this.#now = end
  }
}

/** The code of the error that `action` throws; fails the test if it does not throw. */
export function codeThrownBy(action: () => unknown): unknown {
  try {
    action()
  } catch (error) {
    return (error as { code?: unknown }).code
  }
  throw new Error('expected it to throw')
}

/** All that a stream has now. (From Node.js 26 on a call of `read` gives one chunk.) */
export function textOf(stream: Readable): string {
  const chunks: Buffer[] = []
  for (let chunk = stream.read(); chunk !== null; chunk = stream.read()) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}
