/** A kernel that does less than it was asked, and is interrupted all the time. */
import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { beforeEach, describe, expect, test, vi } from 'vitest'
import { openDisk } from '../src/index.ts'
import { DATA, DiskGuest, diskFile, MEMORIES, own, pattern, pieces, S_OK, SECTOR } from './support.ts'

const EINTR = 4

const kernel = vi.hoisted(() => {
  const state = { limit: 0, interrupted: false, calls: 0 }
  /** Every second call is interrupted. */
  const interrupts = () => {
    state.calls += 1
    state.interrupted = !state.interrupted
    return state.interrupted
  }
  return { state, interrupts }
})

vi.mock('../../sys-util/src/transfer.ts', async (original) => {
  const real = await original<typeof import('../../sys-util/src/transfer.ts')>()
  type Call = typeof real.preadInto
  const short =
    (call: Call): Call =>
    (fd, address, length, offset) =>
      kernel.interrupts() ? -EINTR : call(fd, address, Math.min(length, kernel.state.limit), offset)
  /** Takes all pieces and keeps as many bytes as the limit is. */
  class ShortVector extends real.IoVector {
    override push(address: number | bigint, length: number): boolean {
      const left = kernel.state.limit - this.byteLength
      return left <= 0 || super.push(address, Math.min(left, length))
    }

    override readFrom(fd: number, offset: number): number {
      return kernel.interrupts() ? -EINTR : super.readFrom(fd, offset)
    }

    override writeTo(fd: number, offset: number): number {
      return kernel.interrupts() ? -EINTR : super.writeTo(fd, offset)
    }
  }
  return {
    ...real,
    IoVector: ShortVector,
    preadInto: short(real.preadInto),
    pwriteFrom: short(real.pwriteFrom),
  }
})

const SECTORS = 64
const SIZE = SECTORS * SECTOR

beforeEach(() => {
  Object.assign(kernel.state, { interrupted: false, calls: 0 })
})

describe.each(MEMORIES.filter(([name]) => name !== 'plain memory'))('over %s', (_name, makeMemory) => {
  test('transfers go on where the kernel stopped', () => {
    const path = diskFile(pattern(SIZE))
    const guest = new DiskGuest(own(openDisk(path)), makeMemory())
    const model = Buffer.from(pattern(SIZE))
    const lengths = fc.array(fc.integer({ min: 60, max: 6000 }), { minLength: 1, maxLength: 5 })
    const limit = fc.integer({ min: 97, max: 9000 })
    const sectors = fc.integer({ min: 1, max: 24 })
    fc.assert(
      fc.property(
        limit,
        lengths,
        fc.nat(SECTORS - 24),
        sectors,
        fc.nat(255),
        (most, cuts, sector, count, seed) => {
          kernel.state.limit = most
          const scattered = pieces(count * SECTOR, cuts, DATA + 0xe000)
          const data = pattern(count * SECTOR, seed)
          expect(guest.write(sector, data, scattered).status).toBe(S_OK)
          model.set(data, sector * SECTOR)
          expect(readFileSync(path).equals(model)).toBe(true)
          for (const { address, length } of scattered) guest.memory.fill(address, length, 0xcc)
          expect(guest.read(sector, scattered).bytes.equals(data)).toBe(true)
        },
      ),
      { numRuns: 60 },
    )
    expect(kernel.state.calls).toBeGreaterThan(120)
    expect(guest.failures).toEqual([])
  })
})
