import { expect, test } from 'vitest'
import { EPOLLIN, TimerFd, watch } from '../src/index.ts'
import { fdFlags, O_CLOEXEC, O_NONBLOCK, own } from './resources.ts'

const HOUR_MS = 3_600_000

function expiry(timer: TimerFd): Promise<void> {
  return new Promise((resolve) => {
    const watched = watch(timer.fd, EPOLLIN, () => {
      watched.close()
      resolve()
    })
  })
}

test('is disarmed, close-on-exec and non-blocking at first', () => {
  const timer = own(new TimerFd())
  expect(timer.remaining()).toEqual({ delayMs: 0, intervalMs: 0 })
  expect(timer.read()).toBe(0)
  expect(fdFlags(timer.fd) & (O_CLOEXEC | O_NONBLOCK)).toBe(O_CLOEXEC | O_NONBLOCK)
})

test('expires once, not before its time', async () => {
  const timer = own(new TimerFd())
  const delayMs = 20
  const start = process.hrtime.bigint()
  timer.arm(delayMs)
  expect(timer.read()).toBe(0)
  await expiry(timer)
  expect(Number(process.hrtime.bigint() - start)).toBeGreaterThanOrEqual(delayMs * 1e6)
  expect(timer.read()).toBe(1)
  expect(timer.read()).toBe(0)
  expect(timer.remaining()).toEqual({ delayMs: 0, intervalMs: 0 })
})

test('repeats until it is disarmed', async () => {
  const timer = own(new TimerFd())
  timer.arm(0, 1)
  for (let expired = 0; expired < 3; ) {
    await expiry(timer)
    expired += timer.read()
  }
  expect(timer.remaining().intervalMs).toBe(1)
  timer.disarm()
  expect(timer.read()).toBe(0)
  expect(timer.remaining()).toEqual({ delayMs: 0, intervalMs: 0 })
})

test('a delay of nothing expires at once', async () => {
  const timer = own(new TimerFd())
  timer.arm(0)
  await expiry(timer)
  expect(timer.read()).toBe(1)
})

test('keeps fractions and long times', () => {
  const timer = own(new TimerFd())
  timer.arm(10_000 * HOUR_MS, 1.5)
  const { delayMs, intervalMs } = timer.remaining()
  expect(intervalMs).toBe(1.5)
  expect(delayMs).toBeGreaterThan(9_999 * HOUR_MS)
  expect(delayMs).toBeLessThanOrEqual(10_000 * HOUR_MS)
})

test('refuses times that are none', () => {
  const timer = own(new TimerFd())
  for (const time of [-1, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53]) {
    expect(() => timer.arm(time)).toThrow(RangeError)
    expect(() => timer.arm(1, time)).toThrow(RangeError)
  }
  timer.close()
  expect(() => timer.arm(1)).toThrow(expect.objectContaining({ code: 'EBADF', syscall: 'timerfd_settime' }))
})
