import { fstatSync, openSync, readFileSync, writeSync } from 'node:fs'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { createMemfd, createPipe, OwnedFd, punchHole, seekData, seekHole, zeroRange } from '../src/index.ts'
import * as libcModule from '../src/libc.ts'
import { own } from './resources.ts'

const PAGE = 4096
const SIZE = 64 * PAGE
const EOPNOTSUPP = 95

afterEach(() => {
  vi.restoreAllMocks()
})

/** A file full of ones, in memory: tmpfs has holes wherever the tests run. */
function fileOfOnes(): number {
  const { fd } = own(createMemfd('holes', 0))
  writeSync(fd, new Uint8Array(SIZE).fill(1))
  return fd
}

/** The parts of a file that read as zeros: [offset, length] each. */
function zeroes(fd: number): [number, number][] {
  const content = readFileSync(`/proc/self/fd/${fd}`)
  const parts: [number, number][] = []
  for (let offset = content.indexOf(0); offset >= 0; offset = content.indexOf(0, offset)) {
    const start = offset
    while (content[offset] === 0) offset++
    parts.push([start, offset - start])
  }
  return parts
}

/** Has fallocate(2) fail as it does on a file system that knows nothing of holes. */
function withoutFallocate(): void {
  const real = libcModule.libc()
  vi.spyOn(libcModule, 'libc').mockReturnValue({
    ...real,
    fallocate: Object.assign(() => -1, real.fallocate),
  })
  vi.spyOn(libcModule, 'lastErrno').mockReturnValue(EOPNOTSUPP)
}

describe.each([
  ['by the file system', () => {}],
  ['by writing', withoutFallocate],
])('zeros %s', (_how, prepare) => {
  test.each([
    [0, 1],
    [PAGE - 1, 2],
    [PAGE, PAGE],
    [5, 40 * PAGE],
    [SIZE - 10, 10],
  ])('from %d, %d bytes', (offset, length) => {
    const punched = fileOfOnes()
    const zeroed = fileOfOnes()
    prepare()
    punchHole(punched, offset, length)
    zeroRange(zeroed, offset, length)
    expect(zeroes(punched)).toEqual([[offset, length]])
    expect(zeroes(zeroed)).toEqual([[offset, length]])
  })

  test('a hole past the end leaves the size as it is', () => {
    const fd = fileOfOnes()
    prepare()
    punchHole(fd, SIZE - PAGE, 3 * PAGE)
    punchHole(fd, SIZE + PAGE, PAGE)
    expect(fstatSync(fd).size).toBe(SIZE)
    expect(zeroes(fd)).toEqual([[SIZE - PAGE, PAGE]])
  })

  test('zeros past the end make the file longer', () => {
    const fd = fileOfOnes()
    prepare()
    zeroRange(fd, SIZE - PAGE, 3 * PAGE)
    expect(fstatSync(fd).size).toBe(SIZE + 2 * PAGE)
    expect(zeroes(fd)).toEqual([[SIZE - PAGE, 3 * PAGE]])
  })

  test('nothing is nothing', () => {
    const fd = fileOfOnes()
    prepare()
    punchHole(fd, PAGE, 0)
    zeroRange(fd, PAGE, 0)
    expect(zeroes(fd)).toEqual([])
  })
})

test('a punched hole gives the space back, and says so', () => {
  const fd = fileOfOnes()
  const before = fstatSync(fd).blocks
  expect(punchHole(fd, 0, SIZE / 2)).toBe(true)
  expect(fstatSync(fd).blocks).toBeLessThanOrEqual(before / 2)
  withoutFallocate()
  expect(punchHole(fd, 0, SIZE)).toBe(false)
})

test('failures are thrown', () => {
  const readOnly = own(new OwnedFd(openSync(import.meta.filename, 'r')))
  for (const change of [punchHole, zeroRange]) {
    expect(() => change(readOnly.fd, 0, 1)).toThrow(
      expect.objectContaining({ code: 'EBADF', syscall: 'fallocate' }),
    )
    expect(() => change(fileOfOnes(), -1, 1)).toThrow(expect.objectContaining({ code: 'EINVAL' }))
    expect(() => change(fileOfOnes(), 0, Number.NaN)).toThrow(expect.objectContaining({ code: 'EINVAL' }))
  }
})

test('data and holes are found, up to the end', () => {
  const fd = fileOfOnes()
  punchHole(fd, 8 * PAGE, 4 * PAGE)
  expect(seekHole(fd, 0)).toBe(8 * PAGE)
  expect(seekHole(fd, 9 * PAGE)).toBe(9 * PAGE)
  expect(seekData(fd, 9 * PAGE)).toBe(12 * PAGE)
  expect(seekData(fd, 12 * PAGE + 5)).toBe(12 * PAGE + 5)
  expect(seekHole(fd, 12 * PAGE)).toBe(SIZE)
  expect(seekData(fd, SIZE)).toBeUndefined()
  expect(seekHole(fd, SIZE)).toBeUndefined()
  punchHole(fd, 12 * PAGE, SIZE - 12 * PAGE)
  expect(seekData(fd, 12 * PAGE)).toBeUndefined()
})

test('what has no position is an error', () => {
  const [reader, writer] = createPipe()
  own(reader)
  own(writer)
  expect(() => seekData(reader.fd, 0)).toThrow(expect.objectContaining({ code: 'ESPIPE', syscall: 'lseek' }))
})
