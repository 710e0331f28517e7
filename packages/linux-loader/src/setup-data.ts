/**
 * The `setup_data` list: blobs for the kernel that the zero page has no field for, such as a seed for its random number
 * generator.
 *
 * Linux: Documentation/arch/x86/boot.rst, "64-bit physical pointer to linked list of struct setup_data";
 * arch/x86/kernel/setup.c, `parse_setup_data`.
 */

import { type Layout, u32, u64, viewOf } from './fields.ts'
import { type GuestMemory, requireRam } from './guest-memory.ts'

/** A flattened device tree. */
export const SETUP_DTB = 2
/** A seed for the kernel's random number generator (Linux 6.0 and later; it is wiped once read). */
export const SETUP_RNG_SEED = 9

/** Fields of `struct setup_data`; the data follow. */
export const SETUP_DATA: Layout<'next' | 'type' | 'len'> = { next: u64(0), type: u32(8), len: u32(12) }
/** Bytes of `struct setup_data` before its data. */
export const SETUP_DATA_HEADER_SIZE = 16

/** One blob of the list. */
export interface SetupDataEntry {
  /** A `SETUP_` number of the kernel's asm/setup_data.h (asm/bootparam.h in older ones). */
  readonly type: number
  /** The blob, below 4 GiB. */
  readonly data: Uint8Array
}

/** Bytes that {@link writeSetupData} takes. */
export const setupDataSize = (entries: readonly SetupDataEntry[]): number =>
  entries.reduce((sum, entry) => sum + nodeSize(entry), 0)

/**
 * Writes a list from `address` on, each node at a multiple of 8.
 *
 * @param address guest-physical, a multiple of 8
 * @returns what goes into the zero page: `address`, or 0 for an empty list
 * @throws {LoaderError} `ERR_TABLE_DOES_NOT_FIT`
 */
export const writeSetupData = (
  memory: GuestMemory,
  address: number,
  entries: readonly SetupDataEntry[],
): number => {
  const total = setupDataSize(entries)
  if (total === 0) return 0
  requireRam(memory, 'the setup_data list', address, total, 'ERR_TABLE_DOES_NOT_FIT')
  const bytes = new Uint8Array(total)
  const view = viewOf(bytes)
  let offset = 0
  for (const [i, entry] of entries.entries()) {
    const next = offset + nodeSize(entry)
    SETUP_DATA.next.set(view, i + 1 < entries.length ? address + next : 0, offset)
    SETUP_DATA.type.set(view, entry.type, offset)
    SETUP_DATA.len.set(view, entry.data.length, offset)
    bytes.set(entry.data, offset + SETUP_DATA_HEADER_SIZE)
    offset = next
  }
  memory.writeSlice(address, bytes)
  return address
}

const nodeSize = ({ data }: SetupDataEntry): number =>
  Math.ceil((SETUP_DATA_HEADER_SIZE + data.length) / 8) * 8
