import { writeSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { _IO, _IOR, _IOW, _IOWR, createPipe, EventFd, ioctl, ioctlAsync, ioctlRaw } from '../src/index.ts'
import { runInChild } from './child.ts'
import { evaluate, skipWithoutCompiler } from './compiler.ts'
import { own } from './resources.ts'

const FIONREAD = 0x541b
const EBADF = 9
const ENOTTY = 25
const SIZE_MAX = 2 ** 14 - 1

const requests = { _IO, _IOR, _IOW, _IOWR }

test.skipIf(skipWithoutCompiler)('request numbers are those of the C macros', () => {
  const byte = fc.integer({ min: 0, max: 255 })
  const size = fc.integer({ min: 1, max: SIZE_MAX })
  const samples = [...fc.sample(fc.tuple(byte, byte, size), 50), [0, 0, 1], [255, 255, SIZE_MAX]] as const
  const cases = samples.flatMap(([type, nr, bytes]) => {
    return (['_IO', '_IOR', '_IOW', '_IOWR'] as const).map((name) => ({
      expression: name === '_IO' ? `_IO(${type}, ${nr})` : `${name}(${type}, ${nr}, char[${bytes}])`,
      number: requests[name](type, nr, bytes),
    }))
  })
  const expected = evaluate(
    ['linux/ioctl.h'],
    cases.map(({ expression }) => expression),
  )
  expect(cases.map(({ expression, number }) => [expression, BigInt(number)])).toEqual(
    cases.map(({ expression }, index) => [expression, expected[index]]),
  )
})

describe('the call', () => {
  test('fills a buffer, and returns the result', () => {
    const [reader, writer] = createPipe()
    own(reader)
    own(writer)
    writeSync(writer.fd, 'four')
    const count = new Int32Array(1)
    expect(ioctl(reader.fd, FIONREAD, 'FIONREAD', count)).toBe(0)
    expect(count[0]).toBe(4)
  })

  test('failures are thrown with the name of the request, or returned by the bare call', () => {
    expect(() => ioctl(-1, FIONREAD, 'FIONREAD')).toThrow(
      expect.objectContaining({ code: 'EBADF', errno: -EBADF, syscall: 'FIONREAD' }),
    )
    expect(ioctlRaw(-1, FIONREAD)).toBe(-EBADF)
  })

  test('runs on a pool thread, with the errno of that thread', async () => {
    const event = own(new EventFd())
    const results = await Promise.all(
      [event.fd, -1].map((fd) => new Promise<number>((resolve) => ioctlAsync(fd, 0x1234, 0, resolve))),
    )
    expect(results).toEqual([-ENOTTY, -EBADF])
  })

  test('more calls than the pool has threads wait for their turn', async () => {
    const count = 1000
    let done = 0
    await new Promise<void>((resolve) => {
      for (let call = 0; call < count; call++) {
        ioctlAsync(-1, 0, 0, () => {
          if (++done === count) resolve()
        })
      }
    })
    expect(done).toBe(count)
  })

  test('one call more than koffi takes is EAGAIN', () => {
    const output = runInChild(`
      let code
      for (let call = 0; call <= 4096 && code === undefined; call++) {
        try { ioctlAsync(-1, 0, 0, () => {}) } catch (error) { code = call + ' ' + error.code }
      }
      console.log(code)
    `)
    expect(output).toBe('4096 EAGAIN\n')
  })
})
