/** CMPXCHG8B and CMPXCHG16B. Intel SDM vol. 2. */

import { FLAG_ZF } from '../architecture.ts'
import type { Encoding, Instruction } from '../instruction.ts'
import type { Machine } from '../machine.ts'
import { ACCESS_WRITE } from '../paging.ts'
import { REGISTER_RAX, REGISTER_RBX, REGISTER_RCX, REGISTER_RDX } from '../register-file.ts'

export const compareExchangeEncodings: readonly Encoding[] = [
  {
    mnemonic: 'cmpxchg8b/16b',
    opcode: 0x0fc7,
    digit: 1,
    modrm: 'memory',
    lockable: true,
    execute: compareExchange,
  },
]

const WIDE_ALIGNMENT = 16
/** Another vCPU that writes this often in between is let win. */
const MAX_ATTEMPTS = 64

function compareExchange(machine: Machine, instruction: Instruction): void {
  const half = instruction.rexW ? 8 : 4
  if (!mapPair(machine, instruction, half)) return
  const { operand, registers } = machine
  const replacement = new Uint8Array(2 * half)
  const replacementView = new DataView(replacement.buffer)
  writeHalf(replacementView, 0, half, registers.get64(REGISTER_RBX))
  writeHalf(replacementView, half, half, registers.get64(REGISTER_RCX))
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    const low = readHalf(operand.view, 0, half)
    const high = readHalf(operand.view, half, half)
    const isEqual =
      low === registers.get(REGISTER_RAX, half * 8) && high === registers.get(REGISTER_RDX, half * 8)
    if (!isEqual) {
      // The CPU writes back what it read; what page tables and watchpoints can see of that, mapping has done.
      registers.set(REGISTER_RAX, half * 8, low)
      registers.set(REGISTER_RDX, half * 8, high)
      registers.setFlags(FLAG_ZF, 0)
      return
    }
    if (operand.compareAndStore(replacement)) {
      registers.setFlags(FLAG_ZF, FLAG_ZF)
      return
    }
    if (!machine.faults.areNone || !operand.reload()) return
  }
  machine.faults.giveUp('contended')
}

function mapPair(machine: Machine, instruction: Instruction, half: number): boolean {
  const size = 2 * half
  const linear = machine.operandAddress(instruction, size, ACCESS_WRITE, half === 8 ? WIDE_ALIGNMENT : 1)
  if (linear === undefined) return false
  return machine.isAligned(linear, size) && machine.operand.map(linear, size, ACCESS_WRITE)
}

function readHalf(view: DataView, offset: number, half: number): bigint {
  return half === 8 ? view.getBigUint64(offset, true) : BigInt(view.getUint32(offset, true))
}

function writeHalf(view: DataView, offset: number, half: number, value: bigint): void {
  if (half === 8) view.setBigUint64(offset, value, true)
  else view.setUint32(offset, Number(value & 0xffffffffn), true)
}
