/** RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE and SWAPGS. Intel SDM vol. 2. */

import { CR4_FSGSBASE } from '../architecture.ts'
import type { Encoding, Instruction } from '../instruction.ts'
import type { Machine } from '../machine.ts'
import { isCanonical } from '../segmentation.ts'

export const segmentBaseEncodings: readonly Encoding[] = [
  baseRow('rdfsbase', 0, (machine, instruction) => read(machine, instruction, 'fs')),
  baseRow('rdgsbase', 1, (machine, instruction) => read(machine, instruction, 'gs')),
  baseRow('wrfsbase', 2, (machine, instruction) => write(machine, instruction, 'fs')),
  baseRow('wrgsbase', 3, (machine, instruction) => write(machine, instruction, 'gs')),
  { mnemonic: 'swapgs', opcode: 0x0f01, prefix: 'np', modrm: 0xf8, longModeOnly: true, execute: swap },
]

const MSR_KERNEL_GS_BASE = 0xc0000102

function baseRow(mnemonic: string, digit: number, execute: Encoding['execute']): Encoding {
  return { mnemonic, opcode: 0x0fae, digit, prefix: 'f3', modrm: 'register', longModeOnly: true, execute }
}

function read(machine: Machine, instruction: Instruction, segment: 'fs' | 'gs'): void {
  if (!isEnabled(machine)) return
  const size = instruction.rexW ? 64 : 32
  machine.registers.set(instruction.rm, size, machine.special[segment].base)
}

function write(machine: Machine, instruction: Instruction, segment: 'fs' | 'gs'): void {
  if (!isEnabled(machine)) return
  const base = machine.registers.get(instruction.rm, instruction.rexW ? 64 : 32)
  if (isCanonical(base, machine.cr4)) machine.changeSpecial()[segment].base = base
  else machine.generalProtection()
}

function swap(machine: Machine): void {
  if (machine.cpl !== 0) {
    machine.generalProtection()
    return
  }
  const { context } = machine
  const kernelBase = context.getMsr(MSR_KERNEL_GS_BASE)
  if (kernelBase === undefined || !context.setMsr(MSR_KERNEL_GS_BASE, machine.special.gs.base)) {
    machine.faults.giveUp('msr')
    return
  }
  machine.changeSpecial().gs.base = kernelBase
}

function isEnabled(machine: Machine): boolean {
  return (machine.cr4 & CR4_FSGSBASE) !== 0 || machine.invalidOpcode()
}
