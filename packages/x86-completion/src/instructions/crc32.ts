/** CRC32 (the Castagnoli polynomial). Intel SDM vol. 2. */

import type { Encoding, Instruction } from '../instruction.ts'
import type { Machine } from '../machine.ts'

export const crc32Encodings: readonly Encoding[] = [
  {
    mnemonic: 'crc32 r/m8',
    opcode: 0x0f38f0,
    prefix: 'f2',
    modrm: 'either',
    execute: (machine, instruction) => accumulate(machine, instruction, 8),
  },
  {
    mnemonic: 'crc32',
    opcode: 0x0f38f1,
    prefix: 'f2',
    modrm: 'either',
    execute: (machine, instruction) => accumulate(machine, instruction, instruction.operandSize),
  },
]

/** 0x11edc6f41 without its top bit, bits reversed. */
const POLYNOMIAL = 0x82f63b78

const byteTable = /* @__PURE__ */ makeTable()

function makeTable(): Uint32Array {
  const table = new Uint32Array(256)
  for (let byte = 0; byte < 256; byte++) {
    let remainder = byte
    for (let bit = 0; bit < 8; bit++) {
      remainder = (remainder & 1) !== 0 ? (remainder >>> 1) ^ POLYNOMIAL : remainder >>> 1
    }
    table[byte] = remainder
  }
  return table
}

function accumulate(machine: Machine, instruction: Instruction, size: number): void {
  const source = machine.readRm(instruction, size)
  if (source === undefined) return
  const { registers } = machine
  let remainder = registers.get32(instruction.reg)
  for (let shift = 0; shift < size; shift += 8) {
    const byte = Number((source >> BigInt(shift)) & 0xffn)
    remainder = (remainder >>> 8) ^ (byteTable[(remainder ^ byte) & 0xff] ?? 0)
  }
  // REX.W or not, the upper half of the destination becomes zero.
  registers.set(instruction.reg, 64, BigInt(remainder >>> 0))
}
