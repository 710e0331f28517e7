import { expect, test } from 'vitest'
import * as sysUtil from '../src/index.ts'
import { evaluate, skipWithoutCompiler } from './compiler.ts'

const HEADERS = [
  'limits.h',
  'linux/falloc.h',
  'linux/memfd.h',
  'signal.h',
  'sys/epoll.h',
  'sys/eventfd.h',
  'sys/mman.h',
  'sys/uio.h',
  'linux/mman.h',
]
const C_NAME = /^(EFD|EPOLL|FALLOC|IOV|MADV|MAP|MFD|PROT|RWF|SIGRT)[A-Z_]+$/

test.skipIf(skipWithoutCompiler)('constants are those of the C headers', () => {
  const constants = Object.entries(sysUtil).filter(([name]) => C_NAME.test(name))
  const names = constants.map(([name]) => name)
  const values = evaluate(
    HEADERS,
    names.map((name) => `(unsigned)(${name})`),
  )
  expect(constants.length).toBeGreaterThan(30)
  expect(constants.map(([name, value]) => [name, BigInt(value as number)])).toEqual(
    names.map((name, index) => [name, values[index]]),
  )
})
