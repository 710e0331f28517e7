import { describe, expect, it } from 'vitest'
import { BIOS_START, EBDA_END, EBDA_START, IO_APIC_START, LOCAL_APIC_START } from '../src/boot-layout.ts'
import {
  type InterruptSource,
  MP_CONFIG_HEADER,
  MP_CONFIG_HEADER_SIZE,
  MP_FLOATING_POINTER,
  MP_FLOATING_POINTER_SIZE,
  MP_MAX_CPUS,
  type MpTableOptions,
  writeMpTable,
} from '../src/mp-table.ts'
import { expectLoaderError } from './expect-error.ts'
import { PlainMemory } from './plain-memory.ts'

const MIB = 2 ** 20

/** Reads a table as a kernel does: from the floating pointer on, believing the counts. */
const parse = (memory: PlainMemory, address: number) => {
  const floating = memory.view(address, MP_FLOATING_POINTER_SIZE)
  const table = MP_FLOATING_POINTER.physptr.get(floating)
  const header = memory.view(table, MP_CONFIG_HEADER_SIZE)
  const length = MP_CONFIG_HEADER.length.get(header)
  const bytes = memory.read(table, length)
  const entries: number[][] = []
  let offset = MP_CONFIG_HEADER_SIZE
  for (let i = 0; i < MP_CONFIG_HEADER.count.get(header); i++) {
    const size = bytes[offset] === 0 ? 20 : 8
    entries.push([...bytes.subarray(offset, offset + size)])
    offset += size
  }
  expect(offset).toBe(length)
  const ofType = (type: number) => entries.filter((entry) => entry[0] === type)
  return { bytes, header, entries, ofType, end: table + length }
}
const sum = (bytes: Uint8Array): number => bytes.reduce((total, byte) => (total + byte) & 0xff, 0)
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1')
const build = (options: MpTableOptions) => {
  const memory = PlainMemory.ofSize(MIB)
  const range = writeMpTable(memory, options)
  return { memory, range, ...parse(memory, range.start) }
}

describe('the MP table', () => {
  it.each([1, 2, 8, 37, 100, MP_MAX_CPUS])('of %d CPUs adds up and lists them all', (cpus) => {
    const { memory, range, bytes, ofType, end } = build({ cpus })
    expect(text(memory.read(range.start, 4))).toBe('_MP_')
    expect(text(bytes.subarray(0, 4))).toBe('PCMP')
    expect(sum(memory.read(range.start, MP_FLOATING_POINTER_SIZE))).toBe(0)
    expect(sum(bytes)).toBe(0)
    expect(end).toBe(range.start + range.size)
    const processors = ofType(0)
    expect(processors.map((entry) => entry[1])).toEqual(Array.from({ length: cpus }, (_, i) => i))
    expect(processors.map((entry) => entry[3])).toEqual([
      0b11,
      ...Array.from({ length: cpus - 1 }, () => 0b01),
    ])
    const [ioApic] = ofType(2)
    expect(ioApic?.[1]).toBe(cpus)
  })

  it('says revision 1.4, the APICs and the ISA bus', () => {
    const { memory, range, header, bytes, ofType } = build({ cpus: 1, oemId: 'OEM', productId: 'PRODUCT' })
    expect(MP_FLOATING_POINTER.specification.get(memory.view(range.start, 16))).toBe(4)
    expect(MP_FLOATING_POINTER.length.get(memory.view(range.start, 16))).toBe(1)
    expect(MP_CONFIG_HEADER.specification.get(header)).toBe(4)
    expect(MP_CONFIG_HEADER.lapic.get(header)).toBe(LOCAL_APIC_START)
    expect(text(bytes.subarray(8, 28))).toBe('OEM     PRODUCT     ')
    expect(ofType(1)).toEqual([[1, 0, ...Buffer.from('ISA   ')]])
    const io = new DataView(Uint8Array.from(ofType(2)[0] ?? []).buffer)
    expect([io.getUint8(2), io.getUint8(3), io.getUint32(4, true)]).toEqual([0x11, 1, IO_APIC_START])
    // ExtINT to LINT0 of the boot CPU, NMI to LINT1 of all.
    expect(ofType(4)).toEqual([
      [4, 3, 0, 0, 0, 0, 0, 0],
      [4, 1, 0, 0, 0, 0, 0xff, 1],
    ])
  })

  it('wires the 16 ISA lines to their pins, and what else is asked for', () => {
    const interrupts: InterruptSource[] = [
      { irq: 0, pin: 2 },
      { irq: 17, polarity: 'low', trigger: 'level' },
      { irq: 40, pin: 23, polarity: 'high', trigger: 'edge' },
    ]
    const { ofType } = build({ cpus: 3, interrupts })
    const wires = ofType(3).map(([, type, flags, , bus, irq, apic, pin]) => ({
      type,
      flags,
      bus,
      irq,
      apic,
      pin,
    }))
    expect(wires).toHaveLength(18)
    expect(wires.map(({ irq, pin }) => [irq, pin])).toEqual([
      [0, 2],
      ...Array.from({ length: 15 }, (_, i) => [i + 1, i + 1]),
      [17, 17],
      [40, 23],
    ])
    expect(wires.slice(0, 16).every(({ flags }) => flags === 0)).toBe(true)
    expect(wires.slice(16).map(({ flags }) => flags)).toEqual([0b1111, 0b0101])
    expect(wires.every(({ type, bus, apic }) => type === 0 && bus === 0 && apic === 3)).toBe(true)
  })

  it('lies in the EBDA while it fits there, else in the BIOS area', () => {
    const fits = build({ cpus: 40 })
    expect(fits.range.start).toBe(EBDA_START)
    expect(fits.end).toBeLessThanOrEqual(EBDA_END)
    expect(build({ cpus: 41 }).range.start).toBe(BIOS_START)
    expect(build({ cpus: 2, address: 0x400 }).range.start).toBe(0x400)
  })

  it('must lie in RAM below 4 GiB, at a multiple of 16', () => {
    const memory = new PlainMemory([{ start: 0, size: EBDA_START + 0x100 }])
    expectLoaderError(
      'ERR_TABLE_DOES_NOT_FIT',
      () => writeMpTable(memory, { cpus: 4 }),
      /the MP table of 4 CPUs needs/,
    )
    for (const address of [8, -16, 0.5, 2 ** 32 - 16])
      expectLoaderError('ERR_LOADER_ARGUMENT', () => writeMpTable(memory, { cpus: 4, address }))
  })

  it.each([0, 255, -1, 1.5, Number.NaN])('refuses %d CPUs', (cpus) => {
    expectLoaderError('ERR_CPU_COUNT', () => build({ cpus }), /1 to 254/)
  })

  it('refuses wires that are none, and names that are too long', () => {
    for (const interrupt of [
      { irq: 24 },
      { irq: 256, pin: 1 },
      { irq: -1, pin: 1 },
      { irq: 1, pin: -1 },
      { irq: 1, pin: 24 },
    ])
      expectLoaderError('ERR_LOADER_ARGUMENT', () => build({ cpus: 1, interrupts: [interrupt] }))
    expectLoaderError('ERR_LOADER_ARGUMENT', () => build({ cpus: 1, oemId: 'NINECHARS' }))
    expectLoaderError('ERR_LOADER_ARGUMENT', () => build({ cpus: 1, productId: 'é' }))
  })
})
