import { openSync, readSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { setNonBlocking } from '../src/fd.ts'
import { createPipe, directIoAlignment, Mapping, OwnedFd } from '../src/index.ts'
import { fdFlags, O_NONBLOCK, own, temporaryDirectory } from './resources.ts'

const O_DIRECT = 0o40000
const SIZE = 0x1_0000

test('what is aligned as the file says can be read with O_DIRECT', () => {
  const path = join(temporaryDirectory(), 'file')
  writeFileSync(path, new Uint8Array(SIZE).fill(7))
  const { fd } = own(new OwnedFd(openSync(path, 'r')))
  const alignment = directIoAlignment(fd)
  if (alignment === undefined) return
  const { memory, file } = alignment
  for (const value of [memory, file]) expect(Number.isInteger(Math.log2(value))).toBe(true)
  const bytes = new Uint8Array(own(new Mapping({ size: SIZE })).view())
  const direct = own(new OwnedFd(openSync(path, O_DIRECT)))
  expect(readSync(direct.fd, bytes, memory, file, file)).toBe(file)
  expect([bytes[memory - 1], bytes[memory], bytes[memory + file - 1]]).toEqual([0, 7, 7])
})

test('what is not open has no alignment, and neither has a pipe', () => {
  expect(() => directIoAlignment(-1)).toThrow(expect.objectContaining({ code: 'EBADF', syscall: 'statx' }))
  const [reader, writer] = createPipe().map(own) as [OwnedFd, OwnedFd]
  expect(directIoAlignment(reader.fd)).toBeUndefined()
  expect(directIoAlignment(writer.fd)).toBeUndefined()
})

test('O_NONBLOCK is set and cleared, and no other flag', () => {
  const [reader] = createPipe(0).map(own) as [OwnedFd, OwnedFd]
  const before = fdFlags(reader.fd)
  setNonBlocking(reader.fd, true)
  expect(fdFlags(reader.fd)).toBe(before | O_NONBLOCK)
  setNonBlocking(reader.fd, false)
  expect(fdFlags(reader.fd)).toBe(before)
  expect(() => setNonBlocking(-1, true)).toThrow(expect.objectContaining({ code: 'EBADF' }))
})
