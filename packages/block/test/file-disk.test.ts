import { execFileSync } from 'node:child_process'
import { closeSync, mkdirSync, openSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { BlockError, DiskFile, FileDisk, openDisk } from '../src/index.ts'
import * as support from './support.ts'
import { DATA, DiskGuest, diskFile, MEMORIES, openIn, own, pattern, pieces, SECTOR, WAYS } from './support.ts'

const { S_OK, S_IOERR, S_UNSUPP, T_FLUSH, T_DISCARD, T_WRITE_ZEROES, UNMAP } = support
const SECTORS = 128
const SIZE = SECTORS * SECTOR
const PAGE_SECTORS = 8

/** Whether a file is just that: without the report of each byte that differs, which takes a second to make. */
function isContent(path: string, expected: Uint8Array): boolean {
  return readFileSync(path).equals(expected)
}

const CASES = WAYS.flatMap((way) => MEMORIES.map(([name, make]) => [way.name, name, way, make] as const))

describe.each(CASES)('%s, %s', (_way, _memory, way, makeMemory) => {
  function setUp() {
    const path = diskFile(pattern(SIZE))
    return { path, guest: new DiskGuest(openIn(way, path), makeMemory()) }
  }

  test('sectors are read, and no byte beside them is written', async () => {
    const { guest } = setUp()
    guest.memory.fill(DATA - 1, 2 * SECTOR + 2, 0x99)
    const { answer, bytes } = await guest.read(3, [{ address: DATA, length: 2 * SECTOR }])
    expect(answer).toEqual({ status: S_OK, length: 2 * SECTOR + 1 })
    expect(bytes).toEqual(Buffer.from(pattern(SIZE).subarray(3 * SECTOR, 5 * SECTOR)))
    const beside = [DATA - 1, DATA + 2 * SECTOR].map((address) => guest.memory.readUint8(address))
    expect(beside).toEqual([0x99, 0x99])
    expect(guest.failures).toEqual([])
  })

  test('sectors are written, and none beside them', async () => {
    const { guest, path } = setUp()
    const expected = pattern(SIZE)
    const data = pattern(2 * SECTOR, 2)
    expected.set(data, 5 * SECTOR)
    expect(await guest.write(5, data)).toEqual({ status: S_OK, length: 1 })
    expect(isContent(path, expected)).toBe(true)
  })

  test('a request in many pieces, over both regions', async () => {
    const { guest, path } = setUp()
    const length = 100 * SECTOR
    const scattered = pieces(length, [1, 511, 513, 3000, 64, 20_000], DATA + 0x8000)
    expect(scattered.some(({ address, length }) => address < 2 * DATA && address + length > 0x8_0000)).toBe(
      true,
    )
    expect(
      (await guest.read(20, scattered)).bytes.equals(pattern(SIZE).subarray(20 * SECTOR, 120 * SECTOR)),
    ).toBe(true)
    const expected = pattern(SIZE)
    expected.set(pattern(length, 3), 7 * SECTOR)
    expect((await guest.write(7, pattern(length, 3), scattered)).status).toBe(S_OK)
    expect(isContent(path, expected)).toBe(true)
  })

  test('whatever a driver does, the file is what a model says', async () => {
    const { guest, path } = setUp()
    const model = Buffer.from(pattern(SIZE))
    const range = fc
      .tuple(fc.nat(SECTORS - 1), fc.integer({ min: 1, max: 24 }))
      .map(([sector, sectors]) => ({ sector, sectors: Math.min(sectors, SECTORS - sector) }))
    const cuts = fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1, maxLength: 6 })
    const kind = fc.constantFrom('read', 'write', 'zeroes', 'unmap', 'discard', 'flush')
    const step = fc.tuple(kind, range, cuts, fc.nat(0x1_4000), fc.nat(255))
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 20 }), async (steps) => {
        for (const [what, { sector, sectors }, lengths, offset, seed] of steps) {
          const [start, end] = [sector * SECTOR, (sector + sectors) * SECTOR]
          // The fewest bytes of a piece are such that no chain is longer than the queue.
          const scattered = pieces(
            end - start,
            lengths.map((length) => length + 60),
            DATA - 0x8000 + offset,
          )
          if (what === 'read') {
            const { bytes } = await guest.read(sector, scattered)
            expect(bytes.equals(model.subarray(start, end))).toBe(true)
          } else if (what === 'write') {
            model.set(pattern(end - start, seed), start)
            expect((await guest.write(sector, pattern(end - start, seed), scattered)).status).toBe(S_OK)
          } else if (what === 'flush') {
            expect(await guest.slowRequest(T_FLUSH, 0)).toEqual({ status: S_OK, length: 1 })
          } else {
            const type = what === 'discard' ? T_DISCARD : T_WRITE_ZEROES
            const answer = await guest.slowRequest(
              type,
              0,
              guest.range(sector, sectors, what === 'unmap' ? UNMAP : 0),
            )
            expect(answer.status).toBe(S_OK)
            model.fill(0, start, end)
          }
        }
        expect(readFileSync(path).equals(model)).toBe(true)
      }),
      { numRuns: 15 },
    )
    expect(guest.failures).toEqual([])
  })

  test('more pieces than the kernel takes at once', async () => {
    const path = diskFile(pattern(SIZE))
    const memory = makeMemory()
    const guest = new DiskGuest(openIn(way, path), memory, { queueSize: 2048 })
    const scattered = pieces(3 * SECTOR, [1])
    expect((await guest.read(1, scattered)).bytes.equals(pattern(SIZE).subarray(SECTOR, 4 * SECTOR))).toBe(
      true,
    )
    expect((await guest.write(9, pattern(3 * SECTOR, 8), scattered)).status).toBe(S_OK)
    expect(
      readFileSync(path)
        .subarray(9 * SECTOR, 12 * SECTOR)
        .equals(pattern(3 * SECTOR, 8)),
    ).toBe(true)
  })

  test('a file that was truncated fails reads past its end, and a write makes it longer', async () => {
    const { guest, path } = setUp()
    truncateSync(path, 4 * SECTOR + 100)
    const scattered = pieces(2 * SECTOR, [300])
    expect((await guest.read(2, scattered)).answer.status).toBe(S_OK)
    for (const sector of [4, 5, 100])
      expect((await guest.read(sector, scattered)).answer.status).toBe(S_IOERR)
    expect(guest.failures.map(({ code }) => code)).toEqual(Array(3).fill('ERR_BLOCK_TRUNCATED'))
    expect(guest.failures[0]?.message).toBe(
      `disk ${path} ends at byte ${4 * SECTOR + 100}: it was truncated to less than its ${SIZE} bytes`,
    )
    expect((await guest.write(6, pattern(SECTOR))).status).toBe(S_OK)
    expect((await guest.read(6, pieces(SECTOR, [300]))).bytes.equals(pattern(SECTOR))).toBe(true)
    expect((await guest.slowRequest(T_WRITE_ZEROES, 0, guest.range(100, 8))).status).toBe(S_OK)
    expect(statSync(path).size).toBe(108 * SECTOR)
  })

  test.skipIf(support.skipWithoutMount('a full file system'))(
    'a full file system is an error, and not the end',
    async () => {
      const room = 0x1_0000
      const path = join(support.smallFileSystem(room), 'disk.img')
      writeFileSync(path, '')
      truncateSync(path, 2 * room)
      const guest = new DiskGuest(openIn(way, path), makeMemory())
      const scattered = pieces(0x8000, [0x1800])
      expect((await guest.write(0, pattern(0x8000, 4), scattered)).status).toBe(S_OK)
      // Some of it has room.
      expect((await guest.write(64, pattern(0xa000, 5), pieces(0xa000, [0x1800]))).status).toBe(S_IOERR)
      expect(guest.failures).toHaveLength(1)
      expect(guest.failures[0]).toMatchObject({
        code: 'ERR_BLOCK_IO',
        cause: { code: 'ENOSPC', syscall: expect.any(String) },
      })
      expect(guest.failures[0]?.message).toContain(
        `disk ${path} cannot be written, 40960 bytes at 0x8000: ENOSPC`,
      )
      expect((await guest.slowRequest(T_WRITE_ZEROES, 0, guest.range(160, 64))).status).toBe(S_IOERR)
      expect(guest.failures[1]).toMatchObject({ code: 'ERR_BLOCK_IO', cause: { code: 'ENOSPC' } })
      expect((await guest.read(0, scattered)).bytes.equals(pattern(0x8000, 4))).toBe(true)
      expect((await guest.slowRequest(T_DISCARD, 0, guest.range(0, 128))).status).toBe(S_OK)
      expect((await guest.write(64, pattern(0x8000, 5))).status).toBe(S_OK)
    },
  )
})

describe.each(WAYS.map((way) => [way.name, way] as const))('a container’s file system: %s', (_way, way) => {
  test.skipIf(support.skipWithoutMount('overlayfs'))('is read and written', async () => {
    const base = support.smallFileSystem(0x10_0000)
    const [lower, upper, work, merged] = ['lower', 'upper', 'work', 'merged'].map((name) => join(base, name))
    for (const directory of [lower, upper, work, merged]) mkdirSync(directory as string)
    const layers = `lowerdir=${lower},upperdir=${upper},workdir=${work}`
    execFileSync('mount', ['-t', 'overlay', '-o', layers, 'overlay', merged as string])
    own({ close: () => execFileSync('umount', [merged as string]) })
    const path = join(merged as string, 'disk.img')
    writeFileSync(path, pattern(SIZE))
    const guest = new DiskGuest(openIn(way, path))
    const scattered = pieces(8 * SECTOR, [700])
    expect((await guest.write(8, pattern(8 * SECTOR, 4), scattered)).status).toBe(S_OK)
    expect((await guest.read(8, scattered)).bytes.equals(pattern(8 * SECTOR, 4))).toBe(true)
    expect(
      (await guest.read(16, scattered)).bytes.equals(pattern(SIZE).subarray(16 * SECTOR, 24 * SECTOR)),
    ).toBe(true)
    expect((await guest.slowRequest(T_FLUSH, 0)).status).toBe(S_OK)
    expect(guest.failures).toEqual([])
  })
})

describe.each(WAYS.map((way) => [way.name, way] as const))('what is not needed any more: %s', (_way, way) => {
  function setUp() {
    const path = diskFile(pattern(SIZE))
    const disk = openIn(way, path)
    return { path, disk, guest: new DiskGuest(disk) }
  }

  test('goes back to the file system, where it has holes, and keeps its place', async () => {
    const { path, disk, guest } = setUp()
    expect(disk.canDiscard).toBe(true)
    const before = statSync(path).blocks
    expect((await guest.slowRequest(T_DISCARD, 0, guest.range(0, SECTORS / 2))).status).toBe(S_OK)
    expect(
      (await guest.slowRequest(T_WRITE_ZEROES, 0, guest.range(SECTORS / 2, SECTORS / 2, UNMAP))).status,
    ).toBe(S_OK)
    expect(statSync(path)).toMatchObject({ size: SIZE })
    expect(statSync(path).blocks).toBeLessThanOrEqual(before / 2)
    expect(isContent(path, new Uint8Array(SIZE))).toBe(true)
  })

  test('is zeroed without losing its room where the driver says so', async () => {
    const { path, guest } = setUp()
    const before = statSync(path).blocks
    expect(
      (await guest.slowRequest(T_WRITE_ZEROES, 0, guest.range(PAGE_SECTORS, 2 * PAGE_SECTORS))).status,
    ).toBe(S_OK)
    expect(statSync(path).blocks).toBe(before)
    expect(
      readFileSync(path)
        .subarray(8 * SECTOR, 24 * SECTOR)
        .equals(new Uint8Array(16 * SECTOR)),
    ).toBe(true)
  })

  test('stays where the file system has no holes', () => {
    const file = own(new DiskFile(diskFile(pattern(SIZE))))
    const guest = new DiskGuest(new FileDisk(Object.defineProperty(file, 'canDiscard', { value: false })))
    expect(guest.features & support.F_DISCARD).toBe(0)
    expect(guest.request(T_DISCARD, 0, guest.range(0, 8)).status).toBe(S_UNSUPP)
  })
})

test('a disk that is read-only is read, and not written', async () => {
  const path = diskFile(pattern(SIZE))
  const guest = new DiskGuest(own(openDisk(path, { readOnly: true })))
  expect((await guest.read(1, pieces(SECTOR, [SECTOR]))).answer.status).toBe(S_OK)
  expect((await guest.write(1, pattern(SECTOR, 9))).status).toBe(S_IOERR)
  expect(isContent(path, pattern(SIZE))).toBe(true)
})

test.each(WAYS.map((way) => [way.name, way] as const))(
  'what goes to guest memory by the kernel is noted as written: %s',
  async (_way, way) => {
    const { memory } = support.mappedMemory(true)
    const guest = new DiskGuest(openIn(way, diskFile(pattern(SIZE))), memory)
    const place = memory.findRegion(DATA)
    await guest.read(0, [{ address: DATA, length: 8 * SECTOR }])
    const offsets = [-1, 0, 8 * SECTOR - 1, 8 * SECTOR].map((offset) => DATA - (place?.start ?? 0) + offset)
    expect(offsets.map((offset) => place?.dirty?.isDirty(offset))).toEqual([false, true, true, false])
  },
)

describe.each(WAYS.map((way) => [way.name, way] as const))('closing: %s', (_way, way) => {
  test('a closed disk fails what the driver asks', async () => {
    const disk = openIn(way, diskFile(SIZE))
    const guest = new DiskGuest(disk)
    disk.close()
    expect((await guest.write(1, pattern(SECTOR))).status).toBe(S_IOERR)
    expect(guest.request(T_FLUSH, 0)).toEqual({ status: S_IOERR, length: 1 })
    expect(guest.failures.map(({ code }) => code)).toEqual(['ERR_BLOCK_CLOSED', 'ERR_BLOCK_CLOSED'])
  })

  test('a disk can be closed before it has a device', () => {
    const path = diskFile(SIZE)
    openIn(way, path).close()
    openIn(way, path)
  })
})

test.each(WAYS.map((way) => [way.name, way] as const))(
  'a host that fails is the guest’s EIO, and says what failed: %s',
  async (_way, way) => {
    const file = new DiskFile(diskFile(SIZE), { ...way.options, lock: false })
    const guest = new DiskGuest(new FileDisk(file, way.options))
    closeSync(file.fd)
    try {
      expect((await guest.read(1, pieces(SECTOR, [SECTOR]))).answer).toEqual({ status: S_IOERR, length: 0 })
      expect((await guest.write(1, pattern(SECTOR), pieces(SECTOR, [100]))).status).toBe(S_IOERR)
      expect((await guest.slowRequest(T_DISCARD, 0, guest.range(0, 8))).status).toBe(S_IOERR)
      expect(guest.failures).toMatchObject([
        { code: 'ERR_BLOCK_IO', position: SECTOR, size: SECTOR, cause: { code: 'EBADF', syscall: 'preadv' } },
        { code: 'ERR_BLOCK_IO', cause: { code: 'EBADF', syscall: 'pwritev' } },
        { code: 'ERR_BLOCK_IO', cause: { code: 'EBADF', syscall: 'fallocate' } },
      ])
      expect(guest.failures.every((error) => error instanceof BlockError)).toBe(true)
    } finally {
      // Its owner closes the number again.
      const fds: number[] = []
      while (fds.at(-1) !== file.fd) fds.push(openSync('/dev/null', 'r'))
      for (const fd of fds.slice(0, -1)) closeSync(fd)
      file.close()
    }
  },
)
