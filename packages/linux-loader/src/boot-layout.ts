/**
 * Where this package puts things in guest-physical memory. Everything below 640 KiB is free for a boot loader until the
 * kernel has read it (Documentation/arch/x86/boot.rst, "Memory Layout"); the choice follows Firecracker's, so
 * that addresses look familiar in a debugger.
 *
 *     0x00000500  GDT
 *     0x00006000  PVH start info, its module list and memory map   (4 KiB)
 *     0x00007000  zero page                                        (4 KiB)
 *     0x00008ff0  boot stack, growing down                         (4 KiB)
 *     0x00009000  page tables                                      (92 KiB)
 *     0x00020000  command line                                     (64 KiB)
 *     0x00030000  setup_data list                                  (64 KiB)
 *     0x0009fc00  EBDA: MP table where it fits                     (1 KiB)
 *     0x000e0000  ACPI tables                                      (60 KiB)
 *     0x000ef000  VM generation ID                                 (4 KiB)
 *     0x000f0000  BIOS area: MP table of many CPUs                 (64 KiB)
 *     0x00100000  high memory: kernel, initrd
 */

import type { AddressRange } from './guest-memory.ts'
import { LoaderError } from './loader-error.ts'

/** Global descriptor table. */
export const GDT_START = 0x500
/** `struct hvm_start_info` and what it points to. */
export const PVH_INFO_START = 0x6000
/** `struct boot_params`. */
export const ZERO_PAGE_START = 0x7000
/** Initial stack pointer. */
export const BOOT_STACK_POINTER = 0x8ff0
/** First page table (the PML4). */
export const PAGE_TABLES_START = 0x9000
/** End of the space for page tables. */
export const PAGE_TABLES_END = 0x20000
/** Kernel command line. */
export const CMDLINE_START = 0x20000
/** End of the space for the command line. */
export const CMDLINE_END = 0x30000
/** First `struct setup_data`. */
export const SETUP_DATA_START = 0x30000
/** End of the space for setup_data. */
export const SETUP_DATA_END = 0x40000
/** End of conventional memory: the extended BIOS data area begins. */
export const EBDA_START = 0x9fc00
/** End of the EBDA; the VGA hole begins. */
export const EBDA_END = 0xa0000
/** ACPI tables, the RSDP first: kernels that are not told look for it from here to 1 MiB. */
export const ACPI_START = 0xe0000
/** End of the space for ACPI tables. */
export const ACPI_END = 0xef000
/** The VM generation ID: a page that is no RAM for the guest, with nothing else in it. */
export const VM_GENERATION_ID_START = 0xef000
/** The BIOS area, the last 64 KiB below 1 MiB. */
export const BIOS_START = 0xf0000
/** First address above the legacy megabyte. */
export const HIMEM_START = 0x10_0000
/** Default start of the hole for devices below 4 GiB (768 MiB of it). */
export const MMIO_GAP_START = 0xd000_0000
/** End of the hole for devices. */
export const MMIO_GAP_END = 0x1_0000_0000

/** Local APIC registers, where the CPU resets them to. */
export const LOCAL_APIC_START = 0xfee0_0000
/** I/O APIC registers, where KVM's has them. */
export const IO_APIC_START = 0xfec0_0000

/**
 * Splits RAM around the hole for devices: the guest-physical regions to map for a guest of `size` bytes.
 *
 * @param size bytes of RAM, a positive multiple of 4096
 * @param gapStart where the hole begins, default {@link MMIO_GAP_START}; it ends at 4 GiB
 * @throws {LoaderError} `ERR_LOADER_ARGUMENT`
 * @example
 * ramRegions(6 * 2 ** 30) // [{ start: 0, size: 0xd0000000 }, { start: 0x100000000, size: 0xb0000000 }]
 */
export const ramRegions = (size: number, gapStart: number = MMIO_GAP_START): AddressRange[] => {
  if (!Number.isSafeInteger(size) || size <= 0 || size % 4096 !== 0)
    throw new LoaderError('ERR_LOADER_ARGUMENT', `${size} bytes of RAM is no positive multiple of 4096`, {
      size,
    })
  if (!Number.isSafeInteger(gapStart) || gapStart <= HIMEM_START || gapStart > MMIO_GAP_END)
    throw new LoaderError('ERR_LOADER_ARGUMENT', `the MMIO gap cannot start at ${gapStart}`, { gapStart })
  if (size <= gapStart) return [{ start: 0, size }]
  return [
    { start: 0, size: gapStart },
    { start: MMIO_GAP_END, size: size - gapStart },
  ]
}
