import { EventManager, type SubscriberId } from '@vmm/event-manager'
import { EPOLLET, EPOLLIN, EPOLLOUT, EventFd } from '@vmm/sys-util'
import { describe, expect, test } from 'vitest'
import { own, Recorder, settle } from './harness.ts'

const INVALID_ID = expect.objectContaining({ code: 'ERR_INVALID_SUBSCRIBER_ID' })

describe('subscribers', () => {
  test('are initialised once, have ids of their own, and are found by them', async () => {
    const manager = own(new EventManager())
    const other = own(new EventManager())
    const recorders = [new Recorder([]), new Recorder([]), new Recorder([])]
    const ids = recorders.map((recorder, index) => (index === 2 ? other : manager).add(recorder))
    await settle()
    expect(recorders.map(({ inits }) => inits)).toEqual([1, 1, 1])
    expect(new Set(ids).size).toBe(3)
    expect(manager.subscriber(ids[0] as SubscriberId)).toBe(recorders[0])
    expect(other.subscriber(ids[2] as SubscriberId)).toBe(recorders[2])
    expect(() => manager.subscriber(ids[2] as SubscriberId)).toThrow(INVALID_ID)
  })

  test('are returned when removed, and unknown after that', () => {
    const manager = own(new EventManager())
    const recorder = new Recorder([])
    const id = manager.add(recorder)
    const ops = manager.ops(id)
    expect(manager.remove(id)).toBe(recorder)
    for (const use of [
      () => manager.remove(id),
      () => manager.subscriber(id),
      () => manager.ops(id),
      () => ops.add(0, EPOLLIN),
      () => ops.modify(0, EPOLLIN),
      () => ops.remove(0),
    ]) {
      expect(use).toThrow(INVALID_ID)
    }
    expect(manager.add(recorder)).not.toBe(id)
  })

  test('of different kinds are served side by side', async () => {
    const manager = own(new EventManager())
    const first = own(new EventFd(1))
    const second = own(new EventFd(1))
    const recorder = new Recorder([{ fd: first.fd, set: EPOLLIN }], () => void first.read())
    let calls = 0
    manager.add(recorder)
    manager.add({
      init: (ops) => ops.add(second.fd, EPOLLIN),
      process: () => {
        calls++
        second.read()
      },
    })
    await settle()
    expect([recorder.seen.length, calls]).toEqual([1, 1])
  })

  test('whose init throws are not added, and what they registered is free again', () => {
    const manager = own(new EventManager())
    const event = own(new EventFd())
    const failure = new Error('no')
    const subscriber = {
      init: (ops: Parameters<Recorder['init']>[0]) => {
        ops.add(event.fd, EPOLLIN)
        throw failure
      },
      process: () => {},
    }
    expect(() => manager.add(subscriber)).toThrow(failure)
    expect(manager.size).toBe(0)
    manager.add(new Recorder([{ fd: event.fd, set: EPOLLIN }]))
    expect(manager.size).toBe(1)
  })
})

describe('events', () => {
  test('tell the descriptor, the set and the data', async () => {
    const manager = own(new EventManager())
    const readable = own(new EventFd(1))
    const idle = own(new EventFd())
    const recorder = new Recorder(
      [
        { fd: readable.fd, set: EPOLLIN | EPOLLOUT | EPOLLET, data: 42 },
        { fd: idle.fd, set: EPOLLIN | EPOLLET, data: 43 },
      ],
      () => {},
    )
    manager.add(recorder)
    await settle()
    expect(recorder.seen).toEqual([{ fd: readable.fd, set: EPOLLIN | EPOLLOUT, data: 42 }])
    idle.write()
    await settle()
    expect(recorder.seen[1]).toEqual({ fd: idle.fd, set: EPOLLIN, data: 43 })
  })

  test('the data is 0 unless given, and follows a modify', async () => {
    const manager = own(new EventManager())
    const event = own(new EventFd(1))
    const recorder = new Recorder([{ fd: event.fd, set: EPOLLIN | EPOLLET }])
    const ops = manager.ops(manager.add(recorder))
    await settle()
    ops.modify(event.fd, EPOLLOUT | EPOLLET, 7)
    await settle()
    ops.modify(event.fd, EPOLLIN | EPOLLET)
    await settle()
    expect(recorder.seen.map(({ set, data }) => [set, data])).toEqual([
      [EPOLLIN, 0],
      [EPOLLOUT, 7],
      [EPOLLIN, 7],
    ])
  })
})

describe('in process', () => {
  test('a descriptor that is registered is not told of in the same round', async () => {
    const manager = own(new EventManager())
    const first = own(new EventFd(1))
    const second = own(new EventFd(1))
    const order: string[] = []
    manager.add(
      new Recorder([{ fd: first.fd, set: EPOLLIN }], ({ fd }, ops) => {
        if (fd === second.fd) {
          order.push('second')
          ops.remove(second.fd)
          return
        }
        first.read()
        ops.add(second.fd, EPOLLIN)
        setImmediate(() => order.push('end of the round'))
      }),
    )
    await settle()
    expect(order).toEqual(['end of the round', 'second'])
  })

  test('a descriptor that is removed is not told of, though ready in the same round', async () => {
    const manager = own(new EventManager())
    const events = [own(new EventFd(1)), own(new EventFd(1))]
    const recorder = new Recorder(
      events.map(({ fd }) => ({ fd, set: EPOLLIN })),
      ({ fd }, ops) => {
        for (const event of events) ops.remove(event.fd)
        expect(() => ops.remove(fd)).toThrow(expect.objectContaining({ code: 'ERR_FD_NOT_REGISTERED', fd }))
      },
    )
    manager.add(recorder)
    await settle()
    expect(recorder.seen.length).toBe(1)
    expect(manager.size).toBe(0)
  })

  test('a subscriber may remove itself and others, which are told nothing more', async () => {
    const manager = own(new EventManager())
    const events = [own(new EventFd(1)), own(new EventFd(1)), own(new EventFd(1))]
    const ids: SubscriberId[] = []
    const recorders = events.map(
      ({ fd }) => new Recorder([{ fd, set: EPOLLIN }], () => ids.forEach((id) => void manager.remove(id))),
    )
    for (const recorder of recorders) ids.push(manager.add(recorder))
    await settle()
    expect(recorders.flatMap(({ seen }) => seen).length).toBe(1)
    expect(manager.size).toBe(0)
  })

  test('the manager may be closed', async () => {
    const manager = own(new EventManager())
    const events = [own(new EventFd(1)), own(new EventFd(1))]
    const recorders = events.map(({ fd }) => new Recorder([{ fd, set: EPOLLIN }], () => manager.close()))
    for (const recorder of recorders) manager.add(recorder)
    await settle()
    expect(recorders.flatMap(({ seen }) => seen).length).toBe(1)
  })
})
