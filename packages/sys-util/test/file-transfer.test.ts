import { appendFileSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import {
  createMemfd,
  FileTransfer,
  IOV_MAX,
  Mapping,
  type MemoryPieces,
  MFD_ALLOW_SEALING,
  OwnedFd,
  TO_FILE,
  TO_MEMORY,
} from '../src/index.ts'
import { libc } from '../src/libc.ts'
import { own, temporaryDirectory } from './resources.ts'

const EPERM = 1
const EBADF = 9
const EFAULT = 14
const SIZE = 65536
const PAGE = 4096
/** <linux/fcntl.h>. */
const F_ADD_SEALS = 1033
const F_SEAL_GROW = 4

/** Pieces of some length, with a gap of a byte between them. */
class Pieces implements MemoryPieces {
  readonly pieceRegion: MemoryPieces['pieceRegion']
  pieceOffset = 0
  readonly #length: number
  #left: number
  #next = 0

  constructor(region: MemoryPieces['pieceRegion'], length: number, count: number) {
    this.pieceRegion = region
    this.#length = length
    this.#left = count
  }

  takePiece(limit: number): number {
    if (this.#left === 0) return 0
    this.#left -= 1
    this.pieceOffset = this.#next
    this.#next += this.#length + 1
    return Math.min(this.#length, limit)
  }
}

function region(kind: string): MemoryPieces['pieceRegion'] {
  if (kind === 'plain') return { bytes: new Uint8Array(SIZE) }
  const mapping = own(new Mapping({ size: SIZE }))
  return { bytes: new Uint8Array(mapping.view()), hostAddress: mapping.address }
}

function fileOf(content: Uint8Array): { readonly path: string; readonly fd: number } {
  const path = join(temporaryDirectory(), 'file')
  writeFileSync(path, content)
  return { path, fd: own(new OwnedFd(openSync(path, 'r+'))).fd }
}

test.each(['plain', 'mapped'])('pieces are filled from a file, and written to one (%s memory)', (kind) => {
  const memory = region(kind)
  const data = Buffer.from(Array.from({ length: 6000 }, (_, i) => i % 251))
  const { path, fd } = fileOf(data)
  const transfer = new FileTransfer()
  // More pieces than the kernel takes at once.
  const count = IOV_MAX + 100
  expect(transfer.run(fd, new Pieces(memory, 5, count), TO_MEMORY, 100, 5 * count)).toBe(5 * count)
  for (let i = 0; i < count; i += 1) {
    expect(
      Buffer.from(memory.bytes.subarray(6 * i, 6 * i + 5)).equals(data.subarray(100 + 5 * i, 105 + 5 * i)),
    ).toBe(true)
    expect(memory.bytes[6 * i + 5]).toBe(0)
  }
  expect(transfer.run(fd, new Pieces(memory, 5, count), TO_FILE, 0, 5 * count - 3)).toBe(5 * count - 3)
  const expected = Buffer.concat([data.subarray(100, 100 + 5 * count - 3), data.subarray(5 * count - 3)])
  expect(readFileSync(path).equals(expected)).toBe(true)
})

test.each(['plain', 'mapped'])('the end of the file, of the pieces, and errors (%s memory)', (kind) => {
  const memory = region(kind)
  const { fd } = fileOf(Buffer.alloc(10, 1))
  const transfer = new FileTransfer()
  expect(transfer.run(fd, new Pieces(memory, 4, 5), TO_MEMORY, 3, 20)).toBe(7)
  expect(transfer.run(fd, new Pieces(memory, 4, 5), TO_MEMORY, 10, 20)).toBe(0)
  expect(transfer.run(fd, new Pieces(memory, 4, 1), TO_MEMORY, 0, 5)).toBe(-EFAULT)
  expect(transfer.run(-1, new Pieces(memory, 4, 1), TO_MEMORY, 0, 4)).toBeLessThan(0)
  expect(transfer.run(fd, new Pieces(memory, 4, 1), TO_MEMORY, 0, 0)).toBe(0)
  if (kind === 'mapped') expect(transfer.run(-1, new Pieces(memory, 4, 1), TO_FILE, 0, 4)).toBe(-EBADF)
})

test.each(['plain', 'mapped'])('what could be written counts, where not all could be (%s memory)', (kind) => {
  const memory = region(kind)
  memory.bytes.fill(1)
  // A file with room for two pages, and no more.
  const { fd } = own(createMemfd('full', 2 * PAGE, MFD_ALLOW_SEALING))
  libc().fcntl(fd, F_ADD_SEALS, F_SEAL_GROW)
  const transfer = new FileTransfer()
  for (const length of [PAGE, 3 * PAGE, 4 * PAGE]) {
    const pieces = new Pieces(memory, length, Math.floor((4 * PAGE) / length))
    expect(transfer.run(fd, pieces, TO_FILE, 0, 3 * PAGE)).toBe(2 * PAGE)
  }
  expect(readFileSync(`/proc/self/fd/${fd}`).equals(Buffer.alloc(2 * PAGE, 1))).toBe(true)
  expect(transfer.run(fd, new Pieces(memory, PAGE, 2), TO_FILE, 2 * PAGE, PAGE)).toBe(-EPERM)
})

test('a file that grows while it is read has no bytes in the wrong place', () => {
  const { path, fd } = fileOf(Buffer.alloc(7, 1))
  class Growing extends Pieces {
    override takePiece(limit: number): number {
      if (this.pieceOffset === 0 && limit < 20) appendFileSync(path, Buffer.alloc(20, 2))
      return super.takePiece(limit)
    }
  }
  const memory = region('plain')
  const moved = new FileTransfer().run(fd, new Growing(memory, 10, 2), TO_MEMORY, 0, 20)
  const read = Buffer.concat([memory.bytes.subarray(0, 10), memory.bytes.subarray(11, 21)])
  expect(read.subarray(0, moved).equals(readFileSync(path).subarray(0, moved))).toBe(true)
  expect(moved).toBeGreaterThanOrEqual(7)
})
