import { ftruncateSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import {
  createMemfd,
  MADV_DONTNEED,
  MADV_POPULATE_WRITE,
  MAP_ANONYMOUS,
  MAP_PRIVATE,
  Mapping,
  OwnedFd,
  PROT_READ,
} from '../src/index.ts'
import { own, temporaryDirectory } from './resources.ts'

const PAGE = 4096
const MAP_FIXED = 0x10

function bytesOf(mapping: Mapping, offset?: number, length?: number): Uint8Array {
  return new Uint8Array(mapping.view(offset, length))
}

describe('views', () => {
  test('show the same memory', () => {
    const mapping = own(new Mapping({ size: 4 * PAGE }))
    const whole = bytesOf(mapping)
    const part = bytesOf(mapping, PAGE, 16)
    expect(whole.length).toBe(4 * PAGE)
    whole[PAGE + 3] = 0x42
    expect(part[3]).toBe(0x42)
  })

  test('are cut off when the mapping is closed', () => {
    const mapping = new Mapping({ size: PAGE })
    const view = new DataView(mapping.view())
    const part = new DataView(mapping.view(16, 16))
    mapping.close()
    mapping.close()
    expect(mapping.closed).toBe(true)
    expect(() => view.getUint8(0)).toThrow(TypeError)
    expect(() => part.setUint8(0, 1)).toThrow(TypeError)
    expect(() => mapping.view()).toThrow(expect.objectContaining({ code: 'EINVAL' }))
  })

  test.each([
    [-1, 1],
    [0, PAGE + 1],
    [PAGE, 1],
    [1, PAGE],
    [0, -1],
    [Number.NaN, 1],
  ])('a part from %d of %d bytes, outside, is refused', (offset, length) => {
    const mapping = own(new Mapping({ size: PAGE }))
    expect(() => mapping.view(offset, length)).toThrow(RangeError)
    expect(() => mapping.advise(MADV_DONTNEED, offset, length)).toThrow(RangeError)
  })
})

describe('kinds', () => {
  test('anonymous memory is zero, and zero again after MADV_DONTNEED', () => {
    const mapping = own(new Mapping({ size: 2 * PAGE }))
    const bytes = bytesOf(mapping)
    mapping.advise(MADV_POPULATE_WRITE)
    bytes.fill(1)
    mapping.advise(MADV_DONTNEED, PAGE)
    expect([bytes[0], bytes[PAGE]]).toEqual([1, 0])
  })

  test('a file is shared unless private', () => {
    const path = join(temporaryDirectory(), 'file')
    writeFileSync(path, new Uint8Array(2 * PAGE))
    const { fd } = own(new OwnedFd(openSync(path, 'r+')))
    bytesOf(own(new Mapping({ size: PAGE, fd, offset: PAGE })))[0] = 0x11
    bytesOf(own(new Mapping({ size: PAGE, fd, flags: MAP_PRIVATE })))[0] = 0x22
    const content = readFileSync(path)
    expect([content[0], content[PAGE]]).toEqual([0, 0x11])
  })

  test('memory of a memfd outlives the descriptor', () => {
    const memory = createMemfd('test', PAGE)
    const first = own(new Mapping({ size: PAGE, fd: memory.fd }))
    const second = own(new Mapping({ size: PAGE, fd: memory.fd, prot: PROT_READ }))
    memory.close()
    bytesOf(first)[1] = 7
    expect(bytesOf(second)[1]).toBe(7)
  })

  test('a memfd has its name and its size, and can be resized', () => {
    const memory = own(createMemfd('guest-memory', 3 * PAGE))
    expect(readFileSync(`/proc/self/fd/${memory.fd}`).length).toBe(3 * PAGE)
    ftruncateSync(memory.fd, PAGE)
    expect(readFileSync(`/proc/self/fd/${memory.fd}`).length).toBe(PAGE)
  })

  test('what mmap(2) refuses is thrown', () => {
    const error = { code: 'EINVAL', syscall: 'mmap' }
    expect(() => new Mapping({ size: 0 })).toThrow(expect.objectContaining(error))
    expect(() => new Mapping({ size: PAGE, fd: 0, offset: 1 })).toThrow(expect.objectContaining(error))
    const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
    expect(() => new Mapping({ size: PAGE, flags })).toThrow(expect.objectContaining(error))
    expect(() => new Mapping({ size: PAGE, fd: 1 << 20 })).toThrow(expect.objectContaining({ code: 'EBADF' }))
    expect(() => new Mapping({ size: 2 ** 52 })).toThrow(expect.objectContaining({ code: 'ENOMEM' }))
  })
})
