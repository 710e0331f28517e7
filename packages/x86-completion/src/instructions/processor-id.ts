/** RDPID and RDTSCP. Intel SDM vol. 2. */

import { CR4_TSD } from '../architecture.ts'
import type { Encoding, Instruction } from '../instruction.ts'
import type { Machine } from '../machine.ts'
import { REGISTER_RCX } from '../register-file.ts'

export const processorIdEncodings: readonly Encoding[] = [
  { mnemonic: 'rdpid', opcode: 0x0fc7, digit: 7, prefix: 'f3', modrm: 'register', execute: readProcessorId },
  { mnemonic: 'rdtscp', opcode: 0x0f01, modrm: 0xf9, execute: readTimeStamp },
]

const MSR_TSC = 0x10
const MSR_TSC_AUX = 0xc0000103

function readProcessorId(machine: Machine, instruction: Instruction): void {
  const id = readMsr(machine, MSR_TSC_AUX)
  if (id !== undefined)
    machine.registers.set(instruction.rm, machine.codeBits === 64 ? 64 : 32, id & 0xffffffffn)
}

function readTimeStamp(machine: Machine): void {
  if (machine.cpl !== 0 && (machine.cr4 & CR4_TSD) !== 0) {
    machine.generalProtection()
    return
  }
  const time = readMsr(machine, MSR_TSC)
  const id = readMsr(machine, MSR_TSC_AUX)
  if (time === undefined || id === undefined) return
  machine.registers.edxEax = time
  machine.registers.set(REGISTER_RCX, 32, id)
}

function readMsr(machine: Machine, index: number): bigint | undefined {
  const value = machine.context.getMsr(index)
  if (value === undefined) machine.faults.giveUp('msr')
  return value
}
