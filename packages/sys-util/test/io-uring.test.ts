import { openSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import {
  createMemfd,
  createPipe,
  EPOLLET,
  EPOLLIN,
  IoUring,
  IoVector,
  Mapping,
  OwnedFd,
  RWF_NOWAIT,
  watch,
} from '../src/index.ts'
import { runInChild } from './child.ts'
import { countFds, own, temporaryDirectory } from './resources.ts'

const PAGE = 4096
const PAGES = 16
const EBADF = 9
const EAGAIN = 11
const O_NONBLOCK = 0o4000
const FALLOC_FL_KEEP_SIZE = 1
const FALLOC_FL_PUNCH_HOLE = 2

/** Why the kernel gives this process no io_uring; undefined where it does. */
function missing(): string | undefined {
  try {
    new IoUring({ entries: 1 }).close()
    return undefined
  } catch (error) {
    return (error as Error).message
  }
}

const reason = 'CI' in process.env ? undefined : missing()
if (reason !== undefined) console.warn(`io_uring is not tested: ${reason}`)

function setUp(entries?: number, inFlightMax?: number) {
  const path = join(temporaryDirectory(), 'file')
  writeFileSync(
    path,
    Uint8Array.from({ length: PAGES * PAGE }, (_, i) => i >>> 12),
  )
  const file = own(new OwnedFd(openSync(path, 'r+')))
  const mapping = own(new Mapping({ size: PAGES * PAGE }))
  const ring = own(new IoUring({ entries, inFlightMax }))
  const ended: [token: number, result: number][] = []
  const reap = () => ring.reap((token, result) => ended.push([token, result]))
  /** Waits for all of them. */
  const finish = () => {
    while (ring.queued + ring.inFlight > 0) {
      expect(ring.submit(1)).toBe(0)
      reap()
    }
    return ended.splice(0).sort(([a], [b]) => a - b)
  }
  const bytes = new Uint8Array(mapping.view())
  return { path, fd: file.fd, start: Number(mapping.address), bytes, ring, ended, reap, finish }
}

describe.skipIf(reason !== undefined)('io_uring', () => {
  test('many reads are begun by one submit, straight into memory', () => {
    const { fd, start, bytes, ring, finish } = setUp()
    for (let i = 0; i < PAGES; i++) expect(ring.read(fd, start + i * PAGE, PAGE, i * PAGE, i)).toBe(true)
    expect([ring.queued, ring.inFlight]).toEqual([PAGES, 0])
    expect(ring.submit()).toBe(0)
    expect([ring.queued, ring.inFlight]).toEqual([0, PAGES])
    expect(finish()).toEqual(Array.from({ length: PAGES }, (_, i) => [i, PAGE]))
    expect(ring.inFlight).toBe(0)
    expect(Array.from({ length: PAGES }, (_, i) => bytes[i * PAGE + i])).toEqual([...Array(PAGES).keys()])
  })

  test('writes, vectors, holes and fdatasync', () => {
    const { path, fd, start, bytes, ring, finish } = setUp()
    bytes.fill(0xaa, 0, PAGE)
    bytes.fill(0xbb, PAGE, 2 * PAGE)
    const vector = new IoVector(4)
    for (const [at, length] of [
      [0, 5],
      [PAGE, 7],
    ] as const)
      vector.push(start + at, length)
    ring.write(fd, start, PAGE, 0, 1)
    ring.writev(fd, vector.address, vector.count, 3 * PAGE, 2)
    ring.fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 5 * PAGE, PAGE, 3)
    expect(finish()).toEqual([
      [1, PAGE],
      [2, 12],
      [3, 0],
    ])
    ring.fdatasync(fd, 4)
    vector.advance(6)
    bytes.fill(0, PAGE, 2 * PAGE)
    ring.readv(fd, vector.address, vector.count, 6 * PAGE, 5)
    expect(finish()).toEqual([
      [4, 0],
      [5, 6],
    ])
    const content = readFileSync(path)
    expect(content.subarray(0, PAGE).every((byte) => byte === 0xaa)).toBe(true)
    expect([...content.subarray(3 * PAGE, 3 * PAGE + 13)]).toEqual([
      ...Array(5).fill(0xaa),
      ...Array(7).fill(0xbb),
      3,
    ])
    expect(content.subarray(5 * PAGE, 6 * PAGE).every((byte) => byte === 0)).toBe(true)
    expect([...bytes.subarray(PAGE, PAGE + 8)]).toEqual([0, 6, 6, 6, 6, 6, 6, 0])
  })

  test('offsets go beyond 4 GiB, and failures are negative errno values', () => {
    const { start, bytes, ring, finish } = setUp()
    const { fd } = own(createMemfd('sparse', 2 ** 40 + PAGE))
    bytes[0] = 0x5a
    ring.write(fd, start, 1, 2 ** 40 + 5, 1)
    expect(finish()).toEqual([[1, 1]])
    ring.read(fd, start + 1, 1, 2 ** 40 + 5, 2)
    ring.read(-1, start, 1, 0, 3)
    expect(finish()).toEqual([
      [2, 1],
      [3, -EBADF],
    ])
    expect(bytes[1]).toBe(0x5a)
  })

  test('there is room for as many as were asked for, and again when they have ended', () => {
    const { fd, start, ring, ended, reap } = setUp(4, 8)
    expect(ring.inFlightMax).toBe(8)
    const fill = () => {
      let count = 0
      while (ring.read(fd, start, 1, 0, count)) count++
      return count
    }
    expect(fill()).toBe(4)
    ring.submit()
    expect(fill()).toBe(4)
    ring.submit()
    // Eight that nobody has reaped: a ninth would have no place to be told of.
    expect(fill()).toBe(0)
    ring.submit(8)
    expect([reap(), ended.length, fill()]).toEqual([8, 8, 4])
  })

  test('rings that go round many times lose nothing', () => {
    const { fd, start, ring, finish } = setUp(2, 4)
    for (let i = 0; i < 1000; i++) {
      expect(ring.read(fd, start, 1 + (i % 7), 0, i)).toBe(true)
      expect(finish()).toEqual([[i, 1 + (i % 7)]])
    }
  })

  test('a completion may begin more, and one that throws loses nothing', () => {
    const { fd, start, ring, ended, reap } = setUp()
    for (const token of [1, 2, 3]) ring.read(fd, start, 1, 0, token)
    ring.submit(3)
    expect(() =>
      ring.reap((token) => {
        ended.push([token, 0])
        ring.read(fd, start, 1, 0, token + 10)
        throw new Error('of the user')
      }),
    ).toThrow('of the user')
    expect([ended.length, ring.inFlight, ring.queued]).toEqual([1, 2, 1])
    ring.submit(3)
    expect([reap(), ended.map(([token]) => token)]).toEqual([3, [1, 2, 3, 11]])
  })

  test('the event loop is woken', async () => {
    const { start, ring } = setUp()
    const [reader, writer] = createPipe(0).map(own) as [OwnedFd, OwnedFd]
    const woken = new Promise<[number, number]>((resolve) => {
      own(
        watch(ring.eventFd.fd, EPOLLIN | EPOLLET, () =>
          ring.reap((token, result) => resolve([token, result])),
        ),
      )
    })
    ring.read(reader.fd, start, 5, -1, 7)
    ring.submit()
    expect(ring.reap(() => {})).toBe(0)
    const { fd } = writer
    writeFileSync(`/proc/self/fd/${fd}`, 'hello')
    expect(await woken).toEqual([7, 5])
  })

  test('what must not wait has ended after submit, and nobody is woken who did not ask for it', () => {
    const { start } = setUp()
    const ring = own(new IoUring({ wakes: false }))
    const [reader, writer] = createPipe(O_NONBLOCK).map(own) as [OwnedFd, OwnedFd]
    writeFileSync(`/proc/self/fd/${writer.fd}`, 'hello')
    for (const token of [1, 2]) ring.read(reader.fd, start, 5, -1, token, RWF_NOWAIT)
    const ended: [token: number, result: number][] = []
    ring.submit()
    ring.reap((token, result) => ended.push([token, result]))
    expect(ended).toEqual([
      [1, 5],
      [2, -EAGAIN],
    ])
    expect(ring.eventFd.read()).toBe(0)
  })

  test('closing drops, cancels and waits: nothing is written afterwards', () => {
    const before = countFds()
    const { fd, start, bytes, ring, finish } = setUp()
    const [reader, writer] = createPipe(0) as [OwnedFd, OwnedFd]
    expect(finish()).toEqual([])
    // One that never ends by itself, some that do, and some that are not begun.
    ring.read(reader.fd, start, 5, -1, 1)
    for (let i = 0; i < 8; i++) ring.read(fd, start + PAGE, PAGE, PAGE, 2)
    ring.submit()
    ring.read(fd, start + 2 * PAGE, PAGE, 2 * PAGE, 3)
    ring.close()
    ring.close()
    expect([ring.closed, ring.queued, ring.inFlight]).toEqual([true, 0, 0])
    writeFileSync(`/proc/self/fd/${writer.fd}`, 'hello')
    expect([bytes[0], bytes[2 * PAGE]]).toEqual([0, 0])
    expect([ring.read(fd, start, 1, 0, 1), ring.submit(1), ring.reap(() => {})]).toEqual([false, 0, 0])
    reader.close()
    writer.close()
    // The file of the set-up is still open.
    expect(countFds()).toBe(before + 1)
  })

  test('what does not fit is refused', () => {
    const before = countFds()
    for (const entries of [0, 1.5, 4097]) expect(() => new IoUring({ entries })).toThrow(RangeError)
    expect(() => new IoUring({ entries: 8, inFlightMax: 4 })).toThrow(
      expect.objectContaining({ code: 'EINVAL', syscall: 'io_uring_setup' }),
    )
    expect(countFds()).toBe(before)
  })
})

/** A seccomp filter as containers have it: io_uring_setup fails with that number, on this thread. */
function forbidding(errno: number): string {
  return `
    const { default: koffi } = await import('koffi')
    const prctl = koffi.load('libc.so.6').func('int prctl(int, unsigned long, unsigned long, void *, unsigned long)')
    const program = new DataView(new ArrayBuffer(32))
    const instructions = [[0x20, 0, 0, 0], [0x15, 0, 1, 425], [0x06, 0, 0, 0x50000 | ${errno}], [0x06, 0, 0, 0x7fff0000]]
    for (const [i, [code, yes, no, value]] of instructions.entries()) {
      program.setUint16(i * 8, code, true)
      program.setUint8(i * 8 + 2, yes)
      program.setUint8(i * 8 + 3, no)
      program.setUint32(i * 8 + 4, value, true)
    }
    const filter = new BigUint64Array([4n, koffi.address(program)])
    if (prctl(38, 1, 0, null, 0) < 0 || prctl(22, 2, koffi.address(filter), null, 0) < 0) throw new Error('no seccomp')
  `
}

describe('a host without io_uring', () => {
  test.each([
    [1, 'EPERM', 'this process may not use it'],
    [38, 'ENOSYS', 'this kernel has none'],
  ])('is an error that says so: %i', (errno, code, message) => {
    const output = runInChild(`
      const { readdirSync } = await import('node:fs')
      const count = () => readdirSync('/proc/self/fd').length
      ${forbidding(errno)}
      const before = count()
      try { new IoUring() } catch (error) {
        console.log(error instanceof SystemError, error.code, error.syscall, count() - before, error.message)
      }
    `)
    expect(output).toContain(`true ${code} io_uring_setup 0 `)
    expect(output).toContain(message)
  })
})
