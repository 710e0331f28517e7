import { expect, test } from 'vitest'
import { Patience } from '../src/patience.ts'

const QUICK = 0.003
const SLOW = 100

function setUp() {
  const host = { time: 0, count: 0, now: () => host.time, waits: () => host.count }
  const patience = new Patience(host)
  /** Does something that takes as long, if it may. */
  const doIt = (ms: number, waits: boolean): boolean => {
    if (!patience.start()) return false
    host.time += ms
    if (waits) host.count += 1
    patience.end()
    return true
  }
  const pass = (ms: number) => {
    host.time += ms
  }
  return { doIt, pass }
}

test('what is quick goes on, and so does what is slow because others have the CPU', () => {
  const { doIt } = setUp()
  for (let i = 0; i < 100; i++) expect(doIt(QUICK, false)).toBe(true)
  for (let i = 0; i < 100; i++) expect(doIt(SLOW, false)).toBe(true)
  // One that waits and is quick, too.
  for (let i = 0; i < 100; i++) expect(doIt(QUICK, true)).toBe(true)
})

test('one slow one is no reason, a second that waits is', () => {
  const { doIt, pass } = setUp()
  expect([doIt(SLOW, true), doIt(SLOW, true), doIt(QUICK, false)]).toEqual([true, true, false])
  pass(990)
  expect(doIt(QUICK, false)).toBe(false)
  pass(20)
  expect(doIt(QUICK, false)).toBe(true)
})

test('two slow ones that are far apart are none', () => {
  const { doIt, pass } = setUp()
  for (let i = 0; i < 10; i++) {
    expect(doIt(SLOW, true)).toBe(true)
    pass(1100)
  }
  expect(doIt(QUICK, false)).toBe(true)
})

test('the pauses grow while there is reason, up to 16 seconds, and are short again after', () => {
  const { doIt, pass } = setUp()
  doIt(SLOW, true)
  for (const pause of [1, 2, 4, 8, 16, 16]) {
    expect(doIt(SLOW, true)).toBe(true)
    pass(pause * 1000 - 1)
    expect(doIt(SLOW, true)).toBe(false)
    pass(2)
  }
  pass(1100)
  expect([doIt(SLOW, true), doIt(SLOW, true)]).toEqual([true, true])
  pass(1001)
  expect(doIt(QUICK, false)).toBe(true)
})
