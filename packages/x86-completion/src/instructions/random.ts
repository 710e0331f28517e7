/** RDRAND and RDSEED, out of the context's random source. They always succeed. Intel SDM vol. 2. */

import { FLAG_CF, FLAGS_STATUS } from '../architecture.ts'
import type { Encoding, Instruction } from '../instruction.ts'
import type { Machine } from '../machine.ts'

export const randomEncodings: readonly Encoding[] = [...randomRows('rdrand', 6), ...randomRows('rdseed', 7)]

const source = new Uint8Array(8)
const sourceView = new DataView(source.buffer)

/** 66 gives 16 bits; F2 and F3 make other instructions. */
function randomRows(mnemonic: string, digit: number): Encoding[] {
  const row = { mnemonic, opcode: 0x0fc7, digit, modrm: 'register', execute: draw } as const
  return [
    { ...row, prefix: 'np' },
    { ...row, prefix: '66' },
  ]
}

function draw(machine: Machine, instruction: Instruction): void {
  machine.context.fillRandom(source)
  machine.registers.set(instruction.rm, instruction.operandSize, sourceView.getBigUint64(0, true))
  machine.registers.setFlags(FLAGS_STATUS, FLAG_CF)
}
