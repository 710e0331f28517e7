/**
 * What all ACPI tables begin with: the System Description Table header.
 *
 * ACPI 6.5, section 5.2.6; Linux: include/acpi/actbl.h.
 */

import { type Layout, u8, u32, viewOf } from '../fields.ts'
import { checksum } from './checksum.ts'

/** `struct acpi_table_header`: its fields that are numbers. */
export const SDT_HEADER: Layout<
  'length' | 'revision' | 'checksum' | 'oem_revision' | 'asl_compiler_revision'
> = {
  length: u32(4),
  revision: u8(8),
  checksum: u8(9),
  oem_revision: u32(24),
  asl_compiler_revision: u32(32),
}
/** Bytes of the header. */
export const SDT_HEADER_SIZE = 36

/** Six characters: whose tables these are. */
export const OEM_ID = 'VMM   '
const OEM_TABLE_ID = 'MICROVM '
const CREATOR_ID = 'VMM '
const VERSION = 1

/**
 * A whole table.
 * @param signature four characters
 * @param body what follows the header
 */
export const sdt = (signature: string, revision: number, body: Uint8Array): Uint8Array => {
  const table = new Uint8Array(SDT_HEADER_SIZE + body.length)
  const view = viewOf(table)
  const text = new TextEncoder()
  table.set(text.encode(signature))
  SDT_HEADER.length.set(view, table.length)
  SDT_HEADER.revision.set(view, revision)
  table.set(text.encode(OEM_ID), 10)
  table.set(text.encode(OEM_TABLE_ID), 16)
  SDT_HEADER.oem_revision.set(view, VERSION)
  table.set(text.encode(CREATOR_ID), 28)
  SDT_HEADER.asl_compiler_revision.set(view, VERSION)
  table.set(body, SDT_HEADER_SIZE)
  SDT_HEADER.checksum.set(view, checksum(table))
  return table
}
