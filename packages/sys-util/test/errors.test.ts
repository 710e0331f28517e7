import { expect, test } from 'vitest'
import { errnoName, SystemError } from '../src/index.ts'
import { runInChild } from './child.ts'

const EINTR = 4
const EAGAIN = 11

test('numbers have names, one each', () => {
  expect([errnoName(EINTR), errnoName(EAGAIN), errnoName(9999)]).toEqual(['EINTR', 'EAGAIN', 'E9999'])
})

test("an error has the shape of Node's own", () => {
  const error = new SystemError('KVM_RUN', EINTR, 'fd 7')
  expect(error).toBeInstanceOf(Error)
  expect(error).toMatchObject({
    name: 'SystemError',
    code: 'EINTR',
    errno: -EINTR,
    syscall: 'KVM_RUN',
    message: 'KVM_RUN: EINTR: fd 7',
  })
  expect(new SystemError('mmap', EINTR).message).toBe('mmap: EINTR')
})

test('importing the package loads no library', () => {
  const output = runInChild(`
    import { readFileSync } from 'node:fs'
    const koffi = (await import('koffi')).default
    // koffi takes settings for as long as no library has been loaded.
    koffi.config({ max_async_calls: 100 })
    new EventFd().close()
    console.log(koffi.config().max_async_calls)
  `)
  expect(output).toBe('4096\n')
})
