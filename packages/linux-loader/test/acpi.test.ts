import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { integer, named, packageOf, scope } from '../src/acpi/aml.ts'
import { FADT, FADT_RESET_REGISTER } from '../src/acpi/fadt.ts'
import { RSDP, RSDP_SIZE } from '../src/acpi/rsdp.ts'
import { SDT_HEADER, SDT_HEADER_SIZE, sdt } from '../src/acpi/sdt.ts'
import { type AcpiTablesOptions, writeAcpiTables } from '../src/acpi/tables.ts'
import { ACPI_END, ACPI_START, VM_GENERATION_ID_START } from '../src/boot-layout.ts'
import { getUint64 } from '../src/fields.ts'
import { MP_MAX_CPUS } from '../src/mp-table.ts'
import { expectLoaderError } from './expect-error.ts'
import { PlainMemory } from './plain-memory.ts'

const MIB = 2 ** 20
const IASL = '/usr/bin/iasl'
const GENERATION_GSI = 13

const PC: AcpiTablesOptions = {
  cpus: 2,
  devices: [
    { hid: 'PNP0501', ports: [{ start: 0x3f8, size: 8 }], gsi: 4 },
    {
      hid: 'PNP0303',
      ports: [
        { start: 0x60, size: 1 },
        { start: 0x64, size: 1 },
      ],
      gsi: 1,
    },
    { hid: 'LNRO0005', memory: { start: 0xd000_0000, size: 4096 }, gsi: 5 },
    { hid: 'LNRO0005', cid: 'PRP0001', memory: { start: 0xd000_1000, size: 4096 }, gsi: 23 },
  ],
  generationId: { address: VM_GENERATION_ID_START, gsi: GENERATION_GSI },
}

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1')
const sum = (bytes: Uint8Array): number => bytes.reduce((total, byte) => (total + byte) & 0xff, 0)

/** Reads the tables as a kernel does: from the RSDP on, believing nothing that does not add up. */
const parse = (memory: PlainMemory, address: number): Map<string, Uint8Array> => {
  const pointer = memory.read(address, RSDP_SIZE)
  expect(text(pointer.subarray(0, 8))).toBe('RSD PTR ')
  expect([sum(pointer.subarray(0, 20)), sum(pointer)]).toEqual([0, 0])
  const tables = new Map<string, Uint8Array>()
  const read = (at: number): Uint8Array => {
    const table = memory.read(at, SDT_HEADER.length.get(memory.view(at, SDT_HEADER_SIZE)))
    expect(sum(table)).toBe(0)
    expect(at % 16).toBe(0)
    tables.set(text(table.subarray(0, 4)), table)
    return table
  }
  const xsdt = read(RSDP.xsdt_physical_address.get(memory.view(address, RSDP_SIZE)))
  const view = new DataView(xsdt.buffer)
  for (let at = SDT_HEADER_SIZE; at < xsdt.length; at += 8) read(getUint64(view, at))
  read(FADT.Xdsdt.get(new DataView(tables.get('FACP')?.buffer as ArrayBuffer)))
  return tables
}

const build = (options: AcpiTablesOptions): Map<string, Uint8Array> => {
  const memory = PlainMemory.ofSize(MIB)
  const { start, size } = writeAcpiTables(memory, options)
  expect(start).toBe(ACPI_START)
  expect(start + size).toBeLessThanOrEqual(ACPI_END)
  return parse(memory, start)
}

/** The entries of a MADT. */
const madtEntries = (options: AcpiTablesOptions): number[][] => {
  const bytes = build(options).get('APIC') ?? new Uint8Array()
  const entries: number[][] = []
  for (let at = SDT_HEADER_SIZE + 8; at < bytes.length; at += bytes[at + 1] ?? 1)
    entries.push([...bytes.subarray(at, at + (bytes[at + 1] ?? 1))])
  return entries
}

describe('ACPI tables', () => {
  it('are found from the RSDP on, which is where a kernel looks without being told', () => {
    expect([...build(PC).keys()].sort()).toEqual(['APIC', 'DSDT', 'FACP', 'XSDT'])
    expect(ACPI_START).toBe(0xe0000)
  })

  it('reset by the port and the value that an i8042 resets by', () => {
    const view = new DataView(build(PC).get('FACP')?.buffer as ArrayBuffer)
    expect(FADT_RESET_REGISTER.address.get(view)).toBe(0x64)
    expect(FADT.reset_value.get(view)).toBe(0xfe)
  })

  it.each([1, 37, MP_MAX_CPUS])('list %d CPUs, and an I/O APIC whose ID no CPU has', (cpus) => {
    const entries = madtEntries({ cpus })
    const processors = entries.filter(([type]) => type === 0)
    expect(processors).toEqual(Array.from({ length: cpus }, (_, id) => [0, 8, id, id, 1, 0, 0, 0]))
    expect(entries.filter(([type]) => type === 1)).toEqual([[1, 12, cpus, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]])
  })

  it('say which ISA lines are wired otherwise, and nothing of the rest', () => {
    const interrupts = [
      { irq: 0, pin: 2 },
      { irq: 9, trigger: 'level', polarity: 'low' },
      { irq: 7 },
      { irq: 20 },
    ] as const
    expect(madtEntries({ cpus: 1, interrupts }).filter(([type]) => type === 2)).toEqual([
      [2, 10, 0, 0, 2, 0, 0, 0, 0b0000, 0],
      [2, 10, 0, 9, 9, 0, 0, 0, 0b1111, 0],
    ])
  })

  it('refuse what no machine has', () => {
    const memory = PlainMemory.ofSize(MIB)
    const refused = (options: Partial<AcpiTablesOptions>, code: 'ERR_LOADER_ARGUMENT' | 'ERR_CPU_COUNT') =>
      expectLoaderError(code, () => writeAcpiTables(memory, { cpus: 1, ...options }))
    refused({ cpus: 0 }, 'ERR_CPU_COUNT')
    refused({ cpus: MP_MAX_CPUS + 1 }, 'ERR_CPU_COUNT')
    refused({ devices: [{ hid: 'virtio' }] }, 'ERR_LOADER_ARGUMENT')
    refused({ devices: [{ hid: 'LNRO0005', gsi: 24 }] }, 'ERR_LOADER_ARGUMENT')
    refused({ devices: [{ hid: 'LNRO0005', memory: { start: 2 ** 32, size: 1 } }] }, 'ERR_LOADER_ARGUMENT')
    refused({ devices: [{ hid: 'PNP0501', ports: [{ start: 0xffff, size: 2 }] }] }, 'ERR_LOADER_ARGUMENT')
    refused({ devices: Array.from({ length: 257 }, () => ({ hid: 'LNRO0005' })) }, 'ERR_LOADER_ARGUMENT')
    refused({ generationId: { address: VM_GENERATION_ID_START, gsi: -1 } }, 'ERR_LOADER_ARGUMENT')
    expect(memory.writes).toBe(0)
    expectLoaderError('ERR_TABLE_DOES_NOT_FIT', () =>
      writeAcpiTables(PlainMemory.ofSize(512 * 1024), { cpus: 1 }),
    )
  })

  it('have room for all that may be asked for', () => {
    build({
      ...PC,
      cpus: MP_MAX_CPUS,
      devices: Array.from({ length: 256 }, () => ({ hid: 'LNRO0005', gsi: 5 })),
    })
  })
})

const hasIasl = existsSync(IASL)

describe.skipIf(!hasIasl)(`ACPI tables${hasIasl ? '' : ' (skipped: there is no iasl here)'}`, () => {
  let folder: string
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'vmm-acpi-'))
  })
  afterAll(() => rmSync(folder, { recursive: true }))

  const iasl = (...args: readonly string[]): string =>
    execFileSync(IASL, args, { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })

  /** What Intel's compiler reads in a table, after it has made the same bytes of that again. */
  const disassemble = (name: string, table: Uint8Array): string => {
    writeFileSync(join(folder, `${name}.dat`), table)
    iasl('-p', name, '-d', `${name}.dat`)
    const source = readFileSync(join(folder, `${name}.dsl`), 'utf8')
    expect(source).not.toMatch(/error|warning|invalid/i)
    const said = iasl('-oa', '-we', '-p', `${name}-again`, `${name}.dsl`)
    expect(said).toMatch(/ 0 Errors, 0 Warnings/)
    const again = readFileSync(join(folder, `${name}-again.aml`))
    // Whose compiler it was stands in the header, and in the checksum.
    const normal = (bytes: Uint8Array): string =>
      Buffer.concat([bytes.subarray(0, 9), bytes.subarray(10, 28), bytes.subarray(36)]).toString('hex')
    expect(normal(again)).toBe(normal(table))
    return source
  }

  it('are what the ACPI compiler makes of their source', () => {
    const tables = build(PC)
    const source = (name: string): string => disassemble(name.toLowerCase(), tables.get(name) as Uint8Array)
    const fadt = source('FACP')
    expect(fadt).toMatch(/Hardware Reduced \(V5\) : 1/)
    expect(fadt).toMatch(/Reset Register Supported \(V2\) : 1/)
    source('APIC')
    const dsdt = source('DSDT')
    expect(dsdt).toContain('"VM_Gen_Counter"')
    expect(dsdt).toMatch(/Notify \((\\_SB\.)?VGEN, 0x80\)/)
    expect(dsdt).toMatch(/Interrupt \(ResourceConsumer, Edge, ActiveHigh, Exclusive/)
    expect(dsdt).toMatch(/0xD0001000,\s+\/\/ Address Base/)
  })

  it('hold numbers and lengths of any size', () => {
    const values = fc.array(fc.maxSafeNat(), { minLength: 0, maxLength: 255 })
    fc.assert(
      fc.property(values, (numbers) => {
        const body = scope('\\_SB', named('NUMS', packageOf(...numbers.map(integer))))
        const source = disassemble('numbers', sdt('DSDT', 2, body))
        const list = source.slice(source.indexOf('NUMS'))
        const found = [...list.matchAll(/^\s+(0x[0-9A-F]+|Zero|One),?\s*(?:\/\/.*)?$/gm)].map(([, it]) =>
          it === 'Zero' ? 0 : it === 'One' ? 1 : Number(it),
        )
        expect(found).toEqual(numbers)
      }),
      { numRuns: 10 },
    )
  })
})
