/** The Extended System Description Table: a list of the other tables. ACPI 6.5, section 5.2.8. */

import { setUint64, viewOf } from '../fields.ts'
import { sdt } from './sdt.ts'

const XSDT_REVISION = 1

/** @param tables their guest-physical addresses */
export const xsdt = (tables: readonly number[]): Uint8Array => {
  const body = new Uint8Array(tables.length * 8)
  for (const [i, address] of tables.entries()) setUint64(viewOf(body), i * 8, address)
  return sdt('XSDT', XSDT_REVISION, body)
}
