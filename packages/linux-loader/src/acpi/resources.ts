/**
 * What a device takes of the machine, as the value of its `_CRS`: memory, ports, an interrupt.
 *
 * ACPI 6.5, section 6.4.
 */

import { viewOf } from '../fields.ts'
import type { AddressRange } from '../guest-memory.ts'
import { LoaderError } from '../loader-error.ts'
import { IO_APIC_PINS } from '../mp-table.ts'
import { type Aml, buffer, concat } from './aml.ts'

const IO_PORTS = 0x47
const END_TAG = 0x79
const MEMORY_32_FIXED = 0x86
const EXTENDED_INTERRUPT = 0x89

const DECODES_16_BITS = 0b1
const READ_WRITE = 0b1
/** Of a consumer: an edge, active high, not shared. */
const EDGE_HIGH = 0b0011

/** I/O ports, `[start, start + size)`. */
export interface PortRange {
  /** 0 to 65535. */
  readonly start: number
  /** 1 to 255. */
  readonly size: number
}

/** What a device takes. */
export interface AcpiResources {
  /** Its registers in guest-physical memory, below 4 GiB; default none. */
  readonly memory?: AddressRange | undefined
  /** Default none. */
  readonly ports?: readonly PortRange[] | undefined
  /** Its interrupt, 0 to 23: the pin of the I/O APIC. Edge-triggered, active high, its own. Default none. */
  readonly gsi?: number | undefined
}

/**
 * The resource template.
 * @throws {LoaderError} `ERR_LOADER_ARGUMENT`
 */
export const resourceTemplate = ({ memory, ports = [], gsi }: AcpiResources): Aml => {
  const descriptors = ports.map(portDescriptor)
  if (memory !== undefined) descriptors.push(memoryDescriptor(memory))
  if (gsi !== undefined) descriptors.push(interruptDescriptor(gsi))
  // A checksum of 0 is none.
  descriptors.push(Uint8Array.of(END_TAG, 0))
  return buffer(concat(...descriptors))
}

const portDescriptor = ({ start, size }: PortRange): Uint8Array => {
  require(isRange(start, size, 2 ** 16) && size <= 0xff, `${size} ports from ${start} on`)
  const bytes = Uint8Array.of(IO_PORTS, DECODES_16_BITS, 0, 0, 0, 0, 1, size)
  // The lowest and the highest place for the first port.
  viewOf(bytes).setUint16(2, start, true)
  viewOf(bytes).setUint16(4, start, true)
  return bytes
}

const memoryDescriptor = ({ start, size }: AddressRange): Uint8Array => {
  require(isRange(start, size, 2 ** 32), `${size} bytes of registers at ${start}`)
  const bytes = Uint8Array.of(MEMORY_32_FIXED, 9, 0, READ_WRITE, ...new Uint8Array(8))
  viewOf(bytes).setUint32(4, start, true)
  viewOf(bytes).setUint32(8, size, true)
  return bytes
}

const interruptDescriptor = (gsi: number): Uint8Array => {
  require(Number.isInteger(gsi) && gsi >= 0 && gsi < IO_APIC_PINS, `interrupt ${gsi}`)
  return Uint8Array.of(EXTENDED_INTERRUPT, 6, 0, EDGE_HIGH, 1, gsi, 0, 0, 0)
}

const isRange = (start: number, size: number, end: number): boolean =>
  Number.isInteger(start) && Number.isInteger(size) && start >= 0 && size > 0 && start + size <= end

const require = (isPossible: boolean, what: string): void => {
  if (!isPossible) throw new LoaderError('ERR_LOADER_ARGUMENT', `a device of ACPI cannot have ${what}`)
}
