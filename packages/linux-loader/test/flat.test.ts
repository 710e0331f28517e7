import { expect, it } from 'vitest'
import { HIMEM_START } from '../src/boot-layout.ts'
import { loadFlat } from '../src/flat.ts'
import { expectLoaderError } from './expect-error.ts'
import { pattern } from './images.ts'
import { PlainMemory } from './plain-memory.ts'

const MIB = 2 ** 20
const image = pattern(5000)

it('puts a flat image where it is told', () => {
  const memory = PlainMemory.ofSize(2 * MIB)
  expect(loadFlat(memory, image)).toMatchObject({
    entry: HIMEM_START,
    kernelStart: HIMEM_START,
    kernelEnd: HIMEM_START + image.length,
  })
  expect(memory.read(HIMEM_START, image.length)).toEqual(image)
  expect(loadFlat(memory, image, { address: 0x7c00, entry: 0x7c10 })).toMatchObject({
    entry: 0x7c10,
    kernelStart: 0x7c00,
  })
  expect(memory.read(0x7c00, image.length)).toEqual(image)
})

it('refuses a flat image that is empty or does not fit', () => {
  const memory = PlainMemory.ofSize(2 * MIB)
  expectLoaderError('ERR_KERNEL_INVALID', () => loadFlat(memory, new Uint8Array(0)))
  for (const address of [2 * MIB - image.length + 1, -1, 2 ** 53 - 1, 0.5])
    expectLoaderError('ERR_KERNEL_DOES_NOT_FIT', () => loadFlat(memory, image, { address }))
  expect(memory.writes).toBe(0)
})
