import type * as SysUtil from '@vmm/sys-util'
import { expect, test, vi } from 'vitest'
import { reserveThreads, ThreadReservation } from '../src/index.ts'

const failure = new Error('no descriptor left')
const countPoolThreads = vi.hoisted(() => vi.fn<(expected: number) => Promise<number>>())

vi.mock('@vmm/sys-util', async (importOriginal) => ({
  ...(await importOriginal<typeof SysUtil>()),
  threadPoolBounds: () => ({ certain: 1, possible: 4 }),
  countPoolThreads,
}))

test('threads that could not be counted are counted by who comes next, and then no more', async () => {
  countPoolThreads.mockRejectedValueOnce(failure).mockResolvedValueOnce(4)
  const both = await Promise.allSettled([reserveThreads([{}]), reserveThreads([{}])])
  expect(both.map(({ status }) => status)).toEqual(['rejected', 'rejected'])
  expect(await reserveThreads([{}])).toBeInstanceOf(ThreadReservation)
  expect(reserveThreads([{}])).toBeInstanceOf(ThreadReservation)
  expect(countPoolThreads).toHaveBeenCalledTimes(2)
})
