import { EventManager, EventManagerError, type SubscriberId } from '@vmm/event-manager'
import { createPipe, EPOLLHUP, EPOLLIN, EventFd } from '@vmm/sys-util'
import { describe, expect, test } from 'vitest'
import { own, Recorder, settle } from './harness.ts'

const SPIN_LIMIT = 5

interface Report {
  readonly error: unknown
  readonly id: SubscriberId
  readonly fd: number
}

function managerWithReports(spinLimit?: number): { manager: EventManager; reports: Report[] } {
  const reports: Report[] = []
  const onError = (error: unknown, id: SubscriberId, fd: number) => void reports.push({ error, id, fd })
  const manager = own(new EventManager(spinLimit === undefined ? { onError } : { onError, spinLimit }))
  return { manager, reports }
}

/** The end to read of a pipe that nobody writes to any more. */
function hungUp(): { fd: number } {
  const [reader, writer] = createPipe()
  own(reader)
  writer.close()
  return reader
}

describe('what a subscriber throws', () => {
  test('is reported with its id and descriptor, and the others get their events', async () => {
    const { manager, reports } = managerWithReports()
    const events = [own(new EventFd(1)), own(new EventFd(1)), own(new EventFd(1))]
    const failure = new Error('of the second')
    const recorders = events.map(
      (event, index) =>
        new Recorder([{ fd: event.fd, set: EPOLLIN }], () => {
          event.read()
          if (index === 1) throw failure
        }),
    )
    const ids = recorders.map((recorder) => manager.add(recorder))
    await settle()
    expect(recorders.map(({ seen }) => seen.length)).toEqual([1, 1, 1])
    expect(reports).toEqual([{ error: failure, id: ids[1], fd: events[1]?.fd }])
  })

  test('is an uncaught exception where nobody listens', async () => {
    const listeners = process.listeners('uncaughtException')
    process.removeAllListeners('uncaughtException')
    const caught: unknown[] = []
    process.on('uncaughtException', (error) => caught.push(error))
    try {
      const manager = own(new EventManager())
      const event = own(new EventFd(1))
      const failure = new Error('unheard')
      manager.add(
        new Recorder([{ fd: event.fd, set: EPOLLIN }], () => {
          event.read()
          throw failure
        }),
      )
      await settle()
      expect(caught).toEqual([failure])
    } finally {
      process.removeAllListeners('uncaughtException')
      for (const listener of listeners) process.on('uncaughtException', listener)
    }
  })
})

describe('a hang-up', () => {
  test('is told again until its descriptor is removed', async () => {
    const { manager, reports } = managerWithReports()
    const { fd } = hungUp()
    const recorder = new Recorder([{ fd, set: EPOLLIN }], (_events, ops) => {
      if (recorder.seen.length === 3) ops.remove(fd)
    })
    manager.add(recorder)
    await settle()
    expect(recorder.seen).toEqual(new Array(3).fill({ fd, set: EPOLLHUP, data: 0 }))
    expect(reports).toEqual([])
  })

  test('that nobody does anything about is given up, the others are not', async () => {
    const { manager, reports } = managerWithReports(SPIN_LIMIT)
    const { fd } = hungUp()
    const event = own(new EventFd(1))
    const spinning = new Recorder([{ fd, set: EPOLLIN }])
    const busy = new Recorder([{ fd: event.fd, set: EPOLLIN }])
    const id = manager.add(spinning)
    manager.add(busy)
    await settle()
    expect(spinning.seen.length).toBe(SPIN_LIMIT)
    expect(busy.seen.length).toBeGreaterThan(SPIN_LIMIT)
    expect(reports).toEqual([{ error: expect.any(EventManagerError), id, fd }])
    expect(reports[0]?.error).toMatchObject({ code: 'ERR_SPINNING', fd })
    expect(manager.size).toBe(2)
  })

  test('that was given up is told again after modify, and can be removed', async () => {
    const { manager, reports } = managerWithReports(SPIN_LIMIT)
    const { fd } = hungUp()
    const recorder = new Recorder([{ fd, set: EPOLLIN }])
    const ops = manager.ops(manager.add(recorder))
    await settle()
    ops.modify(fd, EPOLLIN)
    await settle()
    expect(recorder.seen.length).toBe(2 * SPIN_LIMIT)
    expect(reports.length).toBe(2)
    ops.remove(fd)
    expect(manager.size).toBe(0)
  })

  test('an event that process fails on over and over is given up, too', async () => {
    const { manager, reports } = managerWithReports(SPIN_LIMIT)
    const event = own(new EventFd(1))
    const failure = new Error('every time')
    manager.add(
      new Recorder([{ fd: event.fd, set: EPOLLIN }], () => {
        throw failure
      }),
    )
    await settle()
    expect(reports.slice(0, SPIN_LIMIT).map(({ error }) => error)).toEqual(
      new Array(SPIN_LIMIT).fill(failure),
    )
    expect(reports.length).toBe(SPIN_LIMIT + 1)
    expect(reports[SPIN_LIMIT]?.error).toMatchObject({ code: 'ERR_SPINNING' })
  })

  test('one good event starts the count anew', async () => {
    const { manager, reports } = managerWithReports(SPIN_LIMIT)
    const event = own(new EventFd(1))
    const recorder = new Recorder([{ fd: event.fd, set: EPOLLIN }], (_events, ops) => {
      if (recorder.seen.length === 4 * SPIN_LIMIT) ops.remove(event.fd)
      if (recorder.seen.length % SPIN_LIMIT !== 0) throw new Error('now and then')
    })
    manager.add(recorder)
    await settle()
    await settle()
    expect(recorder.seen.length).toBe(4 * SPIN_LIMIT)
    expect(reports.every(({ error }) => !(error instanceof EventManagerError))).toBe(true)
  })

  test('the limit is in range', () => {
    for (const spinLimit of [0, -1, Number.NaN]) {
      expect(() => new EventManager({ spinLimit })).toThrow(
        expect.objectContaining({ code: 'ERR_INVALID_SPIN_LIMIT' }),
      )
    }
    own(new EventManager({ spinLimit: Number.POSITIVE_INFINITY }))
  })
})
