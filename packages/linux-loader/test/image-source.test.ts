import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { loadElf } from '../src/elf.ts'
import { ImageFile } from '../src/image-source.ts'
import { loadKernel } from '../src/load-kernel.ts'
import { expectLoaderError } from './expect-error.ts'
import { bzImage, elfImage, pattern } from './images.ts'
import { bzImageOf, fixture, fixtureKernel, payload } from './payloads.ts'
import { PlainMemory } from './plain-memory.ts'

const MIB = 2 ** 20
let directory = ''
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'image-'))
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const withFile = async <T>(bytes: Uint8Array, use: (file: ImageFile) => T | Promise<T>): Promise<T> => {
  const path = join(directory, 'image')
  writeFileSync(path, bytes)
  const file = new ImageFile(path)
  try {
    return await use(file)
  } finally {
    file.close()
  }
}

it.each([
  ['an ELF file', elfImage(MIB, [{ paddr: MIB, bytes: pattern(2 * MIB + 77), memsz: 3 * MIB }]), false],
  ['a bzImage', bzImage(pattern(2 * MIB)), false],
  ['a bzImage to unpack', bzImageOf(payload('lz4', fixture('lz4'), fixtureKernel.length)), true],
])('loads %s from a file as from memory', async (_, image, unpack) => {
  const fromMemory = PlainMemory.ofSize(32 * MIB)
  const fromFile = PlainMemory.ofSize(32 * MIB)
  const expected = await loadKernel(fromMemory, image, { unpack })
  const kernel = await withFile(image, (file) => loadKernel(fromFile, file, { unpack }))
  expect(kernel).toEqual(expected)
  expect(Buffer.compare(fromFile.read(0, 32 * MIB), fromMemory.read(0, 32 * MIB))).toBe(0)
})

it('says which file cannot be opened, or is none', () => {
  expectLoaderError(
    'ERR_IMAGE_FILE',
    () => new ImageFile(join(directory, 'none')),
    /cannot open .*none: ENOENT/,
  )
  expectLoaderError('ERR_IMAGE_FILE', () => new ImageFile(directory), /is not a regular file/)
  expectLoaderError('ERR_IMAGE_FILE', () => new ImageFile('/dev/zero'), /is not a regular file/)
})

it('notices a file that shrinks while it is read', async () => {
  const image = elfImage(MIB, [{ paddr: MIB, bytes: pattern(5000) }])
  await withFile(image, (file) => {
    truncateSync(join(directory, 'image'), 2000)
    expectLoaderError(
      'ERR_KERNEL_TRUNCATED',
      () => loadElf(PlainMemory.ofSize(4 * MIB), file),
      /ends at 0x7d0/,
    )
  })
})

it('is closed once, and reads no more', async () => {
  const file = await withFile(pattern(10), (open) => open)
  file.close()
  file[Symbol.dispose]()
  expectLoaderError('ERR_IMAGE_FILE', () => file.read(0, 1))
})
