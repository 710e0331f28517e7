import { constants, readSync, writeSync } from 'node:fs'
import { expect, test } from 'vitest'
import { closeFd, createPipe, dupFd, OwnedFd, openPath } from '../src/index.ts'
import { countFds, fdFlags, O_CLOEXEC, O_NONBLOCK, own } from './resources.ts'

test('an owner closes once, and its number is stale after that', () => {
  const before = countFds()
  const owned = new OwnedFd(openPath('/dev/null', constants.O_RDONLY))
  expect(owned.closed).toBe(false)
  expect(countFds()).toBe(before + 1)
  owned.close()
  owned.close()
  expect(owned.closed).toBe(true)
  expect(owned.fd).toBe(-1)
  expect(countFds()).toBe(before)
})

test('failures name the call, the error and the path', () => {
  expect(() => openPath('/no/such/file', constants.O_RDONLY)).toThrow(
    expect.objectContaining({
      code: 'ENOENT',
      errno: -2,
      syscall: 'open',
      message: 'open: ENOENT: /no/such/file',
    }),
  )
  expect(() => closeFd(-1)).toThrow(expect.objectContaining({ code: 'EBADF' }))
  expect(() => dupFd(-1)).toThrow(expect.objectContaining({ code: 'EBADF' }))
})

test('flags are as given', () => {
  const plain = own(new OwnedFd(openPath('/dev/null', constants.O_RDWR)))
  const closing = own(new OwnedFd(openPath('/dev/null', constants.O_RDWR | O_CLOEXEC)))
  expect(fdFlags(plain.fd) & (O_CLOEXEC | constants.O_RDWR)).toBe(constants.O_RDWR)
  expect(fdFlags(closing.fd) & (O_CLOEXEC | constants.O_RDWR)).toBe(O_CLOEXEC | constants.O_RDWR)
})

test('a pipe carries bytes one way, close-on-exec, and blocks only where asked', () => {
  const [reader, writer] = createPipe()
  const [blockingReader, blockingWriter] = createPipe(0)
  for (const end of [reader, writer, blockingReader, blockingWriter]) {
    own(end)
    expect(fdFlags(end.fd) & O_CLOEXEC).toBe(O_CLOEXEC)
  }
  expect(fdFlags(reader.fd) & fdFlags(writer.fd) & O_NONBLOCK).toBe(O_NONBLOCK)
  expect((fdFlags(blockingReader.fd) | fdFlags(blockingWriter.fd)) & O_NONBLOCK).toBe(0)
  const buffer = new Uint8Array(8)
  expect(() => readSync(reader.fd, buffer)).toThrow(expect.objectContaining({ code: 'EAGAIN' }))
  writeSync(writer.fd, 'abc')
  expect(readSync(reader.fd, buffer)).toBe(3)
  writer.close()
  expect(readSync(reader.fd, buffer)).toBe(0)
})
