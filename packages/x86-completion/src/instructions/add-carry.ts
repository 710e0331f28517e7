/** ADCX and ADOX: additions with carries of their own. Intel SDM vol. 2. */

import { FLAG_CF, FLAG_OF } from '../architecture.ts'
import type { Encoding, Instruction } from '../instruction.ts'
import type { Machine } from '../machine.ts'

export const addCarryEncodings: readonly Encoding[] = [
  {
    mnemonic: 'adcx',
    opcode: 0x0f38f6,
    prefix: '66',
    modrm: 'either',
    execute: (machine, instruction) => add(machine, instruction, FLAG_CF),
  },
  {
    mnemonic: 'adox',
    opcode: 0x0f38f6,
    prefix: 'f3',
    modrm: 'either',
    execute: (machine, instruction) => add(machine, instruction, FLAG_OF),
  },
]

/** 66 does not size these. */
function add(machine: Machine, instruction: Instruction, flag: number): void {
  const size = instruction.rexW ? 64 : 32
  const source = machine.readRm(instruction, size)
  if (source === undefined) return
  const { registers } = machine
  const carry = (registers.flags & flag) !== 0 ? 1n : 0n
  const sum = registers.get(instruction.reg, size) + source + carry
  registers.set(instruction.reg, size, BigInt.asUintN(size, sum))
  registers.setFlags(flag, sum >> BigInt(size) !== 0n ? flag : 0)
}
