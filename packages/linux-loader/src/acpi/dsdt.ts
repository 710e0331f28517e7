/**
 * The Differentiated System Description Table: the devices that no bus can enumerate.
 *
 * ACPI 6.5, section 5.2.11.
 */

import { LoaderError } from '../loader-error.ts'
import { type Aml, device, integer, named, scope, string } from './aml.ts'
import { type GenerationIdLocation, generationIdDevices } from './generation-id.ts'
import { type AcpiResources, resourceTemplate } from './resources.ts'
import { sdt } from './sdt.ts'

const REVISION = 2
const DEVICES_MAX = 256
/** Three letters or four, and four hexadecimal digits (6.1.5). */
const HARDWARE_ID = /^[A-Z0-9]{3,4}[0-9A-F]{4}$/

/** A device of a PC that a driver finds by its ID alone. */
export interface AcpiDevice extends AcpiResources {
  /** `_HID`: `LNRO0005` of a virtio-mmio device, `PNP0501` of a 16550A. */
  readonly hid: string
  /** `_CID`: what it can be driven as, besides. */
  readonly cid?: string | undefined
}

/** What a DSDT describes. */
export interface DsdtOptions {
  /** Up to 256; the n-th one with the same ID has the unique ID n - 1. Default none. */
  readonly devices?: readonly AcpiDevice[] | undefined
  /** Default none. */
  readonly generationId?: GenerationIdLocation | undefined
}

/** @throws {LoaderError} `ERR_LOADER_ARGUMENT` */
export const dsdt = ({ devices = [], generationId }: DsdtOptions): Uint8Array => {
  if (devices.length > DEVICES_MAX)
    throw new LoaderError(
      'ERR_LOADER_ARGUMENT',
      `${devices.length} devices: a DSDT of this package has at most ${DEVICES_MAX}`,
    )
  const seen = new Map<string, number>()
  const terms = devices.map((it, i) => {
    const uid = seen.get(it.hid) ?? 0
    seen.set(it.hid, uid + 1)
    return describeDevice(`D${i.toString(16).toUpperCase().padStart(3, '0')}`, it, uid)
  })
  if (generationId !== undefined) terms.push(generationIdDevices(generationId))
  return sdt('DSDT', REVISION, scope('\\_SB', ...terms))
}

const describeDevice = (path: string, it: AcpiDevice, uid: number): Aml => {
  if (!HARDWARE_ID.test(it.hid))
    throw new LoaderError('ERR_LOADER_ARGUMENT', `"${it.hid}" is no hardware ID of ACPI`)
  return device(
    path,
    named('_HID', string(it.hid)),
    ...(it.cid === undefined ? [] : [named('_CID', string(it.cid))]),
    named('_UID', integer(uid)),
    named('_CRS', resourceTemplate(it)),
  )
}
