/**
 * The Multiple APIC Description Table: the CPUs, the I/O APIC, and ISA interrupt lines that are wired otherwise than to the pin
 * of their number. The same machine as the MP table's.
 *
 * ACPI 6.5, section 5.2.12; Linux: arch/x86/kernel/acpi/boot.c.
 */

import { IO_APIC_START, LOCAL_APIC_START } from '../boot-layout.ts'
import { viewOf } from '../fields.ts'
import { LoaderError } from '../loader-error.ts'
import { type InterruptSource, ISA_IRQS, MP_MAX_CPUS } from '../mp-table.ts'
import { concat } from './aml.ts'
import { sdt } from './sdt.ts'

const REVISION = 5
/** There are two 8259As as well. */
const PCAT_COMPAT = 0b1

const LOCAL_APIC = 0
const IO_APIC = 1
const INTERRUPT_OVERRIDE = 2
const LOCAL_APIC_NMI = 4
const LOCAL_APIC_ENABLED = 0b1
const ALL_PROCESSORS = 0xff
const LINT1 = 1

const POLARITY = { bus: 0b00, high: 0b01, low: 0b11 } as const
const TRIGGER = { bus: 0b0000, edge: 0b0100, level: 0b1100 } as const

/** What a MADT says. */
export interface MadtOptions {
  /** 1 to 254; their APIC IDs and processor UIDs count up from 0. */
  readonly cpus: number
  /** As for the MP table. Those that are no ISA lines are left to the devices in the DSDT. */
  readonly interrupts?: readonly InterruptSource[] | undefined
}

/** @throws {LoaderError} `ERR_CPU_COUNT` */
export const madt = ({ cpus, interrupts = [] }: MadtOptions): Uint8Array => {
  if (!Number.isInteger(cpus) || cpus < 1 || cpus > MP_MAX_CPUS)
    throw new LoaderError('ERR_CPU_COUNT', `${cpus} CPUs: a MADT of this package lists 1 to ${MP_MAX_CPUS}`, {
      cpus,
    })
  const entries = Array.from({ length: cpus }, (_, id) =>
    Uint8Array.of(LOCAL_APIC, 8, id, id, ...dword(LOCAL_APIC_ENABLED)),
  )
  // The one APIC ID that no CPU has; the first pin is GSI 0.
  entries.push(Uint8Array.of(IO_APIC, 12, cpus, 0, ...dword(IO_APIC_START), ...dword(0)))
  for (const { irq, pin = irq, polarity = 'bus', trigger = 'bus' } of interrupts) {
    if (irq >= ISA_IRQS || (pin === irq && polarity === 'bus' && trigger === 'bus')) continue
    const flags = POLARITY[polarity] | TRIGGER[trigger]
    entries.push(Uint8Array.of(INTERRUPT_OVERRIDE, 10, 0, irq, ...dword(pin), flags, 0))
  }
  entries.push(Uint8Array.of(LOCAL_APIC_NMI, 6, ALL_PROCESSORS, 0, 0, LINT1))
  const head = Uint8Array.of(...dword(LOCAL_APIC_START), ...dword(PCAT_COMPAT))
  return sdt('APIC', REVISION, concat(head, ...entries))
}

const dword = (value: number): Uint8Array => {
  const bytes = new Uint8Array(4)
  viewOf(bytes).setUint32(0, value, true)
  return bytes
}
