/**
 * The opcodes that are undefined on purpose. Linux's WARN() and BUG() are UD2: KVM gives up on it at CPL 0, and the guest's
 * handler has to see it. Intel SDM vol. 2, "UD".
 */

import type { Encoding } from '../instruction.ts'

export const undefinedEncodings: readonly Encoding[] = [
  { mnemonic: 'ud2', opcode: 0x0f0b, execute: (machine) => machine.invalidOpcode() },
  { mnemonic: 'ud1', opcode: 0x0fb9, execute: (machine) => machine.invalidOpcode() },
  { mnemonic: 'ud0', opcode: 0x0fff, execute: (machine) => machine.invalidOpcode() },
]
