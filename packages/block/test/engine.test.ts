/** What is particular to what has to be waited for: resets and closing while it is under way, lack of room, other ends. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Completion, IoUring, SystemError } from '@vmm/sys-util'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { alignmentOf } from '../src/direct.ts'
import { DiskFile, FileDisk, openDisk } from '../src/index.ts'
import * as support from './support.ts'
import { DATA, DiskGuest, diskFile, openIn, own, pattern, pieces, SECTOR, WAYS } from './support.ts'

const { S_OK, S_IOERR, T_FLUSH, T_IN, T_OUT, F_FLUSH, F_CONFIG_WCE } = support
const EIO = 5
const EAGAIN = 11
const ENOSYS = 38
const SECTORS = 256
const SIZE = SECTORS * SECTOR
/** Of the ring's flush. */
const SYNC_TOKEN = 0x7fff_ffff

const SLOW_WAYS = WAYS.filter(({ options, isCold }) => {
  return options.engine !== 'sync' && (isCold === true || options.direct === true)
}).map((way) => [way.name, way] as const)
const hasRings = WAYS.some(({ options }) => options.engine === 'io_uring')

function noRings(): never {
  throw new SystemError('io_uring_setup', ENOSYS)
}

describe.each(WAYS.map((way) => [way.name, way] as const))('a disk of two devices, %s', (_name, way) => {
  test('answers each its own requests, and goes on with one when the other is reset', async () => {
    const disk = openIn(way, diskFile(pattern(SIZE)))
    const guests = [new DiskGuest(disk), new DiskGuest(disk)]
    const data = pieces(SECTOR, [SECTOR])
    const writable = data.map((piece) => ({ ...piece, writable: true }))
    for (const [sector, guest] of guests.entries()) guest.send(T_IN, sector, writable)
    for (const [sector, guest] of guests.entries()) {
      await guest.blk.idle()
      expect(guest.answer().status).toBe(S_OK)
      expect(guest.bytes(data).equals(pattern(SIZE).subarray(sector * SECTOR, (sector + 1) * SECTOR))).toBe(
        true,
      )
    }
    // One fdatasync for both, as a rule.
    for (const guest of guests) guest.send(T_FLUSH, 0)
    for (const guest of guests) {
      await guest.blk.idle()
      expect(guest.answer().status).toBe(S_OK)
    }
    const [one, other] = guests as [DiskGuest, DiskGuest]
    for (const guest of guests) guest.send(T_IN, 2, writable)
    one.reset()
    await Promise.all(guests.map((guest) => guest.blk.idle()))
    expect(other.answer().status).toBe(S_OK)
    expect(guests.flatMap(({ failures }) => failures)).toEqual([])
  })

  test('tells each of them of its own failures', async () => {
    const path = diskFile(SIZE)
    const disk = openIn(way, path)
    const guests = [new DiskGuest(disk), new DiskGuest(disk)]
    writeFileSync(path, new Uint8Array(SECTOR))
    const [one, other] = guests as [DiskGuest, DiskGuest]
    expect((await one.read(SECTORS - 8, pieces(8 * SECTOR, [8 * SECTOR]))).answer.status).toBe(S_IOERR)
    expect([one.failures.length, other.failures.length]).toEqual([1, 0])
  })
})

describe('the engine', () => {
  test.skipIf(!hasRings)('is io_uring where there is one', () => {
    expect(own(openDisk(diskFile(SIZE))).engine).toBe('io_uring')
  })

  test('is threads where there is no io_uring', async () => {
    const path = diskFile(pattern(SIZE))
    const disk = own(openDisk(path, { openRing: noRings }))
    expect(disk.engine).toBe('threads')
    const guest = new DiskGuest(disk)
    expect(
      (await guest.read(3, pieces(SECTOR, [SECTOR]))).bytes.equals(
        pattern(SIZE).subarray(3 * SECTOR, 4 * SECTOR),
      ),
    ).toBe(true)
    expect((await guest.slowRequest(T_FLUSH, 0)).status).toBe(S_OK)
  })

  test('is not another one than was asked for', () => {
    const path = diskFile(SIZE)
    const before = readdirSync('/proc/self/fd').length
    expect(() => openDisk(path, { engine: 'io_uring', openRing: noRings })).toThrow(
      expect.objectContaining({
        code: 'ERR_BLOCK_ENGINE',
        message: `disk ${path} cannot have the engine io_uring: ENOSYS`,
        cause: expect.objectContaining({ syscall: 'io_uring_setup' }),
      }),
    )
    for (const threads of [0, 1.5, 65]) expect(() => openDisk(path, { threads })).toThrow(RangeError)
    expect(readdirSync('/proc/self/fd')).toHaveLength(before)
    for (const engine of ['sync', 'threads'] as const) {
      const disk = openDisk(path, { engine })
      expect(disk.engine).toBe(engine)
      disk.close()
    }
  })
})

describe.each(SLOW_WAYS)('under way: %s', (_name, way) => {
  const COUNT = 24
  const LENGTH = 8 * SECTOR
  const address = (i: number): number => DATA + i * LENGTH

  function setUp(queues = 1) {
    const path = diskFile(pattern(SIZE))
    const disk = openIn(way, path)
    const guest = new DiskGuest(disk, undefined, { queues })
    const sendReads = () => {
      for (let i = 0; i < COUNT; i += 1) {
        guest.send(T_IN, i * 8, [{ address: address(i), length: LENGTH, writable: true }])
      }
    }
    const fill = (value: number) => guest.memory.fill(DATA, COUNT * LENGTH, value)
    const isFilled = (value: number): boolean => {
      return guest.bytes([{ address: DATA, length: COUNT * LENGTH }]).every((byte) => byte === value)
    }
    return { path, disk, guest, sendReads, fill, isFilled }
  }

  test('many requests end, each with its data', async () => {
    const { guest, sendReads } = setUp()
    sendReads()
    expect(guest.blk.pending).toBe(COUNT)
    await guest.blk.idle()
    expect(guest.driver.reapAll()).toHaveLength(COUNT)
    expect(
      guest
        .bytes([{ address: DATA, length: COUNT * LENGTH }])
        .equals(pattern(SIZE).subarray(0, COUNT * LENGTH)),
    ).toBe(true)
  })

  test('a reset takes memory back: nothing is written there afterwards', async () => {
    const { guest, sendReads, fill, isFilled } = setUp()
    sendReads()
    guest.reset()
    fill(0x99)
    await guest.blk.idle()
    await new Promise(setImmediate)
    expect(isFilled(0x99)).toBe(true)
    expect(guest.failures).toEqual([])
  })

  test('closing the disk does, too, and gives up file and lock', async () => {
    const before = readdirSync('/proc/self/fd').length
    const { path, disk, guest, sendReads, fill, isFilled } = setUp()
    sendReads()
    guest.send(T_FLUSH, 0)
    disk.close()
    fill(0x99)
    while (isLocked(path)) await new Promise(setImmediate)
    expect(isFilled(0x99)).toBe(true)
    expect(guest.driver.reap()).toBeUndefined()
    expect(readdirSync('/proc/self/fd')).toHaveLength(before)
    expect(guest.request(T_FLUSH, 0).status).toBe(S_IOERR)
  })

  function isLocked(path: string): boolean {
    try {
      openDisk(path, { engine: 'sync' }).close()
      return false
    } catch {
      return true
    }
  }

  test('resets under load leave a disk that works, and a file of whole blocks', async () => {
    const path = diskFile(new Uint8Array(SIZE))
    const disk = openIn(way, path)
    const memory = support.mappedMemory().memory
    const step = fc.record({ writes: fc.nat(20), reads: fc.nat(20), turns: fc.nat(3) })
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 6 }), async (steps) => {
        for (const { writes, reads, turns } of steps) {
          // The rings of the one before.
          memory.fill(0, DATA, 0)
          const guest = new DiskGuest(disk, memory)
          // Every block of a write is of one value: it may be there or not, and never in part.
          for (let i = 0; i < writes; i += 1) {
            memory.fill(address(i), LENGTH, i + 1)
            guest.send(T_OUT, i * 8, [{ address: address(i), length: LENGTH }])
          }
          for (let i = 0; i < reads; i += 1) {
            guest.send(T_IN, i * 8, [{ address: address(COUNT + i), length: LENGTH, writable: true }])
          }
          for (let i = 0; i < turns; i += 1) await new Promise(setImmediate)
          guest.transport.close()
          memory.fill(DATA, 2 * COUNT * LENGTH, 0xee)
          await guest.blk.idle()
          expect(guest.failures).toEqual([])
          expect(
            guest.bytes([{ address: DATA, length: 2 * COUNT * LENGTH }]).every((byte) => byte === 0xee),
          ).toBe(true)
        }
        const content = readFileSync(path)
        for (let at = 0; at < SIZE; at += LENGTH) {
          const first = content[at] as number
          expect(first === 0 || first === at / LENGTH + 1).toBe(true)
          expect(content.subarray(at, at + LENGTH).every((byte) => byte === first)).toBe(true)
        }
      }),
      { numRuns: 10 },
    )
    memory.fill(0, DATA, 0)
    const guest = new DiskGuest(disk, memory)
    expect((await guest.write(3, pattern(SECTOR))).status).toBe(S_OK)
  })

  test('a queue that is reset does not disturb another', async () => {
    const { guest, sendReads } = setUp(2)
    sendReads()
    guest.blk.resetQueue(1)
    await guest.blk.idle()
    expect(guest.driver.reapAll()).toHaveLength(COUNT)
  })
})

/** Without CI, where there is no io_uring none of these is run. */
describe.skipIf(!hasRings)('a ring', () => {
  function setUp(ring: IoUring, without = 0) {
    const path = diskFile(pattern(SIZE))
    const [way] = WAYS.filter(({ options, isCold }) => options.engine === 'io_uring' && isCold === true)
    if (way === undefined) throw new Error('no such way')
    const disk = openIn(way, path, { openRing: () => ring })
    return { path, disk, guest: new DiskGuest(disk, undefined, { without }) }
  }

  const read = (guest: DiskGuest, sector: number): void => {
    guest.send(T_IN, sector, [{ address: DATA + sector * SECTOR, length: SECTOR, writable: true }])
  }

  test('that is smaller than what the driver asks for at a time', async () => {
    const { guest } = setUp(new IoUring({ entries: 2, inFlightMax: 4 }))
    for (let i = 0; i < 50; i += 1) read(guest, i)
    guest.send(T_FLUSH, 0)
    await guest.blk.idle()
    expect(guest.driver.reapAll()).toHaveLength(51)
    const bytes = guest.bytes([{ address: DATA, length: 50 * SECTOR }])
    expect(bytes.equals(pattern(SIZE).subarray(0, 50 * SECTOR))).toBe(true)
  })

  test('that the kernel has no memory for, now and then', async () => {
    let calls = 0
    class PoorRing extends IoUring {
      override submit(wait?: number): number {
        calls += 1
        return calls % 3 === 0 ? super.submit(wait) : -EAGAIN
      }
    }
    const { guest } = setUp(new PoorRing())
    // With nothing under way whose end would be a reason to try again.
    read(guest, 0)
    await guest.blk.idle()
    expect(guest.driver.reapAll()).toHaveLength(1)
    for (let i = 0; i < 10; i += 1) read(guest, i)
    guest.send(T_FLUSH, 0)
    await guest.blk.idle()
    expect(guest.driver.reapAll()).toHaveLength(11)
    for (let i = 0; i < 10; i += 1) read(guest, i)
    guest.reset()
    expect(guest.blk.pending).toBe(0)
  })

  test('reports what the medium cannot read', async () => {
    class BadRing extends IoUring {
      override reap(completion: Completion): number {
        return super.reap((token) => completion(token, -EIO))
      }
    }
    const { guest, path } = setUp(new BadRing())
    expect((await guest.read(2, pieces(SECTOR, [SECTOR]))).answer.status).toBe(S_IOERR)
    expect(guest.failures).toMatchObject([
      {
        code: 'ERR_BLOCK_IO',
        message: `disk ${path} cannot be read, 512 bytes at 0x400: EIO`,
        cause: { errno: -EIO },
      },
    ])
    expect((await guest.slowRequest(T_FLUSH, 0)).status).toBe(S_IOERR)
    expect(guest.failures[1]).toMatchObject({ message: `disk ${path} cannot be flushed: EIO` })
  })

  /** Says in which order things begin and end. */
  class LoggedRing extends IoUring {
    readonly log: string[] = []

    override write(fd: number, address: number, length: number, offset: number, token: number): boolean {
      this.log.push('write')
      return super.write(fd, address, length, offset, token)
    }

    override fdatasync(fd: number, token: number): boolean {
      this.log.push('flush')
      return super.fdatasync(fd, token)
    }

    override reap(completion: Completion): number {
      return super.reap((token, result) => {
        this.log.push(token === SYNC_TOKEN ? 'flushed' : 'written')
        completion(token, result)
      })
    }
  }

  test('begins a flush when the writes that it is for have ended', async () => {
    const ring = new LoggedRing()
    const { guest } = setUp(ring, F_FLUSH | F_CONFIG_WCE)
    for (let i = 0; i < 3; i += 1) guest.send(T_OUT, i, [{ address: DATA, length: SECTOR }])
    await guest.blk.idle()
    const { log } = ring
    expect(log.filter((what) => what === 'write')).toHaveLength(3)
    // Whatever the turns were: the first for a write that has ended, the last after all of them.
    expect(log.indexOf('flush')).toBeGreaterThan(log.indexOf('written'))
    expect(log.lastIndexOf('flush')).toBeGreaterThan(log.lastIndexOf('written'))
    expect(log.at(-1)).toBe('flushed')
    expect(guest.driver.reapAll()).toHaveLength(3)
  })

  test('keeps the disk open and locked until a flush has ended', async () => {
    class HeldRing extends IoUring {
      isHeld = true

      override reap(completion: Completion): number {
        return this.isHeld ? 0 : super.reap(completion)
      }
    }
    const ring = new HeldRing()
    const { guest, disk, path } = setUp(ring)
    guest.send(T_FLUSH, 0)
    disk.close()
    for (let i = 0; i < 20; i += 1) await new Promise(setImmediate)
    expect(ring.closed).toBe(false)
    expect(() => openDisk(path)).toThrow(expect.objectContaining({ code: 'ERR_BLOCK_LOCKED' }))
    ring.isHeld = false
    ring.eventFd.write()
    while (!ring.closed) await new Promise(setImmediate)
    expect(guest.driver.reap()).toBeUndefined()
    own(openDisk(path))
  })
})

describe('O_DIRECT', () => {
  const direct = WAYS.filter(({ options }) => options.direct === true).map((way) => [way.name, way] as const)

  test.each(direct)('blocks are of the size that it says: %s', async (_name, way) => {
    const path = diskFile(pattern(SIZE))
    const file = new DiskFile(path, way.options)
    Object.defineProperty(file, 'alignment', { value: { memory: 4096, file: 4096 } })
    const disk = own(new FileDisk(file, way.options))
    expect(disk.blockSize).toBe(4096)
    const guest = new DiskGuest(disk, undefined, { blockSize: disk.blockSize })
    for (const [sector, length] of [
      [0, SECTOR],
      [1, 8 * SECTOR],
    ] as const) {
      expect((await guest.read(sector, pieces(length, [length]))).answer.status).toBe(S_IOERR)
    }
    expect(guest.failures.map(({ code }) => code)).toEqual(['ERR_BLOCK_ALIGNMENT', 'ERR_BLOCK_ALIGNMENT'])
    expect(guest.failures[0]?.message).toBe(
      `disk ${path} is read and written in blocks of 4096 bytes: not 512 bytes at 0x0`,
    )
    const scattered = pieces(32 * SECTOR, [700, 3, 5000], DATA + 1)
    expect(
      (await guest.read(8, scattered)).bytes.equals(pattern(SIZE).subarray(8 * SECTOR, 40 * SECTOR)),
    ).toBe(true)
    expect((await guest.write(16, pattern(32 * SECTOR, 5), scattered)).status).toBe(S_OK)
    expect(
      readFileSync(path)
        .subarray(16 * SECTOR, 48 * SECTOR)
        .equals(pattern(32 * SECTOR, 5)),
    ).toBe(true)
  })

  test.each(direct)(
    'what is not aligned is moved by as many buffers as there are: %s',
    async (_name, way) => {
      const path = diskFile(pattern(SIZE))
      const guest = new DiskGuest(openIn(way, path))
      const count = 40
      for (let i = 0; i < count; i += 1) {
        guest.send(T_IN, i, [{ address: DATA + 1 + i * (SECTOR + 1), length: SECTOR, writable: true }])
      }
      await guest.blk.idle()
      expect(guest.driver.reapAll()).toHaveLength(count)
      const places = Array.from({ length: count }, (_, i) => ({
        address: DATA + 1 + i * (SECTOR + 1),
        length: SECTOR,
      }))
      expect(guest.bytes(places).equals(pattern(SIZE).subarray(0, count * SECTOR))).toBe(true)
    },
  )

  test('a disk that is not of whole blocks is refused', () => {
    const path = diskFile(SIZE)
    const file = own(new DiskFile(path))
    expect(() => alignmentOf(path, file.fd, SIZE + 1)).toThrow(
      expect.objectContaining({ code: 'ERR_BLOCK_SIZE', size: SIZE + 1 }),
    )
  })

  test.skipIf(support.skipWithoutMount('a file system without O_DIRECT'))(
    'is refused where there is none',
    () => {
      const mount = join(support.temporaryDirectory(), 'mount')
      mkdirSync(mount)
      execFileSync('mount', ['-t', 'ramfs', 'ramfs', mount])
      own({ close: () => execFileSync('umount', [mount]) })
      const path = join(mount, 'disk.img')
      writeFileSync(path, new Uint8Array(SIZE))
      expect(() => openDisk(path, { direct: true })).toThrow(
        expect.objectContaining({
          code: 'ERR_BLOCK_DIRECT',
          message: `disk ${path} cannot be read past the page cache: its file system has no O_DIRECT`,
        }),
      )
      own(openDisk(path))
    },
  )
})
