import { expect, test } from 'vitest'
import { runInChild } from './child.ts'

const PATIENCE_MS = 1000

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
    setTimeout(() => { console.log('ran on'); process.exit() }, ${PATIENCE_MS}).unref()
    process.on('exit', () => console.log('ended'))
  `)
  expect(output.split('\n')[0]).toBe(expected)
})
