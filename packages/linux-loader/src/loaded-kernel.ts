/**
 * What loading a kernel tells the rest of the boot.
 */

import type { SetupHeader } from './setup-header.ts'

/**
 * How to enter a kernel:
 * - `linux64`: the 64-bit boot protocol, at the entry point of an uncompressed kernel;
 * - `linux-bzimage`: the 64-bit boot protocol, at the kernel's own decompressor;
 * - `pvh`: 32-bit protected mode, EBX at the start info;
 * - `flat`: whatever the image expects.
 */
export type BootProtocol = 'linux64' | 'linux-bzimage' | 'pvh' | 'flat'

/** A kernel in guest memory. */
export interface LoadedKernel {
  /** What the image was. */
  readonly kind: 'elf' | 'bzimage' | 'flat'
  /** How `entry` wants to be entered. */
  readonly protocol: BootProtocol
  /** Guest-physical address of the first instruction. */
  readonly entry: number
  /** First guest-physical address that belongs to the kernel. */
  readonly kernelStart: number
  /** First address after the kernel, memory that it needs before it can allocate some (.bss, decompression) included. */
  readonly kernelEnd: number
  /** The PVH entry point, when the ELF notes name one and the image was not moved. */
  readonly pvhEntry: number | undefined
  /** The setup header of a bzImage, to be handed on in the zero page. */
  readonly setupHeader: SetupHeader | undefined
}
