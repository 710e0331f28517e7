/** A kernel that does less than it was asked, and is interrupted all the time; and what some kernels say besides. */
import { readFileSync } from 'node:fs'
import { type Completion, IoUring } from '@vmm/sys-util'
import fc from 'fast-check'
import { beforeEach, describe, expect, test, vi } from 'vitest'
import {
  DATA,
  DiskGuest,
  diskFile,
  MEMORIES,
  openIn,
  pattern,
  pieces,
  S_OK,
  SECTOR,
  WAYS,
} from './support.ts'

const EINTR = 4
const EAGAIN = 11

const kernel = vi.hoisted(() => {
  const state = { limit: 0, interrupted: false, calls: 0 }
  /** Every second call is interrupted. */
  const interrupts = () => {
    state.calls += 1
    state.interrupted = !state.interrupted
    return state.interrupted
  }
  /** One thing as often as the other. */
  const either = (one: number, other: number) => (state.calls % 4 < 2 ? one : other)
  return { state, interrupts, either }
})

vi.mock('../../sys-util/src/transfer.ts', async (original) => {
  const real = await original<typeof import('../../sys-util/src/transfer.ts')>()
  type Call = typeof real.preadInto
  const short =
    (call: Call): Call =>
    (fd, address, length, offset) =>
      kernel.interrupts() ? -EINTR : call(fd, address, Math.min(length, kernel.state.limit), offset)
  class ShortVector extends real.IoVector {
    // Of what is not in the page cache Linux 5.9 and 5.10 say 0, as at the end of the file.
    override readFrom(fd: number, offset: number, flags?: number): number {
      if (kernel.interrupts()) return flags === real.RWF_NOWAIT ? kernel.either(-EINTR, 0) : -EINTR
      return this.#short().readFrom(fd, offset, flags)
    }

    override writeTo(fd: number, offset: number, flags?: number): number {
      return kernel.interrupts() ? -EINTR : this.#short().writeTo(fd, offset, flags)
    }

    #short(): InstanceType<typeof real.IoVector> {
      const vector = new real.IoVector(this.capacity)
      for (let i = 0, left = kernel.state.limit; i < this.count && left > 0; i += 1) {
        const length = Math.min(left, this.pieceLength(i))
        vector.push(this.pieceAddress(i), length)
        left -= length
      }
      return vector
    }
  }
  return {
    ...real,
    IoVector: ShortVector,
    preadInto: short(real.preadInto),
    pwriteFrom: short(real.pwriteFrom),
  }
})

/** Does not do all of what it is asked, and every second time says that it was interrupted, or should be asked again. */
class ShortRing extends IoUring {
  override read(fd: number, address: number, length: number, offset: number, token: number): boolean {
    return super.read(fd, address, Math.min(length, kernel.state.limit), offset, token)
  }

  override write(fd: number, address: number, length: number, offset: number, token: number): boolean {
    return super.write(fd, address, Math.min(length, kernel.state.limit), offset, token)
  }

  override readv(fd: number, vector: number, count: number, offset: number, token: number): boolean {
    return super.readv(fd, vector, Math.ceil(count / 2), offset, token)
  }

  override writev(fd: number, vector: number, count: number, offset: number, token: number): boolean {
    return super.writev(fd, vector, Math.ceil(count / 2), offset, token)
  }

  override reap(completion: Completion): number {
    return super.reap((token, result) =>
      completion(token, kernel.interrupts() ? kernel.either(-EINTR, -EAGAIN) : result),
    )
  }
}

const ENGINES = WAYS.filter(({ options: { direct, engine } }) => direct !== true && engine !== 'threads')
const CASES = ENGINES.flatMap((way) => MEMORIES.map(([name, make]) => [way.name, name, way, make] as const))
const SECTORS = 64
const SIZE = SECTORS * SECTOR

beforeEach(() => {
  Object.assign(kernel.state, { interrupted: false, calls: 0 })
})

describe.each(CASES)('%s, %s', (_way, _memory, way, makeMemory) => {
  test('transfers go on where the kernel stopped', async () => {
    const path = diskFile(pattern(SIZE))
    const guest = new DiskGuest(openIn(way, path, { openRing: () => new ShortRing() }), makeMemory())
    const model = Buffer.from(pattern(SIZE))
    const lengths = fc.array(fc.integer({ min: 60, max: 6000 }), { minLength: 1, maxLength: 5 })
    const limit = fc.integer({ min: 97, max: 9000 })
    const sectors = fc.integer({ min: 1, max: 24 })
    await fc.assert(
      fc.asyncProperty(
        limit,
        lengths,
        fc.nat(SECTORS - 24),
        sectors,
        fc.nat(255),
        async (most, cuts, sector, count, seed) => {
          kernel.state.limit = most
          const scattered = pieces(count * SECTOR, cuts, DATA + 0xe000)
          const data = pattern(count * SECTOR, seed)
          expect((await guest.write(sector, data, scattered)).status).toBe(S_OK)
          model.set(data, sector * SECTOR)
          expect(readFileSync(path).equals(model)).toBe(true)
          for (const { address, length } of scattered) guest.memory.fill(address, length, 0xcc)
          expect((await guest.read(sector, scattered)).bytes.equals(data)).toBe(true)
        },
      ),
      { numRuns: 30 },
    )
    expect(kernel.state.calls).toBeGreaterThan(60)
    expect(guest.failures).toEqual([])
  })
})
