import { writeSync } from 'node:fs'
import { expect, test } from 'vitest'
import { EFD_SEMAPHORE, EventFd } from '../src/index.ts'
import { fdFlags, O_CLOEXEC, O_NONBLOCK, own } from './resources.ts'

test('a read takes the sum of the writes', () => {
  const event = own(new EventFd(3))
  event.write()
  event.write(2 ** 33 + 5)
  expect(event.read()).toBe(2 ** 33 + 9)
  expect(event.read()).toBe(0)
})

test('a semaphore gives one at a time', () => {
  const event = own(new EventFd(2, EFD_SEMAPHORE))
  expect([event.read(), event.read(), event.read()]).toEqual([1, 1, 0])
})

test('a full counter refuses more', () => {
  const event = own(new EventFd())
  const full = new BigUint64Array([2n ** 64n - 2n])
  writeSync(event.fd, new Uint8Array(full.buffer))
  expect(() => event.write()).toThrow(expect.objectContaining({ code: 'EAGAIN', syscall: 'write' }))
  expect(event.read()).toBe(2 ** 64)
  event.write()
  expect(event.read()).toBe(1)
})

test('a clone shares the counter and outlives the first', () => {
  const event = new EventFd(4)
  const clone = own(event.clone())
  event.close()
  writeSync(clone.fd, new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]))
  expect(fdFlags(clone.fd) & O_CLOEXEC).toBe(O_CLOEXEC)
  expect(() => event.read()).toThrow(expect.objectContaining({ code: 'EBADF' }))
})

test('is close-on-exec and non-blocking', () => {
  const { fd } = own(new EventFd())
  expect(fdFlags(fd) & (O_CLOEXEC | O_NONBLOCK)).toBe(O_CLOEXEC | O_NONBLOCK)
})
