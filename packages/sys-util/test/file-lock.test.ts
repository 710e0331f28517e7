import { openSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { dupFd, lockFile, OwnedFd, unlockFile } from '../src/index.ts'
import { runInChild } from './child.ts'
import { evaluate, skipWithoutCompiler } from './compiler.ts'
import { own, temporaryDirectory } from './resources.ts'

function file(): string {
  const path = join(temporaryDirectory(), 'file')
  writeFileSync(path, 'content')
  return path
}

function open(path: string, flags = 'r+'): OwnedFd {
  return own(new OwnedFd(openSync(path, flags)))
}

/** What another process gets, of an exclusive lock and of a shared one. */
function locksOfChild(path: string): unknown {
  return JSON.parse(
    runInChild(`
      const fd = openPath(${JSON.stringify(path)}, 2)
      const exclusive = lockFile(fd, true)
      unlockFile(fd)
      console.log(JSON.stringify([exclusive, lockFile(fd, false)]))
    `),
  )
}

test('an exclusive lock keeps all others out until it is given up', () => {
  const path = file()
  const [first, second] = [open(path), open(path)]
  expect(lockFile(first.fd, true)).toBe(true)
  expect(lockFile(first.fd, true)).toBe(true)
  expect([lockFile(second.fd, true), lockFile(second.fd, false)]).toEqual([false, false])
  expect(locksOfChild(path)).toEqual([false, false])
  unlockFile(first.fd)
  unlockFile(first.fd)
  expect(lockFile(second.fd, true)).toBe(true)
})

test('shared locks go with each other and with no exclusive one', () => {
  const path = file()
  const [first, second] = [open(path, 'r'), open(path)]
  expect(lockFile(first.fd, false)).toBe(true)
  expect([lockFile(second.fd, true), lockFile(second.fd, false)]).toEqual([false, true])
  expect(locksOfChild(path)).toEqual([false, true])
  first.close()
  expect(lockFile(second.fd, true)).toBe(true)
})

test('a lock lasts as long as its own open file, whatever else is closed', () => {
  const path = file()
  const [first, second] = [open(path), open(path)]
  const copy = own(new OwnedFd(dupFd(first.fd)))
  expect(lockFile(first.fd, true)).toBe(true)
  open(path).close()
  first.close()
  expect(lockFile(second.fd, false)).toBe(false)
  copy.close()
  expect(lockFile(second.fd, false)).toBe(true)
})

test('what is not about other locks is thrown', () => {
  const { fd } = open(file(), 'r')
  expect(() => lockFile(fd, true)).toThrow(expect.objectContaining({ code: 'EBADF', syscall: 'fcntl' }))
  expect(() => unlockFile(-1)).toThrow(expect.objectContaining({ code: 'EBADF', syscall: 'fcntl' }))
})

test.skipIf(skipWithoutCompiler)('struct flock is laid out as in C', () => {
  const of = (field: string) => `__builtin_offsetof(struct flock, ${field})`
  const fields = ['l_type', 'l_whence', 'l_start', 'l_len', 'l_pid'].map(of)
  const constants = ['F_OFD_SETLK', 'F_RDLCK', 'F_WRLCK', 'F_UNLCK']
  expect(evaluate(['fcntl.h'], [...fields, 'sizeof(struct flock)', ...constants])).toEqual([
    0n,
    2n,
    8n,
    16n,
    24n,
    32n,
    37n,
    0n,
    1n,
    2n,
  ])
})
