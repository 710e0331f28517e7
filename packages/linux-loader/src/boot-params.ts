/**
 * The zero page, `struct boot_params`: what Linux's 64-bit boot protocol takes in RSI. Only what a virtual machine's
 * boot loader fills in; no screen, EDD or EFI information.
 *
 * Linux: Documentation/arch/x86/zero-page.rst; arch/x86/include/uapi/asm/bootparam.h.
 */

import { checkE820, type E820Entry } from './e820.ts'
import { type Layout, u8, u32, u64, viewOf } from './fields.ts'
import { type AddressRange, type GuestMemory, requireRam } from './guest-memory.ts'
import {
  BOOT_FLAG,
  BOOT_PROTOCOL_2_15,
  LOADED_HIGH,
  SETUP_HEADER_MAGIC,
  SETUP_HEADER_OFFSET,
  SetupHeader,
  TYPE_OF_LOADER_UNDEFINED,
} from './setup-header.ts'

/** Bytes of the zero page. */
export const BOOT_PARAMS_SIZE = 4096

/** Fields of `struct boot_params` outside its setup header. */
export const BOOT_PARAMS: Layout<
  | 'acpi_rsdp_addr'
  | 'ext_ramdisk_image'
  | 'ext_ramdisk_size'
  | 'ext_cmd_line_ptr'
  | 'e820_entries'
  | 'sentinel'
> = {
  acpi_rsdp_addr: u64(0x070),
  ext_ramdisk_image: u32(0x0c0),
  ext_ramdisk_size: u32(0x0c4),
  ext_cmd_line_ptr: u32(0x0c8),
  e820_entries: u8(0x1e8),
  sentinel: u8(0x1ef),
}

/** Fields of one `struct boot_e820_entry`. */
export const BOOT_E820_ENTRY: Layout<'addr' | 'size' | 'type'> = { addr: u64(0), size: u64(8), type: u32(16) }
/** Offset of `e820_table` in the zero page. */
export const E820_TABLE_OFFSET = 0x2d0
/** Bytes of one `struct boot_e820_entry`. */
export const E820_ENTRY_SIZE = 20

/** What goes into a zero page. */
export interface BootParams {
  /** The memory map. */
  readonly e820: readonly E820Entry[]
  /** The command line with its NUL, guest-physical; default none. */
  readonly cmdline?: AddressRange | undefined
  /** The initrd, guest-physical; default none. */
  readonly initrd?: AddressRange | undefined
  /** Guest-physical address of the first `struct setup_data`; 0 or absent for none. */
  readonly setupData?: number | undefined
  /** Guest-physical address of the ACPI RSDP; 0 or absent for none. */
  readonly acpiRsdp?: number | undefined
  /** A bzImage's own setup header; absent for an uncompressed kernel, which gets one of protocol 2.15. */
  readonly setupHeader?: SetupHeader | undefined
}

/**
 * The bytes of a zero page.
 * @throws {LoaderError} `ERR_E820_TOO_MANY`, `ERR_LAYOUT_OVERLAP`
 */
export const buildBootParams = (params: BootParams): Uint8Array => {
  const page = new Uint8Array(BOOT_PARAMS_SIZE)
  const view = viewOf(page)
  const header = new SetupHeader((params.setupHeader ?? uncompressedKernelHeader()).bytes)
  header.set('type_of_loader', TYPE_OF_LOADER_UNDEFINED)
  if (params.cmdline !== undefined) {
    header.set('cmd_line_ptr', low32(params.cmdline.start))
    BOOT_PARAMS.ext_cmd_line_ptr.set(view, high32(params.cmdline.start))
    // For a bzImage this is the kernel's own limit, which the caller has kept.
    if (params.setupHeader === undefined) header.set('cmdline_size', params.cmdline.size - 1)
  }
  if (params.initrd !== undefined) {
    header.set('ramdisk_image', low32(params.initrd.start))
    header.set('ramdisk_size', low32(params.initrd.size))
    BOOT_PARAMS.ext_ramdisk_image.set(view, high32(params.initrd.start))
    BOOT_PARAMS.ext_ramdisk_size.set(view, high32(params.initrd.size))
  }
  header.set('setup_data', params.setupData ?? 0)
  BOOT_PARAMS.acpi_rsdp_addr.set(view, params.acpiRsdp ?? 0)
  page.set(header.bytes, SETUP_HEADER_OFFSET)

  const entries = checkE820(params.e820)
  BOOT_PARAMS.e820_entries.set(view, entries.length)
  for (const [i, { start, size, type }] of entries.entries()) {
    const base = E820_TABLE_OFFSET + i * E820_ENTRY_SIZE
    BOOT_E820_ENTRY.addr.set(view, start, base)
    BOOT_E820_ENTRY.size.set(view, size, base)
    BOOT_E820_ENTRY.type.set(view, type, base)
  }
  return page
}

/**
 * Writes a zero page at `address`.
 * @throws {LoaderError} as {@link buildBootParams}; `ERR_TABLE_DOES_NOT_FIT`
 */
export const writeBootParams = (memory: GuestMemory, address: number, params: BootParams): void => {
  const page = buildBootParams(params)
  requireRam(memory, 'the zero page', address, page.length, 'ERR_TABLE_DOES_NOT_FIT')
  memory.writeSlice(address, page)
}

/** What a kernel without a header of its own looks for: that there is one, and a protocol recent enough. */
const uncompressedKernelHeader = (): SetupHeader => {
  const header = new SetupHeader()
  header.set('boot_flag', BOOT_FLAG)
  header.set('header', SETUP_HEADER_MAGIC)
  header.set('version', BOOT_PROTOCOL_2_15)
  header.set('loadflags', LOADED_HIGH)
  header.set('kernel_alignment', 0x100_0000)
  return header
}

const low32 = (value: number): number => value % 2 ** 32
const high32 = (value: number): number => Math.floor(value / 2 ** 32)
