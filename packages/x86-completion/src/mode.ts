/** The mode a vCPU runs in: what sizes, segmentation and paging depend on. Intel SDM vol. 3, section 2.2. */

import { CR0_PE, EFER_LMA, FLAG_VM } from './architecture.ts'
import type { GeneralRegisters, SpecialRegisters } from './context.ts'

/** Operating mode. `long` is 64-bit code; `compatibility` is 16- or 32-bit code while EFER.LMA is set. */
export type OperatingMode = 'real' | 'virtual-8086' | 'protected' | 'compatibility' | 'long'

/** Tells the operating mode from control registers, CS and RFLAGS.VM. */
export function operatingMode(special: SpecialRegisters, rflags: bigint): OperatingMode {
  if ((Number(special.cr0 & 0xffffffffn) & CR0_PE) === 0) return 'real'
  if ((Number(special.efer & 0xffffffffn) & EFER_LMA) !== 0)
    return special.cs.l !== 0 ? 'long' : 'compatibility'
  return (Number(rflags & 0xffffffffn) & FLAG_VM) !== 0 ? 'virtual-8086' : 'protected'
}

/** Current privilege level, 0 to 3. */
export function currentPrivilegeLevel(special: SpecialRegisters, mode: OperatingMode): number {
  if (mode === 'real') return 0
  // SS.DPL is the CPL by SDM vol. 3, 24.4.1 and APM vol. 2, 15.5.1; CS.DPL is not, in conforming segments.
  return mode === 'virtual-8086' ? 3 : special.ss.dpl
}

/**
 * Names a vCPU's mode for a person: `long mode CPL 0`, `32-bit protected mode CPL 3`, `real mode`.
 *
 * @example
 * console.error(`unknown instruction at 0x${regs.rip.toString(16)} in ${describeMode(sregs, regs)}`)
 */
export function describeMode(special: SpecialRegisters, general: Pick<GeneralRegisters, 'rflags'>): string {
  const mode = operatingMode(special, general.rflags)
  const level = `CPL ${currentPrivilegeLevel(special, mode)}`
  const bits = special.cs.db !== 0 ? '32-bit' : '16-bit'
  switch (mode) {
    case 'real':
      return 'real mode'
    case 'virtual-8086':
      return 'virtual-8086 mode'
    case 'protected':
      return `${bits} protected mode ${level}`
    case 'compatibility':
      return `${bits} compatibility mode ${level}`
    case 'long':
      return `long mode ${level}`
  }
}
