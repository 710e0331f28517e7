/**
 * The PVH start info, what a kernel entered by the PVH protocol gets in EBX: command line, initrd and memory map.
 *
 * Xen: include/public/arch-x86/hvm/start_info.h.
 */

import { checkE820, type E820Entry } from './e820.ts'
import { type Layout, u32, u64, viewOf } from './fields.ts'
import { type AddressRange, type GuestMemory, requireRam } from './guest-memory.ts'

/** `XEN_HVM_START_MAGIC_VALUE`: "xEn3" with the high bit of "E" set. */
export const XEN_HVM_START_MAGIC_VALUE = 0x336ec578
/** Version with a memory map. */
export const HVM_START_INFO_VERSION = 1

/** Fields of `struct hvm_start_info`. */
export const HVM_START_INFO: Layout<
  | 'magic'
  | 'version'
  | 'flags'
  | 'nr_modules'
  | 'modlist_paddr'
  | 'cmdline_paddr'
  | 'rsdp_paddr'
  | 'memmap_paddr'
  | 'memmap_entries'
> = {
  magic: u32(0),
  version: u32(4),
  flags: u32(8),
  nr_modules: u32(12),
  modlist_paddr: u64(16),
  cmdline_paddr: u64(24),
  rsdp_paddr: u64(32),
  memmap_paddr: u64(40),
  memmap_entries: u32(48),
}
/** Bytes of `struct hvm_start_info`. */
export const HVM_START_INFO_SIZE = 56

/** Fields of `struct hvm_modlist_entry`. */
export const HVM_MODLIST_ENTRY: Layout<'paddr' | 'size' | 'cmdline_paddr'> = {
  paddr: u64(0),
  size: u64(8),
  cmdline_paddr: u64(16),
}
/** Bytes of `struct hvm_modlist_entry`. */
export const HVM_MODLIST_ENTRY_SIZE = 32

/** Fields of `struct hvm_memmap_table_entry`. */
export const HVM_MEMMAP_TABLE_ENTRY: Layout<'addr' | 'size' | 'type'> = {
  addr: u64(0),
  size: u64(8),
  type: u32(16),
}
/** Bytes of `struct hvm_memmap_table_entry`. */
export const HVM_MEMMAP_TABLE_ENTRY_SIZE = 24

/** A module: the first is the initrd. */
export interface PvhModule extends AddressRange {
  /** Guest-physical address of its own command line; 0 or absent for none. */
  readonly cmdline?: number | undefined
}

/** What goes into a start info. */
export interface PvhStartInfo {
  /** The memory map; its types are those of e820. */
  readonly e820: readonly E820Entry[]
  /** Guest-physical address of the command line with its NUL; 0 or absent for none. */
  readonly cmdline?: number | undefined
  /** Modules, the initrd first. */
  readonly modules?: readonly PvhModule[] | undefined
  /** Guest-physical address of the ACPI RSDP; 0 or absent for none. */
  readonly acpiRsdp?: number | undefined
}

/**
 * Writes a start info at `address`, its module list and its memory map after it.
 *
 * @returns the range that they take
 * @throws {LoaderError} `ERR_TABLE_DOES_NOT_FIT`, `ERR_E820_TOO_MANY`, `ERR_LAYOUT_OVERLAP`
 */
export const writePvhStartInfo = (memory: GuestMemory, address: number, info: PvhStartInfo): AddressRange => {
  const { cmdline = 0, modules = [], acpiRsdp = 0 } = info
  const e820 = checkE820(info.e820)
  const modlist = HVM_START_INFO_SIZE
  const memmap = modlist + modules.length * HVM_MODLIST_ENTRY_SIZE
  const size = memmap + e820.length * HVM_MEMMAP_TABLE_ENTRY_SIZE
  requireRam(memory, 'the PVH start info', address, size, 'ERR_TABLE_DOES_NOT_FIT')
  const bytes = new Uint8Array(size)
  const view = viewOf(bytes)
  HVM_START_INFO.magic.set(view, XEN_HVM_START_MAGIC_VALUE)
  HVM_START_INFO.version.set(view, HVM_START_INFO_VERSION)
  HVM_START_INFO.nr_modules.set(view, modules.length)
  HVM_START_INFO.modlist_paddr.set(view, modules.length > 0 ? address + modlist : 0)
  HVM_START_INFO.cmdline_paddr.set(view, cmdline)
  HVM_START_INFO.rsdp_paddr.set(view, acpiRsdp)
  HVM_START_INFO.memmap_paddr.set(view, address + memmap)
  HVM_START_INFO.memmap_entries.set(view, e820.length)
  for (const [i, module] of modules.entries()) {
    const base = modlist + i * HVM_MODLIST_ENTRY_SIZE
    HVM_MODLIST_ENTRY.paddr.set(view, module.start, base)
    HVM_MODLIST_ENTRY.size.set(view, module.size, base)
    HVM_MODLIST_ENTRY.cmdline_paddr.set(view, module.cmdline ?? 0, base)
  }
  for (const [i, entry] of e820.entries()) {
    const base = memmap + i * HVM_MEMMAP_TABLE_ENTRY_SIZE
    HVM_MEMMAP_TABLE_ENTRY.addr.set(view, entry.start, base)
    HVM_MEMMAP_TABLE_ENTRY.size.set(view, entry.size, base)
    HVM_MEMMAP_TABLE_ENTRY.type.set(view, entry.type, base)
  }
  memory.writeSlice(address, bytes)
  return { start: address, size }
}
