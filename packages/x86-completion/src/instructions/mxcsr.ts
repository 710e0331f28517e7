/** LDMXCSR and STMXCSR. Intel SDM vol. 2. */

import { CR0_EM, CR0_TS, CR4_OSFXSR } from '../architecture.ts'
import type { Encoding, Instruction } from '../instruction.ts'
import type { Machine } from '../machine.ts'
import { ACCESS_READ, ACCESS_WRITE } from '../paging.ts'
import { VECTOR_NM } from '../vectors.ts'

export const mxcsrEncodings: readonly Encoding[] = [
  { mnemonic: 'ldmxcsr', opcode: 0x0fae, digit: 2, prefix: 'np', modrm: 'memory', execute: load },
  { mnemonic: 'stmxcsr', opcode: 0x0fae, digit: 3, prefix: 'np', modrm: 'memory', execute: store },
]

const MXCSR_SIZE = 4

function load(machine: Machine, instruction: Instruction): void {
  if (!isSseUsable(machine) || !machine.mapOperand(instruction, MXCSR_SIZE, ACCESS_READ)) return
  const value = machine.operand.view.getUint32(0, true)
  const image = machine.changeXsave()
  if ((value & ~image.mxcsrMask) !== 0) machine.generalProtection()
  else image.mxcsr = value
}

function store(machine: Machine, instruction: Instruction): void {
  if (!isSseUsable(machine) || !machine.mapOperand(instruction, MXCSR_SIZE, ACCESS_WRITE)) return
  machine.operand.view.setUint32(0, machine.xsave.mxcsr, true)
  machine.operand.store()
}

/** Raises what SSE instructions raise when the kernel has switched SSE off, or left it to another task. */
function isSseUsable(machine: Machine): boolean {
  if ((machine.cr0 & CR0_EM) !== 0 || (machine.cr4 & CR4_OSFXSR) === 0) return machine.invalidOpcode()
  return (machine.cr0 & CR0_TS) === 0 || machine.faults.raise(VECTOR_NM)
}
