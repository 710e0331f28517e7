import { expect, test } from 'vitest'
import { runInChild } from './child.ts'

/** A process that should end has all the time that a busy host may take; one that should go on is believed sooner. */
const PATIENCE_MS = 60_000
const BELIEVED_MS = 300

test.each([
  ['has a descriptor', '// and no more', 'ran on'],
  ['is unreferenced', 'manager.unref()', 'ended'],
  [
    'is unreferenced before its last descriptor came',
    'manager.unref(); manager.onEventFd(new EventFd(), () => {})',
    'ended',
  ],
  ['is referenced again', 'manager.unref(); manager.ref()', 'ran on'],
  ['has its last descriptor removed', 'subscription.close()', 'ended'],
  ['is closed', 'manager.close()', 'ended'],
])('where a manager %s (%s), the process %s', (_state, action, expected) => {
  const output = runInChild(`
    const manager = new EventManager()
    const subscription = manager.onEventFd(new EventFd(), () => {})
    ${action}
    setTimeout(() => { console.log('ran on'); process.exit() }, ${expected === 'ended' ? PATIENCE_MS : BELIEVED_MS}).unref()
    process.on('exit', () => console.log('ended'))
  `)
  expect(output.split('\n')[0]).toBe(expected)
})
