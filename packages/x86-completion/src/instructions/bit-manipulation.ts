/** BMI1 and BMI2, the VEX-encoded instructions on general registers. Intel SDM vol. 2; AMD APM vol. 3. */

import { FLAG_CF, FLAG_OF, FLAG_SF, FLAG_ZF } from '../architecture.ts'
import type { Encoding, Instruction } from '../instruction.ts'
import type { Machine } from '../machine.ts'
import { REGISTER_RDX } from '../register-file.ts'

/** Computes a result of `size` bits from the ModRM.rm operand and the one that VEX.vvvv names. */
type Operation = (rm: bigint, vvvv: bigint, size: number) => bigint

export const bitManipulationEncodings: readonly Encoding[] = [
  toReg('andn', 0x0f38f2, 'np', (rm, vvvv) => ~vvvv & rm, setLogicFlags),
  toReg('bextr', 0x0f38f7, 'np', extract, setZeroFlag),
  toReg('bzhi', 0x0f38f5, 'np', zeroHigh, setZeroHighFlags),
  toReg('pdep', 0x0f38f5, 'f2', (rm, vvvv) => deposit(vvvv, rm)),
  toReg('pext', 0x0f38f5, 'f3', (rm, vvvv) => gather(vvvv, rm)),
  toReg('shlx', 0x0f38f7, '66', (rm, vvvv, size) => rm << shiftCount(vvvv, size)),
  toReg('shrx', 0x0f38f7, 'f2', (rm, vvvv, size) => rm >> shiftCount(vvvv, size)),
  toReg('sarx', 0x0f38f7, 'f3', (rm, vvvv, size) => BigInt.asIntN(size, rm) >> shiftCount(vvvv, size)),
  lowestBit(
    'blsr',
    1,
    (rm) => rm & (rm - 1n),
    (rm) => rm === 0n,
  ),
  lowestBit(
    'blsmsk',
    2,
    (rm) => rm ^ (rm - 1n),
    (rm) => rm === 0n,
  ),
  lowestBit(
    'blsi',
    3,
    (rm) => rm & -rm,
    (rm) => rm !== 0n,
  ),
  { mnemonic: 'mulx', opcode: 0x0f38f6, prefix: 'f2', modrm: 'either', vex: true, execute: multiply },
  {
    mnemonic: 'rorx',
    opcode: 0x0f3af0,
    prefix: 'f2',
    modrm: 'either',
    vex: true,
    vvvv: 'unused',
    immediate: 1,
    execute: rotate,
  },
]

/** Sets flags from an operation's result and its VEX.vvvv operand. */
type FlagSetter = (machine: Machine, result: bigint, vvvv: bigint, size: number) => void

/** A row whose result goes to ModRM.reg. */
function toReg(
  mnemonic: string,
  opcode: number,
  prefix: 'np' | '66' | 'f2' | 'f3',
  operation: Operation,
  setFlags?: FlagSetter,
): Encoding {
  const execute = (machine: Machine, instruction: Instruction): void => {
    const { registers } = machine
    const size = instruction.operandSize
    const rm = readOperand(machine, instruction)
    if (rm === undefined) return
    const vvvv = registers.get(instruction.vexRegister, size)
    const result = BigInt.asUintN(size, operation(rm, vvvv, size))
    registers.set(instruction.reg, size, result)
    setFlags?.(machine, result, vvvv, size)
  }
  return { mnemonic, opcode, prefix, modrm: 'either', vex: true, execute }
}

/** A row of group 17, whose result goes to VEX.vvvv; `carries` tells CF from the operand. */
function lowestBit(
  mnemonic: string,
  digit: number,
  operation: (rm: bigint) => bigint,
  carries: (rm: bigint) => boolean,
): Encoding {
  const execute = (machine: Machine, instruction: Instruction): void => {
    const size = instruction.operandSize
    const rm = readOperand(machine, instruction)
    if (rm === undefined) return
    const result = BigInt.asUintN(size, operation(rm))
    machine.registers.set(instruction.vexRegister, size, result)
    setLogicFlags(machine, result, 0n, size)
    machine.registers.setFlags(FLAG_CF, carries(rm) ? FLAG_CF : 0)
  }
  return { mnemonic, opcode: 0x0f38f3, digit, prefix: 'np', modrm: 'either', vex: true, execute }
}

function multiply(machine: Machine, instruction: Instruction): void {
  const { registers } = machine
  const size = instruction.operandSize
  const rm = readOperand(machine, instruction)
  if (rm === undefined) return
  const product = rm * registers.get(REGISTER_RDX, size)
  // The low half first: where both go to one register, it is to hold the high half.
  registers.set(instruction.vexRegister, size, BigInt.asUintN(size, product))
  registers.set(instruction.reg, size, product >> BigInt(size))
}

function rotate(machine: Machine, instruction: Instruction): void {
  const size = instruction.operandSize
  const rm = readOperand(machine, instruction)
  if (rm === undefined) return
  const count = shiftCount(BigInt(instruction.immediate), size)
  const rotated = (rm >> count) | (rm << (BigInt(size) - count))
  machine.registers.set(instruction.reg, size, BigInt.asUintN(size, rotated))
}

/** The ModRM.rm operand; undefined with a fault raised. VEX.L has to be 0. */
function readOperand(machine: Machine, instruction: Instruction): bigint | undefined {
  if (instruction.vexL) machine.invalidOpcode()
  return instruction.vexL ? undefined : machine.readRm(instruction)
}

function shiftCount(value: bigint, size: number): bigint {
  return value & BigInt(size - 1)
}

/** BEXTR: start in bits 7 to 0 of the control, length in 15 to 8. */
function extract(rm: bigint, control: bigint): bigint {
  return (rm >> (control & 0xffn)) & ((1n << ((control >> 8n) & 0xffn)) - 1n)
}

function zeroHigh(rm: bigint, index: bigint, size: number): bigint {
  const kept = index & 0xffn
  return kept < BigInt(size) ? BigInt.asUintN(Number(kept), rm) : rm
}

/** Spreads the low bits of `source` over the places that are set in `mask`. */
function deposit(source: bigint, mask: bigint): bigint {
  let result = 0n
  let next = source
  for (let rest = mask; rest !== 0n; rest &= rest - 1n) {
    if ((next & 1n) !== 0n) result |= rest & -rest
    next >>= 1n
  }
  return result
}

/** Collects the bits of `source` at the places that are set in `mask`. */
function gather(source: bigint, mask: bigint): bigint {
  let result = 0n
  let place = 1n
  for (let rest = mask; rest !== 0n; rest &= rest - 1n) {
    if ((source & rest & -rest) !== 0n) result |= place
    place <<= 1n
  }
  return result
}

/** SF and ZF tell of the result; CF and OF become 0; AF and PF are undefined, and left. */
function setLogicFlags(machine: Machine, result: bigint, _vvvv: bigint, size: number): void {
  const sign = result >> BigInt(size - 1) !== 0n ? FLAG_SF : 0
  machine.registers.setFlags(FLAG_CF | FLAG_OF | FLAG_SF | FLAG_ZF, sign | (result === 0n ? FLAG_ZF : 0))
}

/** BEXTR leaves SF undefined. */
function setZeroFlag(machine: Machine, result: bigint): void {
  machine.registers.setFlags(FLAG_CF | FLAG_OF | FLAG_ZF, result === 0n ? FLAG_ZF : 0)
}

/** BZHI carries when the index is beyond the operand. */
function setZeroHighFlags(machine: Machine, result: bigint, index: bigint, size: number): void {
  setLogicFlags(machine, result, index, size)
  machine.registers.setFlags(FLAG_CF, (index & 0xffn) >= BigInt(size) ? FLAG_CF : 0)
}
