/**
 * The devices that tell a guest its VM generation ID: where the 16 bytes are, and the event for new ones.
 *
 * Microsoft, "Virtual Machine Generation ID"; ACPI 6.5, section 5.6.9 (Generic Event Device); Linux:
 * drivers/virt/vmgenid.c, drivers/acpi/evged.c.
 */

import {
  type Aml,
  ARG0,
  concat,
  device,
  ifEqual,
  integer,
  method,
  named,
  notify,
  packageOf,
  string,
} from './aml.ts'
import { resourceTemplate } from './resources.ts'

/** The generation counter's event: it has changed. */
const GENERATION_CHANGED = 0x80

/** Where the guest finds the ID, and what says that it is another one. */
export interface GenerationIdLocation {
  /** Guest-physical address of the 16 bytes, a multiple of 8: in memory that is no RAM for the guest. */
  readonly address: number
  /** The interrupt that says so, 0 to 23: an edge. */
  readonly gsi: number
}

/** The two devices, for the scope `\_SB`. */
export const generationIdDevices = ({ address, gsi }: GenerationIdLocation): Aml =>
  concat(
    device(
      'VGEN',
      named('_HID', string('VMMG0001')),
      named('_CID', string('VM_Gen_Counter')),
      named('_DDN', string('VM_Gen_Counter')),
      // Low half, high half.
      named('ADDR', packageOf(integer(address % 2 ** 32), integer(Math.floor(address / 2 ** 32)))),
    ),
    device(
      'GED',
      named('_HID', string('ACPI0013')),
      named('_UID', integer(0)),
      named('_CRS', resourceTemplate({ gsi })),
      method('_EVT', 1, ifEqual(ARG0, integer(gsi), notify('\\_SB.VGEN', GENERATION_CHANGED))),
    ),
  )
