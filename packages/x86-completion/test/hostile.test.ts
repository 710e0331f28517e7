/** Whatever the guest does ends in one of the three results. */

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { featuresFromCpuid, InstructionCompleter } from '../src/index.ts'
import { FakeCpu, FEATURES, longMode, PAGE_SIZE, protectedMode, realMode } from './fake-cpu.ts'
import { REGISTER_NAMES } from './simulated-cpu.ts'

const MEMORY_PAGES = 16
/** First bytes that lead into the table, so that random ones get far. */
const OPENINGS = [
  [],
  [0x0f],
  [0x0f, 0xae],
  [0x0f, 0xc7],
  [0x0f, 0x01],
  [0x0f, 0x38],
  [0xf3, 0x0f],
  [0xc4],
  [0xf2, 0x48, 0x0f, 0x38],
]

const quad = fc.oneof(fc.bigInt({ min: 0n, max: 0x10000n }), fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }))

describe('a hostile guest', () => {
  test('gets a result for any bytes, registers, control bits and memory', () => {
    const arbitrary = fc.record({
      opening: fc.constantFrom(...OPENINGS),
      bytes: fc.uint8Array({ maxLength: 15 }),
      registers: fc.array(quad, { minLength: 16, maxLength: 16 }),
      rip: quad,
      rflags: fc.bigInt({ min: 0n, max: 0x3fffffn }),
      state: fc.constantFrom(
        () => longMode(0),
        () => longMode(3),
        () => protectedMode(0),
        realMode,
      ),
      control: fc.tuple(quad, quad, quad, quad),
      keepsControl: fc.boolean(),
      contents: fc.uint8Array({ minLength: 64, maxLength: 64 }),
      xsave: fc.uint8Array({ minLength: 64, maxLength: 64 }),
      xcr0: quad,
    })
    const kinds = new Set<string>()
    fc.assert(
      fc.property(arbitrary, (guest) => {
        const cpu = new FakeCpu(guest.state())
        for (const [i, name] of REGISTER_NAMES.entries()) cpu.general[name] = guest.registers[i] ?? 0n
        Object.assign(cpu.general, { rip: guest.rip, rflags: guest.rflags })
        const [cr0, cr3, cr4, efer] = guest.control
        if (!guest.keepsControl) Object.assign(cpu.special, { cr0, cr3, cr4, efer })
        for (let page = 0; page < MEMORY_PAGES; page++) {
          const bytes = cpu.memory.page(page * PAGE_SIZE)
          for (let at = 0; at < PAGE_SIZE; at += 64) bytes.set(guest.contents, at)
        }
        cpu.xsave.set(guest.xsave)
        cpu.xsave.set(guest.xsave, 512)
        cpu.xcr0 = guest.xcr0
        const bytes = Uint8Array.from([...guest.opening, ...guest.bytes])
        kinds.add(new InstructionCompleter(cpu, FEATURES).complete(bytes).kind)
      }),
      { numRuns: 3000 },
    )
    expect([...kinds].sort()).toEqual(['completed', 'exception', 'unknown'])
  })
})

describe('featuresFromCpuid', () => {
  const leaf = (fn: number, index: number, eax: number, ebx = 0, ecx = 0, edx = 0) => {
    return { function: fn, index, eax, ebx, ecx, edx }
  }

  test('reads components, their kind and alignment, XCR0 and the address width', () => {
    const features = featuresFromCpuid([
      leaf(0xd, 0, 0x207, 0x988, 0x988, 0),
      leaf(0xd, 1, 0xf, 0, 0x800, 0),
      leaf(0xd, 2, 256, 576),
      leaf(0xd, 6, 512, 896, 2),
      leaf(0xd, 11, 16, 0, 1),
      leaf(0xd, 12, 0),
      leaf(0x80000008, 0, 0x3030),
    ])
    expect(features).toEqual({
      physicalAddressBits: 48,
      supportedXcr0: 0x207n,
      xsaveComponents: [
        { index: 2, size: 256, offset: 576, supervisor: false, aligned: false },
        { index: 6, size: 512, offset: 896, supervisor: false, aligned: true },
        { index: 11, size: 16, offset: 0, supervisor: true, aligned: false },
      ],
    })
  })

  test('of nothing is a CPU with x87 and SSE', () => {
    expect(featuresFromCpuid([])).toEqual({ physicalAddressBits: 36, supportedXcr0: 3n, xsaveComponents: [] })
  })
})
