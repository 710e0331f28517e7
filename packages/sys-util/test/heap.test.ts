import { readFileSync } from 'node:fs'
import koffi from 'koffi'
import { expect, test } from 'vitest'
import { trimHeap } from '../src/index.ts'

const BLOCK = 8192
const BLOCKS = 4096

const lib = koffi.load('libc.so.6')
const malloc = lib.func('uintptr_t malloc(size_t size)')
const memset = lib.func('uintptr_t memset(uintptr_t address, int byte, size_t length)')
const free = lib.func('void free(uintptr_t address)')

const residentBytes = () => Number(readFileSync('/proc/self/statm', 'latin1').split(' ')[1]) * 4096

test('trimming gives back what was freed below what is in use', () => {
  const blocks = Array.from({ length: BLOCKS }, () => memset(malloc(BLOCK), 1, BLOCK))
  const last = malloc(BLOCK)
  for (const block of blocks) free(block)
  const before = residentBytes()
  trimHeap()
  expect(before - residentBytes()).toBeGreaterThan((BLOCK * BLOCKS) / 2)
  free(last)
})
