/** POPCNT, LZCNT, TZCNT. Intel SDM vol. 2; which flags are undefined: AMD APM vol. 3. */

import { FLAG_CF, FLAG_ZF, FLAGS_STATUS } from '../architecture.ts'
import type { Encoding, Instruction } from '../instruction.ts'
import type { Machine } from '../machine.ts'

export const bitCountEncodings: readonly Encoding[] = [
  { mnemonic: 'popcnt', opcode: 0x0fb8, prefix: 'f3', modrm: 'either', execute: populationCount },
  { mnemonic: 'tzcnt', opcode: 0x0fbc, prefix: 'f3', modrm: 'either', execute: trailingZeros },
  { mnemonic: 'lzcnt', opcode: 0x0fbd, prefix: 'f3', modrm: 'either', execute: leadingZeros },
]

function populationCount(machine: Machine, instruction: Instruction): void {
  const value = machine.readRm(instruction)
  if (value === undefined) return
  const count = bitCount(Number(value & 0xffffffffn)) + bitCount(Number(value >> 32n))
  machine.registers.set(instruction.reg, instruction.operandSize, BigInt(count))
  machine.registers.setFlags(FLAGS_STATUS, count === 0 ? FLAG_ZF : 0)
}

function trailingZeros(machine: Machine, instruction: Instruction): void {
  const value = machine.readRm(instruction)
  if (value === undefined) return
  const low = Number(value & 0xffffffffn)
  // The lowest bit alone, so that its leading zeros tell its place.
  const count = low !== 0 ? 31 - Math.clz32(low & -low) : 32 + trailingZerosOfHigh(Number(value >> 32n))
  setCount(machine, instruction, Math.min(count, instruction.operandSize))
}

function trailingZerosOfHigh(high: number): number {
  return high === 0 ? 32 : 31 - Math.clz32(high & -high)
}

function leadingZeros(machine: Machine, instruction: Instruction): void {
  const value = machine.readRm(instruction)
  if (value === undefined) return
  const high = Number(value >> 32n)
  const count = high !== 0 ? Math.clz32(high) : 32 + Math.clz32(Number(value & 0xffffffffn))
  setCount(machine, instruction, count - (64 - instruction.operandSize))
}

/** CF tells that the source was zero, ZF that the count is; the other status flags are undefined, and left. */
function setCount(machine: Machine, instruction: Instruction, count: number): void {
  machine.registers.set(instruction.reg, instruction.operandSize, BigInt(count))
  const carry = count === instruction.operandSize ? FLAG_CF : 0
  machine.registers.setFlags(FLAG_CF | FLAG_ZF, carry | (count === 0 ? FLAG_ZF : 0))
}

/** Bits set in a 32-bit number: sums of pairs, nibbles, bytes; Hacker's Delight, section 5-1. */
function bitCount(word: number): number {
  const pairs = word - ((word >>> 1) & 0x55555555)
  const nibbles = (pairs & 0x33333333) + ((pairs >>> 2) & 0x33333333)
  const bytes = (nibbles + (nibbles >>> 4)) & 0x0f0f0f0f
  return Math.imul(bytes, 0x01010101) >>> 24
}
