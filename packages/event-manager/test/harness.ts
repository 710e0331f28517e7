/**
 * Owners for the length of a test, turns of the event loop, and a subscriber that writes down what it is told.
 */
import type { EventOps, EventSubscriber, Events } from '@vmm/event-manager'
import { afterEach } from 'vitest'

const SETTLE_TURNS = 20

const owners: { close(): void }[] = []

afterEach(() => {
  for (let owner = owners.pop(); owner !== undefined; owner = owners.pop()) owner.close()
})

/** Closes it after the test, last first. */
export function own<T extends { close(): void }>(owner: T): T {
  owners.push(owner)
  return owner
}

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
