/**
 * What it costs to be told of an eventfd, over koffi's own poll handles: one at a time, where the wake-up is all, and
 * 64 at once, where most of it is shared. Each round writes all the eventfds and waits until all have been told of.
 */
import { createRequire } from 'node:module'
import { EventManager } from '../packages/event-manager/dist/index.js'
import { EPOLLIN, EventFd } from '../packages/sys-util/dist/index.js'
import { median, printIfMain, row } from './support/report.mjs'

const koffi = createRequire(new URL('../packages/sys-util/package.json', import.meta.url))('koffi')

const SAMPLES = 25
const EVENTS = 20_000
const US_PER_MS = 1000

/** Ways to be told: each takes eventfds and a function to call, and returns how to stop. */
const ways = {
  manager: (eventFds, told) => {
    const manager = new EventManager()
    for (const eventFd of eventFds) manager.onEventFd(eventFd, told)
    return () => manager.close()
  },
  subscriber: (eventFds, told) => {
    const manager = new EventManager()
    manager.add({
      init: (ops) => {
        for (const [index, { fd }] of eventFds.entries()) ops.add(fd, EPOLLIN, index)
      },
      process: ({ data }) => {
        eventFds[data].read()
        told()
      },
    })
    return () => manager.close()
  },
  koffi: (eventFds, told) => {
    const handles = eventFds.map((eventFd) =>
      koffi.node.poll(eventFd.fd, { readable: true }, () => {
        eventFd.read()
        told()
      }),
    )
    return () => {
      for (const handle of handles) handle.close()
    }
  },
}

/** Microseconds from a write to its being told of. */
async function sample(way, eventFds) {
  const rounds = EVENTS / eventFds.length
  let pending = 0
  let round = 0
  let done
  const ring = () => {
    pending = eventFds.length
    for (const eventFd of eventFds) eventFd.write()
  }
  const finished = new Promise((resolve) => {
    done = resolve
  })
  const stop = way(eventFds, () => {
    if (--pending > 0) return
    if (++round < rounds) return ring()
    setImmediate(done)
  })
  const start = performance.now()
  ring()
  await finished
  const us = ((performance.now() - start) * US_PER_MS) / EVENTS
  stop()
  return us
}

/** The three ways in turn, so that a busy machine is busy for all of them. */
async function compare(count) {
  const eventFds = Array.from({ length: count }, () => new EventFd())
  const times = { manager: [], subscriber: [], koffi: [] }
  for (let index = 0; index < SAMPLES; index++) {
    for (const name of Object.keys(ways)) times[name].push(await sample(ways[name], eventFds))
  }
  for (const eventFd of eventFds) eventFd.close()
  return Object.fromEntries(Object.entries(times).map(([name, values]) => [name, median(values)]))
}

export async function run() {
  const one = await compare(1)
  const many = await compare(64)
  const against = (name, figure, peerFigure) =>
    row({ name, figure, unit: 'us', peer: 'koffi.node.poll', peerFigure })
  return [
    against('eventfd wake-up, 1 at a time', one.manager, one.koffi),
    against('eventfd wake-up, 1 at a time, subscriber reads it', one.subscriber, one.koffi),
    against('eventfd wake-up, 64 at once, each', many.manager, many.koffi),
    against('eventfd wake-up, 64 at once, subscriber reads it', many.subscriber, many.koffi),
  ]
}

await printIfMain(import.meta, run)
