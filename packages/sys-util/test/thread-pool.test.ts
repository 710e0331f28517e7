import { readFile } from 'node:fs/promises'
import { afterEach, expect, test } from 'vitest'
import { countPoolThreads, threadPoolBounds } from '../src/index.ts'

const { UV_THREADPOOL_SIZE } = process.env

afterEach(() => {
  if (UV_THREADPOOL_SIZE === undefined) delete process.env['UV_THREADPOOL_SIZE']
  else process.env['UV_THREADPOOL_SIZE'] = UV_THREADPOOL_SIZE
})

test('the pool has the threads it was started with, and works after they were counted', async () => {
  const { certain } = threadPoolBounds()
  expect(await countPoolThreads(certain)).toBe(certain)
  expect(await readFile('/proc/self/comm', 'utf8')).not.toBe('')
})

test('the pool has no more threads when the variable is set too late', async () => {
  const { certain } = threadPoolBounds()
  process.env['UV_THREADPOOL_SIZE'] = String(certain + 2)
  expect(threadPoolBounds()).toEqual({ certain, possible: certain + 2 })
  expect(await countPoolThreads(certain + 2)).toBe(certain)
})

test('bounds are what libuv makes of the variable', () => {
  const possible = ['7', '0', '-1', '100000', 'many'].map((value) => {
    process.env['UV_THREADPOOL_SIZE'] = value
    return threadPoolBounds().possible
  })
  expect(possible).toEqual([7, 1, 1024, 1024, 1])
})
