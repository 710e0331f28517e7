/** What holds for every command line, memory map, initrd and MP table. */

import fc from 'fast-check'
import { expect, it } from 'vitest'
import { EBDA_START, HIMEM_START } from '../src/boot-layout.ts'
import { Cmdline } from '../src/cmdline.ts'
import { buildE820, E820_TYPE_RAM } from '../src/e820.ts'
import { type AddressRange, type GuestMemory, overlaps } from '../src/guest-memory.ts'
import { loadInitrd } from '../src/initrd.ts'
import type { LoadedKernel } from '../src/loaded-kernel.ts'
import { LoaderError } from '../src/loader-error.ts'
import { IO_APIC_PINS, MP_MAX_CPUS, writeMpTable } from '../src/mp-table.ts'
import { PlainMemory } from './plain-memory.ts'

const MIB = 2 ** 20

/** Ranges in ascending order that do not touch. */
const disjointRanges = (maxLength: number): fc.Arbitrary<AddressRange[]> =>
  fc
    .array(fc.tuple(fc.integer({ min: 1, max: 1024 }), fc.integer({ min: 1, max: 1024 })), { maxLength })
    .map((steps) => {
      let at = 0
      return steps.map(([gap, size]) => {
        const range = { start: at + (gap - 1) * 4096, size: size * 4096 }
        at = range.start + range.size + 4096
        return range
      })
    })

it('a command line never exceeds its capacity and reads back the same', () => {
  const words = fc.string({
    unit: fc.constantFrom('a', '=', '"', ' ', '-', '--', ' -- ', 'b=c', '\n', 'é'),
    maxLength: 12,
  })
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(3), words, words), { maxLength: 8 }),
      fc.integer({ min: 1, max: 60 }),
      (steps, capacity) => {
        const cmdline = new Cmdline(capacity)
        for (const [method, a, b] of steps) {
          const before = cmdline.toString()
          try {
            if (method === 0) cmdline.insert(a, b)
            if (method === 1) cmdline.insertStr(a)
            if (method === 2) cmdline.insertInitArgs(a)
            if (method === 3) cmdline.insertMultiple(a, [b, 'x'])
          } catch (error) {
            expect(error).toBeInstanceOf(LoaderError)
            expect(cmdline.toString()).toBe(before)
          }
          const text = cmdline.toString()
          expect(text).toMatch(/^[\x20-\x7e]*$/)
          expect(cmdline.toBytes().length).toBeLessThanOrEqual(capacity)
          expect(Cmdline.from(text, capacity).toString()).toBe(text)
        }
      },
    ),
    { numRuns: 1000 },
  )
})

it('a memory map is in order, apart, and has no RAM where there is none', () => {
  fc.assert(
    fc.property(disjointRanges(8), disjointRanges(4), (regions, reserved) => {
      const map = buildE820({ regions } as unknown as GuestMemory, reserved)
      for (const [i, entry] of map.entries()) {
        const next = map[i + 1]
        if (next !== undefined) expect(entry.start + entry.size).toBeLessThanOrEqual(next.start)
        if (entry.type !== E820_TYPE_RAM) continue
        const inRegion = regions.some(
          ({ start, size }) => entry.start >= start && entry.start + entry.size <= start + size,
        )
        expect(inRegion).toBe(true)
        const holes = [...reserved, { start: EBDA_START, size: HIMEM_START - EBDA_START }]
        expect(holes.some((hole) => overlaps(hole, entry))).toBe(false)
      }
    }),
    { numRuns: 500 },
  )
})

it('an initrd lies in RAM, on a page, clear of the kernel and of reserved ranges', () => {
  const kernelRange = fc.tuple(fc.integer({ min: MIB, max: 8 * MIB }), fc.integer({ min: 1, max: 4 * MIB }))
  const memories = [
    [{ start: 0, size: 6 * MIB }],
    [
      { start: 0, size: 3 * MIB },
      { start: 4 * MIB, size: 2 * MIB },
    ],
  ].map((regions) => new PlainMemory(regions))
  fc.assert(
    fc.property(
      fc.constantFrom(...memories),
      kernelRange,
      disjointRanges(4),
      fc.integer({ min: 1, max: 2 * MIB }),
      (memory, [start, length], reserved, size) => {
        const kernel: LoadedKernel = {
          kind: 'elf',
          protocol: 'linux64',
          entry: start,
          kernelStart: start,
          kernelEnd: start + length,
          pvhEntry: undefined,
          setupHeader: undefined,
        }
        let range: AddressRange
        try {
          range = loadInitrd(memory, new Uint8Array(size), { kernel, reserved })
        } catch (error) {
          expect(error).toBeInstanceOf(LoaderError)
          return
        }
        expect(range.start % 4096).toBe(0)
        expect(range.start).toBeGreaterThanOrEqual(HIMEM_START)
        expect(memory.checkRange(range.start, size)).toBe(true)
        for (const other of [{ start, size: length }, ...reserved]) expect(overlaps(range, other)).toBe(false)
      },
    ),
    { numRuns: 300 },
  )
})

it('an MP table adds up, both parts, and stays in its range', () => {
  const memory = PlainMemory.ofSize(MIB)
  const source = fc.record({ irq: fc.nat(255), pin: fc.nat(IO_APIC_PINS - 1) })
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: MP_MAX_CPUS }),
      fc.array(source, { maxLength: 40 }),
      (cpus, interrupts) => {
        memory.fill(0, MIB, 0xaa)
        const { start, size } = writeMpTable(memory, { cpus, interrupts })
        const bytes = memory.read(start, size)
        const sum = (part: Uint8Array): number => part.reduce((total, byte) => (total + byte) & 0xff, 0)
        expect(sum(bytes.subarray(0, 16))).toBe(0)
        expect(sum(bytes.subarray(16))).toBe(0)
        expect(memory.read(start - 1, 1)[0]).toBe(0xaa)
        expect(memory.read(start + size, 1)[0]).toBe(0xaa)
      },
    ),
    { numRuns: 200 },
  )
})
