import { openSync } from 'node:fs'
import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { EPOLL_BATCH_SIZE } from '../src/epoll.ts'
import {
  closeFd,
  createPipe,
  dupFd,
  EPOLLERR,
  EPOLLET,
  EPOLLHUP,
  EPOLLIN,
  EPOLLONESHOT,
  EPOLLOUT,
  EventFd,
  OwnedFd,
  type Watch,
  type WatchCallback,
  watch,
} from '../src/index.ts'
import { runInChild } from './child.ts'
import { own } from './resources.ts'

const SETTLE_TURNS = 20
const IDLE_MS = 300
/** A process that should end has all the time that a busy host may take; one that should go on is believed sooner. */
const PATIENCE_MS = 60_000
const BELIEVED_MS = 300

function ownWatch(fd: number, events: number, callback: WatchCallback): Watch {
  return own(watch(fd, events, callback))
}

/** Waits until what is ready has been told: an immediate comes after a look at the descriptors. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < SETTLE_TURNS; turn++) await new Promise((resolve) => setImmediate(resolve))
}

describe('delivery', () => {
  test('tells of a ready descriptor each turn until it is read', async () => {
    const event = own(new EventFd())
    let calls = 0
    ownWatch(event.fd, EPOLLIN, (events) => {
      expect(events).toBe(EPOLLIN)
      if (++calls === 3) event.read()
    })
    await settle()
    expect(calls).toBe(0)
    event.write()
    await settle()
    expect(calls).toBe(3)
  })

  test('tells of each write once where edges are watched, without a read', async () => {
    const event = own(new EventFd())
    let calls = 0
    ownWatch(event.fd, EPOLLIN | EPOLLET, () => calls++)
    for (let write = 1; write <= 3; write++) {
      event.write()
      await settle()
      expect(calls).toBe(write)
    }
  })

  test('tells once after EPOLLONESHOT, and again after modify', async () => {
    const event = own(new EventFd(1))
    let calls = 0
    const watched = ownWatch(event.fd, EPOLLIN | EPOLLONESHOT, () => calls++)
    await settle()
    expect(calls).toBe(1)
    watched.modify(EPOLLIN | EPOLLONESHOT)
    await settle()
    expect(calls).toBe(2)
  })

  test('tells of all where more are ready than one batch takes', async () => {
    const seen = new Set<number>()
    const count = EPOLL_BATCH_SIZE * 2 + 1
    for (let index = 0; index < count; index++) {
      const event = own(new EventFd(1))
      ownWatch(event.fd, EPOLLIN, () => {
        seen.add(index)
        event.read()
      })
    }
    await settle()
    expect(seen.size).toBe(count)
  })

  test('modify changes what is watched for', async () => {
    const event = own(new EventFd(1))
    const seen: number[] = []
    const watched = ownWatch(event.fd, 0, (events) => {
      seen.push(events)
      watched.modify(0)
    })
    await settle()
    expect(seen).toEqual([])
    watched.modify(EPOLLOUT)
    await settle()
    watched.modify(EPOLLIN | EPOLLOUT)
    await settle()
    expect(seen).toEqual([EPOLLOUT, EPOLLIN | EPOLLOUT])
  })

  test('tells of a writer that has gone, and of a reader that has gone', async () => {
    const [reader, writer] = createPipe()
    const [otherReader, otherWriter] = createPipe()
    const seen: number[] = []
    for (const end of [reader, writer, otherReader, otherWriter]) own(end)
    const first = ownWatch(reader.fd, EPOLLIN, (events) => {
      seen.push(events)
      first.close()
    })
    const second = ownWatch(otherWriter.fd, 0, (events) => {
      seen.push(events)
      second.close()
    })
    writer.close()
    await settle()
    otherReader.close()
    await settle()
    expect(seen).toEqual([EPOLLHUP, EPOLLERR])
  })

  // Nothing else may happen in the process meanwhile. (Node.js 20 would pass without our doing, 26 not.)
  test('promises that a callback settles go on without another event', () => {
    const output = runInChild(`
      const event = new EventFd(1)
      watch(event.fd, EPOLLIN, async () => {
        event.read()
        await Promise.resolve()
        console.log('went on')
        process.exit()
      })
      setTimeout(() => { console.log('hung'); process.exit() }, ${PATIENCE_MS})
    `)
    expect(output).toBe('went on\n')
  })
})

describe('errors', () => {
  test('refuses what cannot be watched, and does not bring the process down', () => {
    const event = own(new EventFd())
    const file = own(new OwnedFd(openSync(import.meta.filename, 'r')))
    ownWatch(event.fd, EPOLLIN, () => {})
    expect(() => watch(event.fd, EPOLLIN, () => {})).toThrow(expect.objectContaining({ code: 'EEXIST' }))
    expect(() => watch(file.fd, EPOLLIN, () => {})).toThrow(expect.objectContaining({ code: 'EPERM' }))
    expect(() => watch(-1, EPOLLIN, () => {})).toThrow(expect.objectContaining({ code: 'EBADF' }))
  })

  test('refuses to modify what is closed', () => {
    const event = own(new EventFd())
    const watched = ownWatch(event.fd, EPOLLIN, () => {})
    watched.close()
    watched.close()
    expect(watched.closed).toBe(true)
    expect(() => watched.modify(EPOLLIN)).toThrow(expect.objectContaining({ code: 'EBADF' }))
  })

  test('a callback that throws is an uncaught exception, and the others are called', async () => {
    const handlers = process.listeners('uncaughtException')
    process.removeAllListeners('uncaughtException')
    const caught: unknown[] = []
    process.on('uncaughtException', (error) => caught.push(error))
    try {
      const failure = new Error('of the callback')
      const events = [own(new EventFd(1)), own(new EventFd(1)), own(new EventFd(1))]
      let calls = 0
      for (const [index, event] of events.entries()) {
        ownWatch(event.fd, EPOLLIN, () => {
          event.read()
          calls++
          if (index === 1) throw failure
        })
      }
      await settle()
      expect(calls).toBe(events.length)
      expect(caught).toEqual([failure])
    } finally {
      process.removeAllListeners('uncaughtException')
      for (const handler of handlers) process.on('uncaughtException', handler)
    }
  })
})

describe('the end of a watch', () => {
  test('nothing is delivered after close, not even what was ready with it', async () => {
    const events = [own(new EventFd(1)), own(new EventFd(1))]
    const watches: Watch[] = []
    let calls = 0
    for (const event of events) {
      watches.push(
        ownWatch(event.fd, EPOLLIN, () => {
          calls++
          for (const other of watches) other.close()
        }),
      )
    }
    await settle()
    expect(calls).toBe(1)
  })

  /** The eventfd of a number that was just closed. Another thread may have been quicker to open something. */
  function eventFdOf(fd: number): EventFd | undefined {
    const event = own(new EventFd())
    return event.fd === fd ? event : undefined
  }

  async function untilReused(attempt: () => Promise<boolean>): Promise<void> {
    for (let attempts = 0; attempts < 20; attempts++) if (await attempt()) return
    expect.unreachable('no number was used again')
  }

  test("a reused descriptor's new watch does not get the events of the old one", async () => {
    await untilReused(async () => {
      const pair = [own(new EventFd(1)), own(new EventFd(1))]
      const watches: Watch[] = []
      const stale: number[] = []
      let replacement: EventFd | undefined
      for (const event of pair) {
        const callback = () => {
          for (const watched of watches) watched.close()
          const other = pair.find((one) => one !== event) as EventFd
          const { fd } = other
          other.close()
          replacement = eventFdOf(fd)
          if (replacement !== undefined) ownWatch(fd, EPOLLIN, (events) => stale.push(events))
        }
        watches.push(ownWatch(event.fd, EPOLLIN, callback))
      }
      await settle()
      if (replacement === undefined) return false
      expect(stale).toEqual([])
      replacement.write()
      await settle()
      expect(stale).not.toEqual([])
      return true
    })
  })

  test('a watch that outlived its descriptor leaves the next of that number alone', async () => {
    await untilReused(async () => {
      const first = new EventFd()
      const old = ownWatch(first.fd, EPOLLIN, () => {})
      first.close()
      const second = eventFdOf(old.fd)
      if (second === undefined) return false
      let calls = 0
      ownWatch(second.fd, EPOLLIN, () => {
        calls++
        second.read()
      })
      expect(() => old.modify(EPOLLIN)).toThrow(expect.objectContaining({ code: 'ENOENT' }))
      old.close()
      second.write()
      await settle()
      expect(calls).toBe(1)
      return true
    })
  })

  test('a descriptor closed before its watch, with a duplicate open, does not keep the loop busy', async () => {
    const event = new EventFd(1)
    const duplicate = own(new OwnedFd(dupFd(event.fd)))
    const other = own(new EventFd())
    let calls = 0
    ownWatch(other.fd, EPOLLIN, () => {
      calls++
      other.read()
    })
    const watched = ownWatch(event.fd, EPOLLIN | EPOLLET, () => {})
    await settle()
    watched.modify(EPOLLIN)
    closeFd(event.fd)
    watched.close()
    await settle()

    const before = performance.nodeTiming.uvMetricsInfo.loopCount
    await sleep(IDLE_MS)
    expect(performance.nodeTiming.uvMetricsInfo.loopCount - before).toBeLessThan(IDLE_MS)
    other.write()
    await settle()
    expect(calls).toBe(1)
    expect(duplicate.closed).toBe(false)
  })

  test.each([
    ['open', 'no change', 'ran on'],
    ['unreferenced', 'watched.unref()', 'ended'],
    ['unreferenced and referenced again', 'watched.unref(); watched.ref()', 'ran on'],
    ['closed', 'watched.close()', 'ended'],
  ])('while a watch is %s (%s), the process %s', (_state, action, expected) => {
    const output = runInChild(`
      const event = new EventFd()
      const watched = watch(event.fd, EPOLLIN, () => {})
      ${action === 'no change' ? '' : action}
      setTimeout(() => { console.log('ran on'); process.exit() }, ${expected === 'ended' ? PATIENCE_MS : BELIEVED_MS}).unref()
      process.on('exit', () => console.log('ended'))
    `)
    expect(output.split('\n')[0]).toBe(expected)
  })

  test('a watch outlives the collection of garbage', () => {
    const output = runInChild(
      `
      const event = new EventFd()
      watch(event.fd, EPOLLIN, () => { console.log('told'); process.exit() })
      for (let index = 0; index < 10; index++) {
        globalThis.gc()
        await new Promise((resolve) => setTimeout(resolve, 1))
      }
      event.write()
      setTimeout(() => process.exit(), ${PATIENCE_MS})
    `,
      ['--expose-gc'],
    )
    expect(output).toBe('told\n')
  })
})
