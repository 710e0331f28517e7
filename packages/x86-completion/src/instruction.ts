/** A decoded instruction, and the rows of the table by which the decoder knows one. */

import type { Machine } from './machine.ts'

export const SEGMENT_ES = 0
export const SEGMENT_CS = 1
export const SEGMENT_SS = 2
export const SEGMENT_DS = 3
export const SEGMENT_FS = 4
export const SEGMENT_GS = 5

/** Register number that stands for "none" in `base` and `index`. */
export const NO_REGISTER = -1

/** One instruction as decoded. A decoder owns one and fills it anew each time. */
export class Instruction {
  /** Length in bytes, 1 to 15. */
  length = 0
  /** With its escape bytes: 0xcc, 0x0fb8, 0x0f38f0. VEX maps 1 to 3 read as 0x0f, 0x0f38, 0x0f3a. */
  opcode = 0
  /** 16, 32 or 64. */
  operandSize = 32
  /** 16, 32 or 64. */
  addressSize = 32
  hasOperandSizePrefix = false
  /** 0, 0xf2 or 0xf3: the last one given. */
  repeatPrefix = 0
  hasLock = false
  /** The REX byte, 0 if there is none. */
  rex = 0
  rexW = false
  isVex = false
  /** VEX.L: 256 bits. */
  vexL = false
  /** VEX.vvvv as a register number. */
  vexRegister = 0
  /** VEX.vvvv is not 1111b, which stands for none. */
  hasVexRegister = false
  /** The ModRM byte, -1 if there is none. */
  modrm = -1
  /** ModRM.reg, extended by REX.R. */
  reg = 0
  /** ModRM.rm as a register, extended by REX.B. */
  rm = 0
  /** The operand that ModRM gives is memory. */
  isMemory = false
  segment: number = SEGMENT_DS
  base: number = NO_REGISTER
  index: number = NO_REGISTER
  scale = 1
  displacement = 0
  isRipRelative = false
  immediate = 0
}

/** Which prefix selects an encoding: none of 66, F2, F3 (`np`), or one; 66 may size the operand beside F2 and F3. */
export type MandatoryPrefix = 'np' | '66' | 'f2' | 'f3'

/** How an encoding uses ModRM: a memory operand, a register, either, or this very byte. */
export type ModrmForm = 'memory' | 'register' | 'either' | number

/** One row of the instruction table. */
export interface Encoding {
  /** Lower case; as in the manuals. */
  readonly mnemonic: string
  /** See {@link Instruction.opcode}. */
  readonly opcode: number
  /** Absent: the prefixes 66, F2 and F3 don't select. */
  readonly prefix?: MandatoryPrefix
  /** Absent: the instruction has no ModRM byte. */
  readonly modrm?: ModrmForm
  /** The opcode extension in ModRM.reg ("/digit"). */
  readonly digit?: number
  /** The encoding is a VEX one. `prefix` is then VEX.pp. */
  readonly vex?: true
  /** VEX.vvvv is no operand, and must be 1111b: anything else is `#UD`. */
  readonly vvvv?: 'unused'
  /** Bytes of immediate operand: 1 or none. */
  readonly immediate?: 1
  /** LOCK is allowed, with a memory operand. */
  readonly lockable?: true
  /** There in 64-bit mode only; `#UD` elsewhere. */
  readonly longModeOnly?: true
  /** Carries it out. A fault is left in the machine; nothing may be changed before the last one. */
  readonly execute: (machine: Machine, instruction: Instruction) => void
}
