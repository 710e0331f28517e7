/** Whatever an image says: a LoaderError or a kernel in guest memory, soon, and nothing outside guest memory. */

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { loadKernel } from '../src/load-kernel.ts'
import { LoaderError } from '../src/loader-error.ts'
import { bzImage, concat, elfImage, elfNote, PT_LOAD, PT_NOTE, pattern } from './images.ts'
import { bzImageOf, COMPRESSIONS, fixture, fixtureKernel, payload } from './payloads.ts'
import { PlainMemory } from './plain-memory.ts'

const MIB = 2 ** 20
const RAM = [
  { start: 0, size: 640 * 1024 },
  { start: MIB, size: 3 * MIB },
  { start: 16 * MIB, size: 2 * MIB },
]
// It throws a RangeError on every access outside its regions, which is no LoaderError.
const memory = new PlainMemory(RAM)

const loads = async (image: Uint8Array, options = {}): Promise<void> => {
  try {
    const kernel = await loadKernel(memory, image, options)
    expect(kernel.kernelEnd).toBeGreaterThan(kernel.kernelStart)
    expect(memory.checkRange(kernel.kernelStart, 1)).toBe(true)
    expect(memory.checkRange(kernel.kernelEnd - 1, 1)).toBe(true)
  } catch (error) {
    if (error instanceof LoaderError) return
    throw error
  }
}

const interesting = fc.oneof(
  fc.constantFrom(
    0,
    1,
    2,
    0x40,
    0xff,
    0x1000,
    0xffff,
    MIB,
    16 * MIB,
    2 ** 31,
    2 ** 32 - 1,
    2 ** 32,
    2 ** 53 - 1,
  ),
  fc.nat(32 * MIB),
)
const mutation = fc.tuple(fc.nat(), fc.constantFrom(1, 2, 4, 8), interesting)
const mutate = (
  image: Uint8Array,
  changes: readonly (readonly [number, number, number])[],
  within: number,
) => {
  const copy = image.slice()
  const view = new DataView(copy.buffer)
  for (const [position, size, value] of changes) {
    const at = position % Math.max(1, Math.min(within, image.length) - size)
    if (size === 1) view.setUint8(at, value)
    if (size === 2) view.setUint16(at, value, true)
    if (size === 4) view.setUint32(at, value, true)
    if (size === 8) view.setBigUint64(at, BigInt(value), true)
  }
  return copy
}

describe('images that are not what they seem', () => {
  const note = elfNote('Xen\0', 18, Uint8Array.of(0x40, 0, 0x10, 0, 0, 0, 0, 0))
  const elf = elfImage(MIB, [
    { paddr: MIB, bytes: pattern(5000), memsz: 9000 },
    { paddr: 2 * MIB, bytes: pattern(100) },
    { type: PT_NOTE, bytes: note },
  ])

  it('ELF files with any program headers', async () => {
    const segment = fc.record({
      type: fc.constantFrom(PT_LOAD, PT_NOTE),
      paddr: interesting,
      bytes: fc.uint8Array({ maxLength: 64 }),
      memsz: interesting,
      offset: fc.oneof(fc.nat(400), interesting),
      filesz: fc.oneof(fc.nat(100), interesting),
    })
    await fc.assert(
      fc.asyncProperty(
        interesting,
        fc.array(segment, { maxLength: 6 }),
        fc.boolean(),
        async (entry, segments, pvh) =>
          loads(elfImage(entry, segments), { highmemStart: 0, protocol: pvh ? 'pvh' : 'linux64' }),
      ),
      { numRuns: 500 },
    )
  })

  it('ELF files with changed bytes, cut short', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(mutation, { maxLength: 5 }), fc.nat(elf.length), async (changes, cut) =>
        loads(mutate(elf, changes, 260).subarray(0, elf.length - (cut % 7 === 0 ? cut : 0))),
      ),
      { numRuns: 1000 },
    )
  })

  it('ELF files whose notes are noise', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(mutation, { maxLength: 4 }),
        fc.uint8Array({ maxLength: 200 }),
        async (changes, noise) => {
          const notes = mutate(concat(note, noise), changes, 250)
          await loads(
            elfImage(MIB, [
              { paddr: MIB, bytes: pattern(9) },
              { type: PT_NOTE, bytes: notes },
            ]),
          )
        },
      ),
      { numRuns: 500 },
    )
  })

  it('bzImages with changed headers, cut short', async () => {
    const image = bzImage(pattern(4096))
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(0x7b - 8), fc.constantFrom(1, 2, 4, 8), interesting), { maxLength: 4 }),
        fc.nat(image.length),
        async (changes, cut) => {
          const moved = changes.map(([at, size, value]) => [at + 0x1f1, size, value] as const)
          await loads(mutate(image, moved, image.length).subarray(0, cut % 7 === 0 ? cut : image.length))
        },
      ),
      { numRuns: 1000 },
    )
  })

  it('noise behind a magic number', async () => {
    const start = fc.constantFrom(
      elf.subarray(0, 4),
      elf.subarray(0, 20),
      elf.subarray(0, 64),
      new Uint8Array(0),
    )
    await fc.assert(
      fc.asyncProperty(start, fc.uint8Array({ maxLength: 600 }), async (magic, noise) =>
        loads(concat(magic, noise)),
      ),
      { numRuns: 500 },
    )
  })

  it.each(COMPRESSIONS)('payloads of damaged %s', async (compression) => {
    const compressed = fixture(compression)
    const size = fixtureKernel.length
    await fc.assert(
      fc.asyncProperty(
        fc.array(mutation, { minLength: 1, maxLength: 4 }),
        fc.constantFrom(size, size, size, 0, 1, size * 2, MIB),
        fc.constantFrom(100, 100_000),
        async (changes, promised, within) => {
          const damaged = mutate(compressed, changes, within)
          await loads(bzImageOf(payload(compression, damaged, promised)), { unpack: true })
        },
      ),
      { numRuns: 60 },
    )
  })
})
