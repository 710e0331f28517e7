/**
 * Writes everything that a loaded kernel expects to find, at the places of boot-layout.ts, and returns the state that its
 * first CPU starts in. A convenience over the other modules: a VMM with other wishes calls them itself.
 */

import type { DsdtOptions } from './acpi/dsdt.ts'
import { writeAcpiTables } from './acpi/tables.ts'
import {
  ACPI_END,
  ACPI_START,
  CMDLINE_END,
  CMDLINE_START,
  GDT_START,
  PVH_INFO_START,
  SETUP_DATA_END,
  SETUP_DATA_START,
  ZERO_PAGE_START,
} from './boot-layout.ts'
import { writeBootParams } from './boot-params.ts'
import { type BootState, longModeState, protectedModeState } from './boot-state.ts'
import { Cmdline, writeCmdline } from './cmdline.ts'
import { buildE820, type ReservedRange } from './e820.ts'
import { type AddressRange, type GuestMemory, overlaps } from './guest-memory.ts'
import { writePvhStartInfo } from './hvm-start-info.ts'
import type { LoadedKernel } from './loaded-kernel.ts'
import { formatRange, formatSize, LoaderError } from './loader-error.ts'
import { type InterruptSource, mpTableRange, writeMpTable } from './mp-table.ts'
import { SETUP_RNG_SEED, type SetupDataEntry, setupDataSize, writeSetupData } from './setup-data.ts'

const FOUR_GIB = 2 ** 32

/** What to boot, and with what. */
export interface BootConfig {
  /** From `loadKernel` and the like. */
  readonly kernel: LoadedKernel
  /** From `loadInitrd`; default none. */
  readonly initrd?: AddressRange | undefined
  /** Default empty. */
  readonly cmdline?: Cmdline | string | undefined
  /** CPUs in the tables, 1 to 254; default 1. 0 writes no tables, for a VMM that writes its own. */
  readonly cpus?: number | undefined
  /** Interrupt lines besides the 16 of the ISA bus, or wired otherwise; default none. */
  readonly interrupts?: readonly InterruptSource[] | undefined
  /** Ranges that are no RAM for the guest, whether guest memory covers them or not; default none. */
  readonly reserved?: readonly ReservedRange[] | undefined
  /** Random bytes for the kernel's generator, 32 or more; by default it gets none. */
  readonly rngSeed?: Uint8Array | undefined
  /** Further setup_data, for kernels entered by the Linux boot protocol; default none. */
  readonly setupData?: readonly SetupDataEntry[] | undefined
  /**
   * What ACPI tables are to describe besides the CPUs: they are written as well as the MP table, and a kernel that can do ACPI
   * uses them alone. Default no ACPI tables.
   */
  readonly acpi?: DsdtOptions | undefined
  /** Guest-physical address of the RSDP of ACPI tables that the VMM has written itself; default that of `acpi`. */
  readonly acpiRsdp?: number | undefined
}

/**
 * Writes command line, memory map, MP table, ACPI tables and descriptor tables.
 *
 * A flat image is entered in long mode, as `linux64` is.
 *
 * @returns the state of the boot CPU
 * @throws {LoaderError} `ERR_CMDLINE_*`, `ERR_CPU_COUNT`, `ERR_TABLE_DOES_NOT_FIT`, `ERR_LAYOUT_OVERLAP`,
 *   `ERR_E820_TOO_MANY`
 * @example
 * const kernel = await loadKernel(memory, new ImageFile('vmlinux'))
 * const initrd = loadInitrd(memory, new ImageFile('initramfs.cpio'), { kernel })
 * const { regs, sregs, msrs } = configureBoot(memory, { kernel, initrd, cmdline: 'console=ttyS0', cpus: 2 })
 */
export const configureBoot = (memory: GuestMemory, config: BootConfig): BootState => {
  const { kernel, initrd, cpus = 1, interrupts } = config
  checkLayout(config)
  const cmdline = placeCmdline(memory, kernel, config.cmdline)
  if (cpus !== 0) writeMpTable(memory, { cpus, interrupts })
  const acpiRsdp = config.acpiRsdp ?? placeAcpi(memory, config)
  const e820 = buildE820(memory, config.reserved)
  if (kernel.protocol === 'pvh') {
    const modules = initrd === undefined ? [] : [initrd]
    writePvhStartInfo(memory, PVH_INFO_START, { e820, cmdline: cmdline.start, modules, acpiRsdp })
    return protectedModeState(memory, { entry: kernel.entry })
  }
  const setupData = placeSetupData(memory, config)
  const { setupHeader } = kernel
  writeBootParams(memory, ZERO_PAGE_START, { e820, cmdline, initrd, setupData, acpiRsdp, setupHeader })
  const identityMapSize = Math.max(FOUR_GIB, kernel.kernelEnd)
  return longModeState(memory, { entry: kernel.entry, identityMapSize })
}

/** The kernel, the initrd and the boot structures below 1 MiB must not share a byte. */
const checkLayout = ({ kernel, initrd, cpus = 1, interrupts, acpi }: BootConfig): void => {
  const ranges: [string, AddressRange][] = [
    ['the boot tables', { start: GDT_START, size: SETUP_DATA_END - GDT_START }],
    ['the kernel', { start: kernel.kernelStart, size: kernel.kernelEnd - kernel.kernelStart }],
  ]
  if (cpus !== 0) ranges.push(['the MP table', mpTableRange({ cpus, interrupts })])
  if (acpi !== undefined && cpus !== 0)
    ranges.push(['the ACPI tables', { start: ACPI_START, size: ACPI_END - ACPI_START }])
  if (acpi?.generationId !== undefined)
    ranges.push(['the VM generation ID', { start: acpi.generationId.address, size: 16 }])
  if (initrd !== undefined) ranges.push(['the initrd', initrd])
  for (const [i, [name, range]] of ranges.entries())
    for (const [otherName, other] of ranges.slice(i + 1))
      if (overlaps(range, other))
        throw new LoaderError(
          'ERR_LAYOUT_OVERLAP',
          `${name} at ${formatRange(range.start, range.size)} and ${otherName} at ` +
            `${formatRange(other.start, other.size)} overlap`,
          { start: range.start, otherStart: other.start },
        )
}

/** @returns the address of the RSDP */
const placeAcpi = (memory: GuestMemory, { acpi, cpus = 1, interrupts }: BootConfig): number | undefined =>
  acpi === undefined || cpus === 0 ? undefined : writeAcpiTables(memory, { ...acpi, cpus, interrupts }).start

const placeCmdline = (
  memory: GuestMemory,
  kernel: LoadedKernel,
  text: Cmdline | string | undefined,
): AddressRange => {
  const cmdline = text instanceof Cmdline ? text : Cmdline.from(text ?? '')
  // The header does not count the NUL.
  const kernelLimit = (kernel.setupHeader?.get('cmdline_size') ?? Number.POSITIVE_INFINITY) + 1
  const limit = Math.min(kernelLimit, CMDLINE_END - CMDLINE_START)
  if (cmdline.byteLength > limit)
    throw new LoaderError(
      'ERR_CMDLINE_TOO_LONG',
      `the command line takes ${cmdline.byteLength} bytes with its NUL, but the kernel reads at most ${limit}`,
      { size: cmdline.byteLength, limit },
    )
  return { start: CMDLINE_START, size: writeCmdline(memory, CMDLINE_START, cmdline) }
}

const placeSetupData = (memory: GuestMemory, { rngSeed, setupData = [] }: BootConfig): number => {
  const entries = rngSeed === undefined ? setupData : [{ type: SETUP_RNG_SEED, data: rngSeed }, ...setupData]
  const size = setupDataSize(entries)
  const room = SETUP_DATA_END - SETUP_DATA_START
  if (size > room)
    throw new LoaderError(
      'ERR_TABLE_DOES_NOT_FIT',
      `the setup_data list has ${formatSize(size)}, but there is room for ${formatSize(room)}`,
      { size, room },
    )
  return writeSetupData(memory, SETUP_DATA_START, entries)
}
