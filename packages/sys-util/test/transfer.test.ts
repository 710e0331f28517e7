import { openSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  copyInto,
  createMemfd,
  IOV_MAX,
  IoVector,
  Mapping,
  OwnedFd,
  preadInto,
  pwriteFrom,
  RWF_NOWAIT,
} from '../src/index.ts'
import { own, temporaryDirectory } from './resources.ts'

const PAGE = 4096
const EBADF = 9
const EFAULT = 14
const EINVAL = 22
const EOPNOTSUPP = 95

function fileOf(content: Uint8Array): OwnedFd {
  const path = join(temporaryDirectory(), 'file')
  writeFileSync(path, content)
  return own(new OwnedFd(openSync(path, 'r+')))
}

function contentOf(fd: number): Uint8Array {
  return new Uint8Array(readFileSync(`/proc/self/fd/${fd}`))
}

function memory() {
  const mapping = own(new Mapping({ size: PAGE }))
  return { mapping, bytes: new Uint8Array(mapping.view()), start: Number(mapping.address) }
}

describe('at once', () => {
  test('copies bytes to an address, and no more', () => {
    const { bytes, start } = memory()
    bytes.fill(9)
    copyInto(start + 2, Uint8Array.of(0, 1, 2, 3).subarray(1))
    expect(bytes.subarray(0, 7)).toEqual(Uint8Array.of(9, 9, 1, 2, 3, 9, 9))
  })

  test('reads into an address and writes from one, numbers and bigints alike', () => {
    const { mapping, bytes, start } = memory()
    const { fd } = fileOf(new TextEncoder().encode('0123456789'))
    expect(preadInto(fd, start + 100, 4, 2)).toBe(4)
    expect(preadInto(fd, mapping.address + 104n, 4, 6)).toBe(4)
    expect(Buffer.from(bytes.subarray(100, 109)).toString('latin1')).toBe('23456789\0')
    expect(pwriteFrom(fd, mapping.address + 100n, 3, 12)).toBe(3)
    expect(Buffer.from(contentOf(fd)).toString('latin1')).toBe('0123456789\0\x00234')
  })

  test('a read at the end of the file is short', () => {
    const { start } = memory()
    const { fd } = fileOf(new Uint8Array(10))
    expect(preadInto(fd, start, 100, 4)).toBe(6)
    expect(preadInto(fd, start, 100, 10)).toBe(0)
  })

  test('offsets go beyond 4 GiB', () => {
    const { bytes, start } = memory()
    const { fd } = own(createMemfd('sparse', 2 ** 40 + PAGE))
    bytes[0] = 0x5a
    expect(pwriteFrom(fd, start, 1, 2 ** 40)).toBe(1)
    expect(preadInto(fd, start + 1, 1, 2 ** 40)).toBe(1)
    expect(bytes[1]).toBe(0x5a)
  })

  test('failures are negative errno values', () => {
    const { start } = memory()
    const { fd } = fileOf(new Uint8Array(10))
    expect(preadInto(-1, start, 1, 0)).toBe(-EBADF)
    expect(preadInto(fd, 0, 1, 0)).toBe(-EFAULT)
    expect(pwriteFrom(fd, start, 1, -1)).toBe(-EINVAL)
  })
})

describe('scattered', () => {
  test('a vector takes as many pieces as it was made for, and is filled anew', () => {
    const vector = new IoVector(2)
    expect([vector.push(4096, 1), vector.push(8192n, 2), vector.push(0, 4)]).toEqual([true, true, false])
    expect([vector.count, vector.byteLength]).toEqual([2, 3])
    vector.clear()
    expect([vector.count, vector.byteLength]).toEqual([0, 0])
    for (const capacity of [0, IOV_MAX + 1, 1.5]) expect(() => new IoVector(capacity)).toThrow(RangeError)
  })

  test('what is written from pieces is read back into others', () => {
    const cut = fc.array(fc.integer({ min: 0, max: 60 }), { minLength: 1, maxLength: 16 })
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 900 }), cut, cut, (data, cutsOut, cutsIn) => {
        const source = memory()
        const target = memory()
        const file = createMemfd('vectors', 0)
        try {
          source.bytes.set(data)
          const out = vectorOf(source.start, cutsOut)
          const into = vectorOf(target.start, cutsIn)
          expect(out.writeTo(file.fd, 3)).toBe(out.byteLength)
          const length = Math.min(into.byteLength, out.byteLength)
          expect(into.readFrom(file.fd, 3)).toBe(length)
          expect(target.bytes.subarray(0, length)).toEqual(source.bytes.subarray(0, length))
        } finally {
          file.close()
        }
      }),
      { numRuns: 50 },
    )
  })

  function vectorOf(start: number, lengths: readonly number[]): IoVector {
    const vector = new IoVector(lengths.length)
    let at = start
    for (const length of lengths) {
      vector.push(at, length)
      at += length
    }
    return vector
  }

  test('failures are negative errno values', () => {
    const vector = new IoVector(1)
    vector.push(0, 1)
    expect(vector.readFrom(-1, 0)).toBe(-EBADF)
    expect(vector.readFrom(fileOf(new Uint8Array(1)).fd, 0)).toBe(-EFAULT)
  })
})

describe('a vector in part', () => {
  test('is what is left of it', () => {
    const vector = new IoVector(3)
    for (const [address, length] of [
      [2 ** 40, 10],
      [5000, 20],
      [9000, 30],
    ] as const)
      vector.push(address, length)
    const pieces = () =>
      Array.from({ length: vector.count }, (_, i) => [vector.pieceAddress(i), vector.pieceLength(i)])
    const before = vector.address
    vector.advance(4)
    expect(pieces()).toEqual([
      [2 ** 40 + 4, 6],
      [5000, 20],
      [9000, 30],
    ])
    vector.advance(26)
    expect(pieces()).toEqual([[9000, 30]])
    expect([vector.byteLength, vector.address - before]).toEqual([30, 32])
    vector.compact()
    expect([pieces(), vector.address, vector.push(7, 8)]).toEqual([[[9000, 30]], before, true])
    expect(pieces()).toEqual([
      [9000, 30],
      [7, 8],
    ])
    vector.advance(38)
    expect([vector.count, vector.byteLength]).toEqual([0, 0])
    vector.clear()
    expect([vector.push(1, 1), vector.address]).toEqual([true, before])
  })

  test('is filled from one place, and copied to one', () => {
    const { bytes, start } = memory()
    const vector = new IoVector(3)
    for (const at of [100, 200, 300]) vector.push(start + at, 4)
    bytes.set(new TextEncoder().encode('abcdefghijkl'), 0)
    vector.copyFrom(start, 10)
    expect(Buffer.from(bytes.subarray(300, 304)).toString('latin1')).toBe('ij\0\0')
    vector.advance(2)
    vector.copyTo(start + 400, 5)
    expect(Buffer.from(bytes.subarray(400, 406)).toString('latin1')).toBe('cdefg\0')
  })

  test('is read with RWF_NOWAIT as far as it is at hand', () => {
    const { bytes, start } = memory()
    const { fd } = fileOf(new TextEncoder().encode('0123456789'))
    const vector = new IoVector(2)
    vector.push(start, 3)
    vector.push(start + 10, 3)
    const result = vector.readFrom(fd, 2, RWF_NOWAIT)
    // A file system without it says so.
    expect([6, -EOPNOTSUPP]).toContain(result)
    if (result === 6) expect(Buffer.from(bytes.subarray(10, 13)).toString('latin1')).toBe('567')
  })
})
