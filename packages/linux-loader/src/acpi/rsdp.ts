/**
 * The Root System Description Pointer: where a kernel starts to look for ACPI tables. The boot protocols have its address;
 * kernels that get none look for its signature on 16-byte boundaries from 0xe0000 to 1 MiB.
 *
 * ACPI 6.5, section 5.2.5; Linux: include/acpi/actbl.h.
 */

import { type Layout, u8, u32, u64, viewOf } from '../fields.ts'
import { checksum } from './checksum.ts'
import { OEM_ID } from './sdt.ts'

/** `struct acpi_table_rsdp`: its fields that are numbers. */
export const RSDP: Layout<
  'checksum' | 'revision' | 'length' | 'xsdt_physical_address' | 'extended_checksum'
> = {
  checksum: u8(8),
  revision: u8(15),
  length: u32(20),
  xsdt_physical_address: u64(24),
  extended_checksum: u8(32),
}
/** Bytes of it. */
export const RSDP_SIZE = 36

/** The first checksum is of what ACPI 1.0 had. */
const ACPI_1_SIZE = 20
const ACPI_2 = 2

/** @param xsdt guest-physical address of the XSDT */
export const rsdp = (xsdt: number): Uint8Array => {
  const bytes = new Uint8Array(RSDP_SIZE)
  const view = viewOf(bytes)
  const text = new TextEncoder()
  bytes.set(text.encode('RSD PTR '))
  bytes.set(text.encode(OEM_ID), 9)
  RSDP.revision.set(view, ACPI_2)
  RSDP.length.set(view, RSDP_SIZE)
  RSDP.xsdt_physical_address.set(view, xsdt)
  RSDP.checksum.set(view, checksum(bytes.subarray(0, ACPI_1_SIZE)))
  RSDP.extended_checksum.set(view, checksum(bytes))
  return bytes
}
