/**
 * Looks at the queues of all devices on a thread for a while after they were served, before their drivers are asked
 * for notifications again. A driver that goes on within that while needs no notification, which costs it an exit and the
 * host a wake-up.
 *
 * The thread has other work. So this is bounded in four ways:
 * - it comes after all that was ready in a turn of the event loop, and lets the loop turn again after 50 us;
 * - a turn in which others had work makes it shrink to one look for each queue, which takes less than a microsecond;
 * - a queue is looked at for no longer than its driver's habits make promising, see `poll-window.ts`;
 * - what all of them are looked at in vain is a tenth of the thread's time at most.
 */
import { availableParallelism } from 'node:os'
import { DevicesError } from '../error.ts'
import type { Clock } from '../host.ts'
import { MONOTONIC_CLOCK } from '../host.ts'

/** The longest that the event loop waits, but for the requests that are found at the end of it. In milliseconds, as all here. */
const SLICE_MAX = 0.05
/** The first slice after a turn in which others had work. It doubles from turn to turn. */
const SLICE_MIN = 0.005
/**
 * A turn of the event loop with nothing to do takes 1 us, and 10 us once in a thousand (Node 20, a virtual machine of two CPUs
 * that were not idle).
 */
const IDLE_TURN_MAX = 0.01
/** The share of the time that may be spent in vain, */
const VAIN_SHARE = 0.1
/** and how much of it may be saved up: 20 windows of 50 us. */
const VAIN_MAX = 1
/** A look takes 25 ns, a clock 60. */
const LOOKS_PER_CLOCK = 8

/**
 * Of 0 to 200 this was the fastest for a bare-metal guest at depth 1 and at depth 32, with 4 KiB and with 64: README.md
 * has the table.
 */
const DEFAULT_MAX_MICROSECONDS = 50
const MICROSECONDS_LIMIT = 10_000

/** What {@link Pollable.look} found: nothing, */
export const LOOK_NOTHING = 0
/** something, and it was served, */
export const LOOK_SERVED = 1
/** that there is no use in more looks, nor in asking for notifications. */
export const LOOK_OVER = 2

/** A queue to look at. */
export interface Pollable {
  /** Until when, where nothing comes. The poller's to change. */
  deadline: number
  /** How long from the last answer on. */
  readonly window: number
  /** Whether something is under way whose end the event loop will tell. */
  readonly waitsForEvents: boolean
  /** Serves what is there. */
  look(): number
  /** The driver was answered, at a time. */
  served(now: number): void
  /** This was the last look: asks for notifications again, and serves what came meanwhile. */
  rearm(): void
}

/** What a {@link QueuePoller} asks of the host. */
export interface QueuePollerOptions {
  /** Default the host's monotonic clock. */
  readonly clock?: Clock | undefined
  /** Runs a callback in the next turn of the event loop, or at the end of this one; default `setImmediate`. */
  readonly defer?: ((callback: () => void) => void) | undefined
}

/** How a transport's queues are looked at. */
export interface PollOptions {
  /**
   * The most that a queue is looked at for after an answer, in microseconds, 0 to 10,000; 0 for never. Default 50, and 0
   * where the process has one CPU: a guest that is to go on needs it.
   */
  readonly maxMicroseconds?: number | undefined
  /** Default the one that all transports of the thread share. */
  readonly poller?: QueuePoller | undefined
}

/** {@link PollOptions}, checked. */
export interface Polling {
  /** Above 0. */
  readonly maxMicroseconds: number
  readonly poller: QueuePoller
}

/** The poller of a thread: one for all transports there. */
export class QueuePoller {
  readonly #clock: Clock
  readonly #defer: (callback: () => void) => void
  readonly #members: Pollable[] = []
  readonly #onTurn: () => void = () => this.#turn()
  #isScheduled = false
  /** The member to look at next. */
  #next = 0
  #slice = SLICE_MIN
  /** When the last turn ended. */
  #ended = 0
  /** What may yet be spent in vain, and since when more has come. */
  #credit = VAIN_MAX
  #creditAt: number

  constructor(options: QueuePollerOptions = {}) {
    this.#clock = options.clock ?? MONOTONIC_CLOCK
    this.#defer = options.defer ?? setImmediate
    this.#creditAt = this.#clock.now()
  }

  /** Queues that are looked at. */
  get size(): number {
    return this.#members.length
  }

  /** The time, in milliseconds. */
  now(): number {
    return this.#clock.now()
  }

  /**
   * Begins to look at a queue that was served just now, until its deadline. Its driver need not notify until `rearm`.
   * @returns false where too much time was spent in vain lately
   */
  add(member: Pollable, now: number): boolean {
    if (this.#refill(now) <= 0) return false
    this.#members.push(member)
    if (this.#isScheduled) return true
    this.#ended = now
    this.#slice = SLICE_MIN
    this.#schedule()
    return true
  }

  #schedule(): void {
    this.#isScheduled = true
    this.#defer(this.#onTurn)
  }

  /** One turn of the event loop. */
  #turn(): void {
    this.#isScheduled = false
    const start = this.#clock.now()
    const pause = start - this.#ended
    const isAlone = pause <= IDLE_TURN_MAX
    // Without a look in between the loop turns for the sake of the looks.
    let vainSince = isAlone ? this.#ended : start
    this.#slice = isAlone ? Math.min(SLICE_MAX, Math.max(SLICE_MIN, 2 * this.#slice)) : 0
    try {
      vainSince = this.#look(start, vainSince)
    } finally {
      this.#ended = this.#clock.now()
      this.#credit = this.#refill(this.#ended) - (this.#ended - vainSince)
      if (this.#credit <= 0) this.#end()
      if (this.#members.length > 0) this.#schedule()
    }
  }

  /**
   * Looks at all members, over and over.
   * @param start of this turn
   * @param before since when there was nothing
   * @returns since when there is nothing
   */
  #look(start: number, before: number): number {
    const members = this.#members
    const end = start + (members.some(waitsForEvents) ? 0 : this.#slice)
    let now = start
    let vainSince = before
    /** How many members are still to be looked at in this turn, however long it has taken. */
    let owed = members.length
    for (let looks = 1; members.length > 0; looks += 1) {
      if (this.#next >= members.length) this.#next = 0
      const member = members[this.#next] as Pollable
      const found = member.look()
      owed -= 1
      if (found === LOOK_OVER) {
        members.splice(this.#next, 1)
        continue
      }
      let stays = true
      if (found === LOOK_SERVED) {
        now = this.#clock.now()
        vainSince = now
        member.deadline = now + member.window
        member.served(now)
      } else {
        if (looks % LOOKS_PER_CLOCK === 0 || owed === 0) now = this.#clock.now()
        stays = now < member.deadline
      }
      if (stays) this.#next += 1
      else {
        members.splice(this.#next, 1)
        member.rearm()
      }
      if (now >= end && (owed <= 0 || now - start > SLICE_MAX)) break
    }
    return vainSince
  }

  /** All drivers are to notify again. */
  #end(): void {
    for (let count = this.#members.length; count > 0; count -= 1) this.#members.shift()?.rearm()
  }

  #refill(now: number): number {
    const credit = this.#credit + Math.max(0, now - this.#creditAt) * VAIN_SHARE
    this.#creditAt = now
    this.#credit = Math.min(VAIN_MAX, credit)
    return this.#credit
  }
}

let threadPoller: QueuePoller | undefined

/**
 * @returns undefined for never
 * @throws DevicesError ERR_DEVICE_OPTION
 */
export function pollingOf(options: PollOptions = {}): Polling | undefined {
  const { maxMicroseconds = availableParallelism() > 1 ? DEFAULT_MAX_MICROSECONDS : 0 } = options
  if (!(maxMicroseconds >= 0 && maxMicroseconds <= MICROSECONDS_LIMIT)) {
    const message = `a queue is looked at for 0 to ${MICROSECONDS_LIMIT} microseconds, got ${maxMicroseconds}`
    throw new DevicesError('ERR_DEVICE_OPTION', message)
  }
  if (maxMicroseconds === 0) return undefined
  if (options.poller === undefined) threadPoller ??= new QueuePoller()
  return { maxMicroseconds, poller: options.poller ?? (threadPoller as QueuePoller) }
}

function waitsForEvents(member: Pollable): boolean {
  return member.waitsForEvents
}
