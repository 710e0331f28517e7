/**
 * Owners for the length of a test, turns of the event loop, and a subscriber that writes down what it is told.
 */
import type { EventOps, EventSubscriber, Events } from '@vmm/event-manager'

export { own } from '../../../tests/support/own.ts'

const SETTLE_TURNS = 20

/** Lets the event loop turn until what is ready has been told: an immediate comes after a look at the descriptors. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < SETTLE_TURNS; turn++) await new Promise((resolve) => setImmediate(resolve))
}

/** Registers what it is made with, and keeps copies of its events. */
export class Recorder implements EventSubscriber {
  readonly seen: Events[] = []
  inits = 0
  readonly #fds: readonly { fd: number; set: number; data?: number }[]
  readonly #onEvent: (events: Events, ops: EventOps) => void

  constructor(
    fds: readonly { fd: number; set: number; data?: number }[],
    onEvent: (events: Events, ops: EventOps) => void = () => {},
  ) {
    this.#fds = fds
    this.#onEvent = onEvent
  }

  init(ops: EventOps): void {
    this.inits++
    for (const { fd, set, data } of this.#fds) ops.add(fd, set, data)
  }

  process(events: Events, ops: EventOps): void {
    this.seen.push({ ...events })
    this.#onEvent(events, ops)
  }
}
