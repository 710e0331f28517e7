/**
 * The ACPI tables of a microVM, at their places in guest memory: RSDP, XSDT, FADT, MADT and DSDT. Hardware-reduced ACPI: the
 * tables describe, and no register of ACPI exists. They live below the BIOS area, where kernels look for them by themselves.
 *
 * ACPI 6.5, section 5.2.
 */

import { ACPI_END, ACPI_START } from '../boot-layout.ts'
import { type AddressRange, type GuestMemory, requireRam } from '../guest-memory.ts'
import { formatSize, LoaderError } from '../loader-error.ts'
import { type DsdtOptions, dsdt } from './dsdt.ts'
import { fadt } from './fadt.ts'
import { type MadtOptions, madt } from './madt.ts'
import { RSDP_SIZE, rsdp } from './rsdp.ts'
import { xsdt } from './xsdt.ts'

/** What the tables say of the machine. */
export interface AcpiTablesOptions extends MadtOptions, DsdtOptions {}

const ALIGNMENT = 16

/**
 * Writes the tables from {@link ACPI_START} on.
 *
 * The VMM has what the FADT promises: an i8042 that resets by 0xfe at port 0x64, and a CMOS clock. Whoever has no use for ACPI
 * finds the CPUs in the MP table and the virtio devices on the command line; `acpi=off` says so to Linux.
 *
 * @returns the range that they take, at whose start is the RSDP
 * @throws {LoaderError} `ERR_CPU_COUNT`, `ERR_LOADER_ARGUMENT`, `ERR_TABLE_DOES_NOT_FIT`
 */
export const writeAcpiTables = (memory: GuestMemory, options: AcpiTablesOptions): AddressRange => {
  const tables: { readonly start: number; readonly bytes: Uint8Array }[] = []
  let end = ACPI_START + RSDP_SIZE
  const place = (bytes: Uint8Array): number => {
    const start = Math.ceil(end / ALIGNMENT) * ALIGNMENT
    tables.push({ start, bytes })
    end = start + bytes.length
    return start
  }
  const fadtAddress = place(fadt(place(dsdt(options))))
  const xsdtAddress = place(xsdt([fadtAddress, place(madt(options))]))
  tables.push({ start: ACPI_START, bytes: rsdp(xsdtAddress) })
  const size = end - ACPI_START
  const room = ACPI_END - ACPI_START
  if (size > room)
    throw new LoaderError(
      'ERR_TABLE_DOES_NOT_FIT',
      `the ACPI tables take ${size} bytes, but there is room for ${formatSize(room)}`,
      { size, room },
    )
  requireRam(memory, 'the ACPI tables', ACPI_START, size, 'ERR_TABLE_DOES_NOT_FIT')
  for (const { start, bytes } of tables) memory.writeSlice(start, bytes)
  return { start: ACPI_START, size }
}
