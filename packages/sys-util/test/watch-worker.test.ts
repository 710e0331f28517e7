/** Watches in workers: the end of a worker must not be the end of the process. */
import { expect, it } from 'vitest'
import { runInWorkers } from './child.ts'

/** A watch that is called all the time, and what it does when it has been for some. */
const busy = (then: string): string => `
  const event = new EventFd()
  let calls = 0
  const watched = watch(event.fd, EPOLLIN | EPOLLET, () => {
    calls += 1
    event.write()
    if (calls === 100) { ${then} }
  })
  event.write()`

const PROGRAMS = {
  exits: busy('process.exit(3)'),
  'exits-later': busy('setTimeout(() => process.exit(4), 20)'),
  throws: busy(`throw new Error('in the callback')`),
  closes: busy('watched.close()'),
  'watches-again': busy(
    'watched.close(); setImmediate(() => watch(event.fd, EPOLLIN, () => process.exit(calls)))',
  ),
  'is-not-kept': 'watch(new EventFd().fd, EPOLLIN, () => {}).unref()',
  'is-not-kept-by-what-is-ready': 'const event = new EventFd(1); watch(event.fd, EPOLLIN, () => {}).unref()',
  'settles-promises': `
    const event = new EventFd()
    const called = new Promise((resolve) => watch(event.fd, EPOLLIN | EPOLLET, resolve))
    setTimeout(() => event.write(), 10)
    await called
    process.exit(5)`,
}

it('a worker ends with its watches open, in whatever way, and others go on', () => {
  expect(runInWorkers(PROGRAMS).trimEnd().split('\n')).toEqual([
    'exits: exit 3',
    'exits-later: exit 4',
    'throws: error in the callback',
    'throws: exit 1',
    'closes: exit 0',
    'watches-again: exit 100',
    'is-not-kept: exit 0',
    'is-not-kept-by-what-is-ready: exit 0',
    'settles-promises: exit 5',
  ])
})
