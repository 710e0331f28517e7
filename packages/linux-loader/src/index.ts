/** Linux kernel images, command line, boot parameters and tables, into guest memory. */

export type { AcpiDevice, DsdtOptions } from './acpi/dsdt.ts'
export type { GenerationIdLocation } from './acpi/generation-id.ts'
export type { AcpiResources, PortRange } from './acpi/resources.ts'
export type { AcpiTablesOptions } from './acpi/tables.ts'
export { writeAcpiTables } from './acpi/tables.ts'
export {
  ACPI_START,
  BOOT_STACK_POINTER,
  CMDLINE_START,
  GDT_START,
  HIMEM_START,
  IO_APIC_START,
  LOCAL_APIC_START,
  MMIO_GAP_END,
  MMIO_GAP_START,
  PAGE_TABLES_START,
  PVH_INFO_START,
  ramRegions,
  SETUP_DATA_START,
  VM_GENERATION_ID_START,
  ZERO_PAGE_START,
} from './boot-layout.ts'
export type { BootParams } from './boot-params.ts'
export { BOOT_PARAMS_SIZE, buildBootParams, writeBootParams } from './boot-params.ts'
export type {
  BootMsr,
  BootRegs,
  BootSregs,
  BootState,
  DescriptorTable,
  LongModeOptions,
  ProtectedModeOptions,
  Segment,
} from './boot-state.ts'
export { longModeState, protectedModeState, realModeState } from './boot-state.ts'
export type { BzImageLayout, LoadBzImageOptions } from './bzimage.ts'
export { loadBzImage, parseBzImage } from './bzimage.ts'
export { Cmdline, COMMAND_LINE_SIZE, writeCmdline } from './cmdline.ts'
export type { BootConfig } from './configure-boot.ts'
export { configureBoot } from './configure-boot.ts'
export type { Compression } from './decompress/decompress.ts'
export type { E820Entry, ReservedRange } from './e820.ts'
export {
  buildE820,
  E820_TYPE_ACPI,
  E820_TYPE_NVS,
  E820_TYPE_PMEM,
  E820_TYPE_RAM,
  E820_TYPE_RESERVED,
  E820_TYPE_UNUSABLE,
} from './e820.ts'
export type { LoadElfOptions } from './elf.ts'
export { loadElf } from './elf.ts'
export type { LoadFlatOptions } from './flat.ts'
export { loadFlat } from './flat.ts'
export type { AddressRange, GuestMemory } from './guest-memory.ts'
export type { PvhModule, PvhStartInfo } from './hvm-start-info.ts'
export { writePvhStartInfo } from './hvm-start-info.ts'
export type { Image, ImageSource } from './image-source.ts'
export { ImageFile } from './image-source.ts'
export type { LoadInitrdOptions } from './initrd.ts'
export { loadInitrd } from './initrd.ts'
export type { LoadKernelOptions } from './load-kernel.ts'
export { loadKernel } from './load-kernel.ts'
export type { BootProtocol, LoadedKernel } from './loaded-kernel.ts'
export type { LoaderErrorCode } from './loader-error.ts'
export { LoaderError } from './loader-error.ts'
export type { InterruptSource, MpTableOptions } from './mp-table.ts'
export { MP_MAX_CPUS, mpTableRange, writeMpTable } from './mp-table.ts'
export type { SetupDataEntry } from './setup-data.ts'
export { SETUP_DTB, SETUP_RNG_SEED, writeSetupData } from './setup-data.ts'
export type { SetupHeaderField } from './setup-header.ts'
export { SetupHeader } from './setup-header.ts'
export type { UnpackBzImageOptions, UnpackedBzImage } from './unpack-bzimage.ts'
export { unpackBzImage } from './unpack-bzimage.ts'
