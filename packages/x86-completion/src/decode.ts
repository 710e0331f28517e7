/**
 * The decoder: prefixes, REX, VEX, opcode, ModRM, SIB, displacement and immediate, in 16-, 32- and 64-bit code. It reads
 * no more of an instruction than the table has an encoding for. Intel SDM vol. 2, chapter 2.
 */

import type { CodeBytes } from './code-bytes.ts'
import {
  type Encoding,
  type Instruction,
  NO_REGISTER,
  SEGMENT_CS,
  SEGMENT_DS,
  SEGMENT_ES,
  SEGMENT_FS,
  SEGMENT_GS,
  SEGMENT_SS,
} from './instruction.ts'
import type { EncodingTable } from './table.ts'

const REGISTER_SP = 4
const REGISTER_BP = 5
const REGISTER_BX = 3
const REGISTER_SI = 6
const REGISTER_DI = 7

const REX_B = 1 << 0
const REX_X = 1 << 1
const REX_R = 1 << 2
const REX_W = 1 << 3

/** Base and index of the 16-bit addressing forms, by ModRM.rm. */
const BASE_16 = [
  REGISTER_BX,
  REGISTER_BX,
  REGISTER_BP,
  REGISTER_BP,
  REGISTER_SI,
  REGISTER_DI,
  REGISTER_BP,
  REGISTER_BX,
]
const INDEX_16 = [REGISTER_SI, REGISTER_DI, REGISTER_SI, REGISTER_DI]

/** A decoder for one vCPU; {@link decode} leaves its result in the instruction it was given. */
export class Decoder {
  readonly #code: CodeBytes
  readonly #table: EncodingTable
  /** A segment override was given. */
  #hasOverride = false
  #vexPrefix = 0
  /** A VEX prefix follows one that it does not go with: `#UD`. */
  isInvalid = false

  constructor(code: CodeBytes, table: EncodingTable) {
    this.#code = code
    this.#table = table
  }

  /** The encoding of the next instruction in `codeBits` (16, 32, 64) code; undefined if none matches or bytes lack. */
  decode(instruction: Instruction, codeBits: number): Encoding | undefined {
    const code = this.#code
    this.isInvalid = false
    this.#readPrefixes(instruction, codeBits)
    this.#readOpcode(instruction, codeBits)
    const candidates = this.#table.candidates(instruction.opcode, instruction.isVex)
    if (!code.isGood || candidates === undefined) return undefined
    this.#sizeOperand(instruction, codeBits)
    instruction.modrm = -1
    instruction.isMemory = false
    if (candidates[0]?.modrm !== undefined) this.#readModrm(instruction)
    if (!code.isGood) return undefined
    const encoding = candidates.find((candidate) => matches(candidate, instruction, this.#vexPrefix))
    if (encoding === undefined) return undefined
    if (instruction.isMemory) this.#readMemoryOperand(instruction, codeBits)
    instruction.immediate = encoding.immediate === 1 ? code.next() : 0
    instruction.length = code.position
    return code.isGood ? encoding : undefined
  }

  #readPrefixes(instruction: Instruction, codeBits: number): void {
    const code = this.#code
    const isLong = codeBits === 64
    this.#hasOverride = false
    instruction.segment = SEGMENT_DS
    instruction.hasOperandSizePrefix = false
    instruction.repeatPrefix = 0
    instruction.hasLock = false
    instruction.rex = 0
    let hasAddressSizePrefix = false
    for (;;) {
      const byte = code.peek()
      if (isLong && (byte & 0xf0) === 0x40) {
        code.next()
        instruction.rex = byte
        continue
      }
      let segment = NO_REGISTER
      if (byte === 0x66) instruction.hasOperandSizePrefix = true
      else if (byte === 0x67) hasAddressSizePrefix = true
      else if (byte === 0xf0) instruction.hasLock = true
      else if (byte === 0xf2 || byte === 0xf3) instruction.repeatPrefix = byte
      else if (byte === 0x26) segment = SEGMENT_ES
      else if (byte === 0x2e) segment = SEGMENT_CS
      else if (byte === 0x36) segment = SEGMENT_SS
      else if (byte === 0x3e) segment = SEGMENT_DS
      else if (byte === 0x64) segment = SEGMENT_FS
      else if (byte === 0x65) segment = SEGMENT_GS
      else break
      // REX counts only right before the opcode.
      instruction.rex = 0
      code.next()
      // 64-bit code has no use for the first four: they neither apply nor cancel FS and GS.
      if (segment !== NO_REGISTER && (!isLong || segment >= SEGMENT_FS)) {
        instruction.segment = segment
        this.#hasOverride = true
      }
    }
    instruction.rexW = (instruction.rex & REX_W) !== 0
    if (isLong) instruction.addressSize = hasAddressSizePrefix ? 32 : 64
    else instruction.addressSize = hasAddressSizePrefix ? 48 - codeBits : codeBits
  }

  #readOpcode(instruction: Instruction, codeBits: number): void {
    const code = this.#code
    const first = code.next()
    instruction.isVex = false
    instruction.opcode = first
    if (first === 0x0f) {
      const second = code.next()
      if (second === 0x38 || second === 0x3a) instruction.opcode = 0x0f0000 | (second << 8) | code.next()
      else instruction.opcode = 0x0f00 | second
    } else if ((first === 0xc4 || first === 0xc5) && (codeBits === 64 || code.peek() >= 0xc0)) {
      this.#readVex(instruction, first, codeBits)
    }
  }

  #readVex(instruction: Instruction, first: number, codeBits: number): void {
    const code = this.#code
    this.isInvalid =
      instruction.rex !== 0 ||
      instruction.hasLock ||
      instruction.hasOperandSizePrefix ||
      instruction.repeatPrefix !== 0
    let inverted = code.next()
    let map = 1
    let last = inverted
    if (first === 0xc4) {
      map = inverted & 0x1f
      last = code.next()
    } else {
      inverted |= 0x60
      last &= 0x7f
    }
    instruction.isVex = true
    // The three extension bits and vvvv are stored inverted; code other than 64-bit has eight registers.
    const isLong = codeBits === 64
    instruction.rex = isLong ? (~inverted >> 5) & (REX_R | REX_X | REX_B) : 0
    instruction.rexW = isLong && (last & 0x80) !== 0
    instruction.vexRegister = (~last >> 3) & (isLong ? 15 : 7)
    instruction.hasVexRegister = (last & 0x78) !== 0x78
    instruction.vexL = (last & 0x04) !== 0
    this.#vexPrefix = last & 3
    const opcode = code.next()
    if (map === 1) instruction.opcode = 0x0f00 | opcode
    else if (map === 2) instruction.opcode = 0x0f3800 | opcode
    else if (map === 3) instruction.opcode = 0x0f3a00 | opcode
    else instruction.opcode = -1
  }

  #sizeOperand(instruction: Instruction, codeBits: number): void {
    if (instruction.rexW) instruction.operandSize = 64
    else if (codeBits === 16) instruction.operandSize = instruction.hasOperandSizePrefix ? 32 : 16
    else instruction.operandSize = instruction.hasOperandSizePrefix ? 16 : 32
    // VEX has no operand-size prefix: 32 or, with W, 64 bits in any code.
    if (instruction.isVex && !instruction.rexW) instruction.operandSize = 32
  }

  #readModrm(instruction: Instruction): void {
    const modrm = this.#code.next()
    instruction.modrm = modrm
    instruction.isMemory = modrm < 0xc0
    instruction.reg = ((modrm >> 3) & 7) | ((instruction.rex & REX_R) << 1)
    instruction.rm = (modrm & 7) | ((instruction.rex & REX_B) << 3)
  }

  #readMemoryOperand(instruction: Instruction, codeBits: number): void {
    instruction.base = NO_REGISTER
    instruction.index = NO_REGISTER
    instruction.scale = 1
    instruction.displacement = 0
    instruction.isRipRelative = false
    if (instruction.addressSize === 16) this.#readMemoryOperand16(instruction)
    else this.#readMemoryOperand32(instruction, codeBits === 64)
    const isStack = instruction.base === REGISTER_SP || instruction.base === REGISTER_BP
    if (!this.#hasOverride) instruction.segment = isStack ? SEGMENT_SS : SEGMENT_DS
  }

  #readMemoryOperand16(instruction: Instruction): void {
    const mod = instruction.modrm >> 6
    const rm = instruction.modrm & 7
    if (mod === 0 && rm === REGISTER_SI) {
      instruction.displacement = this.#readDisplacement(2)
      return
    }
    instruction.base = BASE_16[rm] ?? NO_REGISTER
    instruction.index = INDEX_16[rm] ?? NO_REGISTER
    if (mod !== 0) instruction.displacement = this.#readDisplacement(mod)
  }

  #readMemoryOperand32(instruction: Instruction, isLong: boolean): void {
    const mod = instruction.modrm >> 6
    let base = instruction.modrm & 7
    const hasSib = base === REGISTER_SP
    if (hasSib) {
      const sib = this.#code.next()
      const index = ((sib >> 3) & 7) | ((instruction.rex & REX_X) << 2)
      if (index !== REGISTER_SP) {
        instruction.index = index
        instruction.scale = 1 << (sib >> 6)
      }
      base = sib & 7
    }
    if (mod === 0 && base === REGISTER_BP) {
      instruction.displacement = this.#readDisplacement(4)
      instruction.isRipRelative = isLong && !hasSib
      return
    }
    instruction.base = base | ((instruction.rex & REX_B) << 3)
    if (mod === 1) instruction.displacement = this.#readDisplacement(1)
    else if (mod === 2) instruction.displacement = this.#readDisplacement(4)
  }

  /** A signed displacement of 1, 2 or 4 bytes. */
  #readDisplacement(bytes: number): number {
    let value = 0
    for (let i = 0; i < bytes; i++) value |= this.#code.next() << (8 * i)
    const unused = 32 - 8 * bytes
    return (value << unused) >> unused
  }
}

/** VEX.pp for each mandatory prefix. */
const VEX_PREFIX = { np: 0, '66': 1, f3: 2, f2: 3 } as const

function matches(encoding: Encoding, instruction: Instruction, vexPrefix: number): boolean {
  const { modrm, digit, prefix } = encoding
  if (digit !== undefined && ((instruction.modrm >> 3) & 7) !== digit) return false
  if (modrm === 'memory' ? !instruction.isMemory : modrm === 'register' && instruction.isMemory) return false
  if (typeof modrm === 'number' && modrm !== instruction.modrm) return false
  if (prefix === undefined) return true
  if (instruction.isVex) return VEX_PREFIX[prefix] === vexPrefix
  switch (prefix) {
    case 'np':
      return instruction.repeatPrefix === 0 && !instruction.hasOperandSizePrefix
    case '66':
      return instruction.repeatPrefix === 0 && instruction.hasOperandSizePrefix
    case 'f2':
      return instruction.repeatPrefix === 0xf2
    case 'f3':
      return instruction.repeatPrefix === 0xf3
  }
}
