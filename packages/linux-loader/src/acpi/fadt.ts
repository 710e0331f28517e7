/**
 * The Fixed ACPI Description Table of a machine whose ACPI hardware is reduced to nothing: no SCI, no PM1 registers, no timer,
 * no FACS. It resets by the keyboard controller, has a CMOS clock, and no VGA and no MSI.
 *
 * ACPI 6.5, sections 4.1 and 5.2.9; Linux: include/acpi/actbl.h.
 */

import { type Layout, u8, u16, u32, u64, viewOf } from '../fields.ts'
import { SDT_HEADER_SIZE, sdt } from './sdt.ts'

/** `struct acpi_table_fadt`: the fields that are not 0. */
export const FADT: Layout<'dsdt' | 'boot_flags' | 'flags' | 'reset_value' | 'minor_revision' | 'Xdsdt'> = {
  dsdt: u32(40),
  boot_flags: u16(109),
  flags: u32(112),
  reset_value: u8(128),
  minor_revision: u8(131),
  Xdsdt: u64(140),
}
/** `struct acpi_generic_address`, of which the reset register is one. */
export const FADT_RESET_REGISTER: Layout<'space_id' | 'bit_width' | 'access_width' | 'address'> = {
  space_id: u8(116),
  bit_width: u8(117),
  access_width: u8(119),
  address: u64(120),
}
/** Bytes of the table. */
export const FADT_SIZE = 276

const REVISION = 6
const MINOR_REVISION = 5

/** `ACPI_FADT_*` of boot_flags. */
const LEGACY_DEVICES = 0b0001
const HAS_8042 = 0b0010
const NO_VGA = 0b0100
const NO_MSI = 0b1000

/** `ACPI_FADT_*` of flags. The buttons and the wake-up by the RTC are no fixed hardware. */
const WBINVD = 1 << 0
const POWER_BUTTON = 1 << 4
const SLEEP_BUTTON = 1 << 5
const FIXED_RTC = 1 << 6
const RESET_REGISTER = 1 << 10
const HW_REDUCED = 1 << 20

const SYSTEM_IO = 1
const BYTE_ACCESS = 1
const KEYBOARD_COMMAND_PORT = 0x64
const PULSE_RESET_LINE = 0xfe

/** @param dsdt its guest-physical address, below 4 GiB */
export const fadt = (dsdt: number): Uint8Array => {
  // Offsets are from the start of the table, checksums of the whole: the header is put on at the end.
  const bytes = new Uint8Array(FADT_SIZE)
  const view = viewOf(bytes)
  FADT.dsdt.set(view, dsdt)
  FADT.boot_flags.set(view, LEGACY_DEVICES | HAS_8042 | NO_VGA | NO_MSI)
  FADT.flags.set(view, WBINVD | POWER_BUTTON | SLEEP_BUTTON | FIXED_RTC | RESET_REGISTER | HW_REDUCED)
  FADT_RESET_REGISTER.space_id.set(view, SYSTEM_IO)
  FADT_RESET_REGISTER.bit_width.set(view, 8)
  FADT_RESET_REGISTER.access_width.set(view, BYTE_ACCESS)
  FADT_RESET_REGISTER.address.set(view, KEYBOARD_COMMAND_PORT)
  FADT.reset_value.set(view, PULSE_RESET_LINE)
  FADT.minor_revision.set(view, MINOR_REVISION)
  FADT.Xdsdt.set(view, dsdt)
  return sdt('FACP', REVISION, bytes.subarray(SDT_HEADER_SIZE))
}
