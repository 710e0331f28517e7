/**
 * Who gets a thread of libuv's pool. No run is needed for that: anything stands for a vCPU.
 */
import { readFile } from 'node:fs/promises'
import { threadPoolBounds } from '@vmm/sys-util'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { KvmError, reserveThreads, SPARE_THREADS, ThreadReservation } from '../src/index.ts'
import { giveThread, takeThread } from '../src/thread-pool.ts'

const SIZE = threadPoolBounds().certain
const FOR_RESERVATIONS = SIZE - SPARE_THREADS

const vcpus = (count: number): object[] => Array.from({ length: count }, () => ({}))

function reserve(owners: readonly object[]): ThreadReservation {
  const reservation = reserveThreads(owners)
  if (reservation instanceof ThreadReservation) return reservation
  throw new Error('the size of the pool should be known')
}

/** @returns whether there were enough */
function tries(call: () => unknown): boolean {
  try {
    call()
    return true
  } catch (error) {
    if (error instanceof KvmError && error.code === 'ERR_KVM_THREADPOOL_EXHAUSTED') return false
    throw error
  }
}

describe('reservations of threads', () => {
  test('leave some to others, and are for all vCPUs or for none', async () => {
    const most = reserve(vcpus(FOR_RESERVATIONS - 1))
    expect(() => reserve(vcpus(2))).toThrow(
      expect.objectContaining({
        code: 'ERR_KVM_THREADPOOL_EXHAUSTED',
        message: expect.stringMatching(
          new RegExp(
            `^no threads for 2 vCPUs: libuv's pool has ${SIZE}, .* UV_THREADPOOL_SIZE set before Node.js starts$`,
          ),
        ),
      }),
    )
    const last = reserve(vcpus(1))
    expect(tries(() => reserve(vcpus(1)))).toBe(false)
    expect(tries(() => reserve([]))).toBe(true)
    expect(await readFile('/proc/self/comm', 'utf8')).not.toBe('')
    last.close()
    last.close()
    most.close()
    reserve(vcpus(FOR_RESERVATIONS)).close()
  })

  test('keep the thread between two runs, and the run that has begun without one gives it back', () => {
    const [mine, other, early] = vcpus(3) as [object, object, object]
    const all = reserve([mine, ...vcpus(FOR_RESERVATIONS - 1)])
    for (let run = 0; run < 2 * SIZE; run++) {
      expect(takeThread(mine)).toBeUndefined()
      giveThread(mine)
    }
    takeThread(other)
    expect(tries(() => takeThread({}))).toBe(false)
    giveThread(other)
    all.close()

    takeThread(early)
    const late = reserve([early])
    giveThread(early)
    late.close()
    reserve(vcpus(FOR_RESERVATIONS)).close()
  })

  test('are counted right, whatever comes and goes', () => {
    const step = fc.record({
      kind: fc.constantFrom('run', 'end', 'reserve', 'close'),
      count: fc.integer({ min: 0, max: SIZE + 1 }),
      which: fc.nat(),
    })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const runs: object[] = []
        const reservations: { reservation: ThreadReservation; count: number }[] = []
        const reserved = () => reservations.reduce((sum, { count }) => sum + count, 0)
        for (const { kind, count, which } of steps) {
          const used = runs.length + reserved()
          if (kind === 'run') {
            const vcpu = {}
            expect(tries(() => takeThread(vcpu))).toBe(used < SIZE)
            if (used < SIZE) runs.push(vcpu)
          } else if (kind === 'end') {
            for (const vcpu of runs.splice(which % (runs.length + 1), 1)) giveThread(vcpu)
          } else if (kind === 'reserve') {
            const fits = count <= FOR_RESERVATIONS - used
            let reservation: ThreadReservation | undefined
            expect(
              tries(() => {
                reservation = reserve(vcpus(count))
              }),
            ).toBe(fits)
            if (reservation !== undefined) reservations.push({ reservation, count })
          } else {
            for (const one of reservations.splice(which % (reservations.length + 1), 1))
              one.reservation.close()
          }
        }
        for (const vcpu of runs) giveThread(vcpu)
        for (const { reservation } of reservations) reservation.close()
        reserve(vcpus(FOR_RESERVATIONS)).close()
      }),
    )
  })
})
