/**
 * The MP table: how a kernel without ACPI learns of its CPUs, its I/O APIC and which interrupt line is wired to which
 * pin. One ISA bus, one I/O APIC of 24 pins, up to 254 CPUs.
 *
 * Intel MultiProcessor Specification 1.4, chapter 4; Linux: arch/x86/kernel/mpparse.c.
 */

import { checksum } from './acpi/checksum.ts'
import { BIOS_START, EBDA_END, EBDA_START, IO_APIC_START, LOCAL_APIC_START } from './boot-layout.ts'
import { type Layout, u8, u16, u32, viewOf } from './fields.ts'
import { type AddressRange, type GuestMemory, requireRam } from './guest-memory.ts'
import { LoaderError } from './loader-error.ts'

/** Most CPUs of an MP table: APIC ID 255 is the broadcast and one is the I/O APIC's. */
export const MP_MAX_CPUS = 254
/** Pins of the I/O APIC. */
export const IO_APIC_PINS = 24
/** ISA interrupt lines, wired to the pins of their number unless said otherwise. */
export const ISA_IRQS = 16

/** `MPF_INTEL`: fields of the floating pointer structure. */
export const MP_FLOATING_POINTER: Layout<'physptr' | 'length' | 'specification' | 'checksum'> = {
  physptr: u32(4),
  length: u8(8),
  specification: u8(9),
  checksum: u8(10),
}
/** Bytes of the floating pointer structure. */
export const MP_FLOATING_POINTER_SIZE = 16

/** Fields of the configuration table header. */
export const MP_CONFIG_HEADER: Layout<'length' | 'specification' | 'checksum' | 'count' | 'lapic'> = {
  length: u16(4),
  specification: u8(6),
  checksum: u8(7),
  count: u16(34),
  lapic: u32(36),
}
/** Bytes of the configuration table header. */
export const MP_CONFIG_HEADER_SIZE = 44

/** `mp_irq_type`: a vectored interrupt. */
export const MP_INT = 0
/** `mp_irq_type`: the non-maskable interrupt. */
export const MP_NMI = 1
/** `mp_irq_type`: the 8259A. */
export const MP_EXTINT = 3

const MP_PROCESSOR = 0
const MP_BUS = 1
const MP_IOAPIC = 2
const MP_INTSRC = 3
const MP_LINTSRC = 4
const PROCESSOR_ENTRY_SIZE = 20
const OTHER_ENTRY_SIZE = 8

const SPECIFICATION_1_4 = 4
const APIC_VERSION = 0x14
const IO_APIC_VERSION = 0x11
const CPU_ENABLED = 0b01
const CPU_BOOTPROCESSOR = 0b10
const IO_APIC_ENABLED = 0b1
const ISA_BUS_ID = 0
const ALL_LOCAL_APICS = 0xff
const BOOT_APIC_ID = 0
// Family 6; CPUID.1:EDX of an FPU and an APIC on the chip. Kernels look at the APIC ID and the flags alone.
const DEFAULT_SIGNATURE = 0x600
const DEFAULT_FEATURES = 0x201

const POLARITY = { bus: 0b00, high: 0b01, low: 0b11 } as const
const TRIGGER = { bus: 0b0000, edge: 0b0100, level: 0b1100 } as const

/** An interrupt line and the I/O APIC pin that it is wired to. */
export interface InterruptSource {
  /** Line, 0 to 255: below 16 it replaces the identity wiring of that ISA line. */
  readonly irq: number
  /** Pin, 0 to 23; default the line's number. */
  readonly pin?: number
  /** Default `bus`: active high for ISA. */
  readonly polarity?: keyof typeof POLARITY
  /** Default `bus`: edge for ISA. */
  readonly trigger?: keyof typeof TRIGGER
}

/** What an MP table says. */
export interface MpTableOptions {
  /** CPUs, 1 to {@link MP_MAX_CPUS}; their APIC IDs count up from 0, which is the boot CPU's. */
  readonly cpus: number
  /** Further lines, or other wiring for some of the 16 ISA lines; default none. */
  readonly interrupts?: readonly InterruptSource[] | undefined
  /** Registers of the local APICs, guest-physical; default 0xfee00000. */
  readonly localApic?: number | undefined
  /** Registers of the I/O APIC, guest-physical; default 0xfec00000. */
  readonly ioApic?: number | undefined
  /** CPUID.1:EAX of the CPUs; default a nondescript family 6. */
  readonly signature?: number | undefined
  /** CPUID.1:EDX of the CPUs; default FPU and APIC. */
  readonly features?: number | undefined
  /** Up to 8 ASCII characters; default `VMM`. */
  readonly oemId?: string | undefined
  /** Up to 12 ASCII characters; default `MICROVM`. */
  readonly productId?: string | undefined
  /**
   * Where to put it, a multiple of 16. Kernels look for the first 16 bytes in the first KiB of memory, in the last KiB
   * of conventional memory (0x9fc00) and from 0xf0000 to 1 MiB. Default: 0x9fc00 where the table fits below 0xa0000,
   * else 0xf0000.
   */
  readonly address?: number | undefined
}

/**
 * Where an MP table would go, and how large it would be.
 * @throws {LoaderError} `ERR_CPU_COUNT`, `ERR_LOADER_ARGUMENT`
 */
export const mpTableRange = (options: MpTableOptions): AddressRange => {
  const size = MP_FLOATING_POINTER_SIZE + configTableSize(options.cpus, interruptSources(options).length)
  const start = options.address ?? (EBDA_START + size <= EBDA_END ? EBDA_START : BIOS_START)
  if (!Number.isSafeInteger(start) || start < 0 || start % 16 !== 0 || start + size > 2 ** 32)
    throw new LoaderError('ERR_LOADER_ARGUMENT', `an MP table cannot be at ${start}`, { address: start })
  return { start, size }
}

/**
 * Writes an MP table: floating pointer first, configuration table after it.
 *
 * @returns the range that it takes
 * @throws {LoaderError} `ERR_CPU_COUNT`, `ERR_LOADER_ARGUMENT`, `ERR_TABLE_DOES_NOT_FIT`
 */
export const writeMpTable = (memory: GuestMemory, options: MpTableOptions): AddressRange => {
  const range = mpTableRange(options)
  requireRam(
    memory,
    `the MP table of ${options.cpus} CPUs`,
    range.start,
    range.size,
    'ERR_TABLE_DOES_NOT_FIT',
  )
  const bytes = new Uint8Array(range.size)
  bytes.set(floatingPointer(range.start + MP_FLOATING_POINTER_SIZE))
  bytes.set(configTable(options, interruptSources(options)), MP_FLOATING_POINTER_SIZE)
  memory.writeSlice(range.start, bytes)
  return range
}

const interruptSources = ({ cpus, interrupts = [] }: MpTableOptions): Required<InterruptSource>[] => {
  if (!Number.isInteger(cpus) || cpus < 1 || cpus > MP_MAX_CPUS)
    throw new LoaderError('ERR_CPU_COUNT', `${cpus} CPUs: an MP table holds 1 to ${MP_MAX_CPUS}`, { cpus })
  const sources = new Map<number, Required<InterruptSource>>()
  for (let irq = 0; irq < ISA_IRQS; irq++)
    sources.set(irq, { irq, pin: irq, polarity: 'bus', trigger: 'bus' })
  for (const { irq, pin = irq, polarity = 'bus', trigger = 'bus' } of interrupts) {
    const valid = Number.isInteger(irq) && irq >= 0 && irq <= 255 && Number.isInteger(pin) && pin >= 0
    if (!valid || pin >= IO_APIC_PINS)
      throw new LoaderError(
        'ERR_LOADER_ARGUMENT',
        `interrupt line ${irq} at pin ${pin}: the I/O APIC has pins 0 to ${IO_APIC_PINS - 1}`,
        { irq, pin },
      )
    sources.set(irq, { irq, pin, polarity, trigger })
  }
  return [...sources.values()]
}

const configTableSize = (cpus: number, sources: number): number =>
  // One bus, one I/O APIC and two local interrupts besides.
  MP_CONFIG_HEADER_SIZE + cpus * PROCESSOR_ENTRY_SIZE + (sources + 4) * OTHER_ENTRY_SIZE

const floatingPointer = (configTableAddress: number): Uint8Array => {
  const bytes = new Uint8Array(MP_FLOATING_POINTER_SIZE)
  const view = viewOf(bytes)
  bytes.set(ascii('_MP_', 4))
  MP_FLOATING_POINTER.physptr.set(view, configTableAddress)
  MP_FLOATING_POINTER.length.set(view, MP_FLOATING_POINTER_SIZE / 16)
  MP_FLOATING_POINTER.specification.set(view, SPECIFICATION_1_4)
  MP_FLOATING_POINTER.checksum.set(view, checksum(bytes))
  return bytes
}

const configTable = (options: MpTableOptions, sources: readonly Required<InterruptSource>[]): Uint8Array => {
  const { cpus } = options
  const bytes = new Uint8Array(configTableSize(cpus, sources.length))
  const view = viewOf(bytes)
  // The one APIC ID that no CPU has.
  const ioApicId = cpus
  let offset = MP_CONFIG_HEADER_SIZE
  const add = (entry: readonly number[], size: number): void => {
    bytes.set(entry, offset)
    offset += size
  }

  for (let id = 0; id < cpus; id++) {
    view.setUint32(offset + 4, options.signature ?? DEFAULT_SIGNATURE, true)
    view.setUint32(offset + 8, options.features ?? DEFAULT_FEATURES, true)
    const flags = id === BOOT_APIC_ID ? CPU_ENABLED | CPU_BOOTPROCESSOR : CPU_ENABLED
    add([MP_PROCESSOR, id, APIC_VERSION, flags], PROCESSOR_ENTRY_SIZE)
  }
  add([MP_BUS, ISA_BUS_ID, ...ascii('ISA', 6)], OTHER_ENTRY_SIZE)
  view.setUint32(offset + 4, options.ioApic ?? IO_APIC_START, true)
  add([MP_IOAPIC, ioApicId, IO_APIC_VERSION, IO_APIC_ENABLED], OTHER_ENTRY_SIZE)
  for (const { irq, pin, polarity, trigger } of sources) {
    const flags = POLARITY[polarity] | TRIGGER[trigger]
    add([MP_INTSRC, MP_INT, flags, 0, ISA_BUS_ID, irq, ioApicId, pin], OTHER_ENTRY_SIZE)
  }
  add([MP_LINTSRC, MP_EXTINT, 0, 0, ISA_BUS_ID, 0, BOOT_APIC_ID, 0], OTHER_ENTRY_SIZE)
  add([MP_LINTSRC, MP_NMI, 0, 0, ISA_BUS_ID, 0, ALL_LOCAL_APICS, 1], OTHER_ENTRY_SIZE)

  bytes.set(ascii('PCMP', 4))
  bytes.set(ascii(options.oemId ?? 'VMM', 8), 8)
  bytes.set(ascii(options.productId ?? 'MICROVM', 12), 16)
  MP_CONFIG_HEADER.length.set(view, bytes.length)
  MP_CONFIG_HEADER.specification.set(view, SPECIFICATION_1_4)
  MP_CONFIG_HEADER.count.set(view, cpus + sources.length + 4)
  MP_CONFIG_HEADER.lapic.set(view, options.localApic ?? LOCAL_APIC_START)
  MP_CONFIG_HEADER.checksum.set(view, checksum(bytes))
  return bytes
}

/** ASCII padded with spaces, as MP tables have it. */
const ascii = (text: string, length: number): Uint8Array => {
  if (text.length > length || /[^\x20-\x7e]/.test(text))
    throw new LoaderError('ERR_LOADER_ARGUMENT', `"${text}" is no ASCII text of at most ${length} characters`)
  return new TextEncoder().encode(text.padEnd(length))
}
