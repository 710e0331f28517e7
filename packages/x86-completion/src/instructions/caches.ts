/**
 * Fences, cache-line instructions and hints. Guest memory is coherent, so that what is left of them is their faults.
 * Intel SDM vol. 2.
 */

import type { Encoding, Instruction } from '../instruction.ts'
import type { Machine } from '../machine.ts'
import { ACCESS_READ } from '../paging.ts'

export const cacheEncodings: readonly Encoding[] = [
  fence('lfence', 5),
  fence('mfence', 6),
  fence('sfence', 7),
  { mnemonic: 'serialize', opcode: 0x0f01, prefix: 'np', modrm: 0xe8, execute: doNothing },
  lineFlush('clflush', 7, 'np'),
  lineFlush('clflushopt', 7, '66'),
  lineFlush('clwb', 6, '66'),
  hint('prefetchw', 0x0f0d, 'memory'),
  hint('prefetch', 0x0f18, 'either'),
  // The hint space: ENDBR32, ENDBR64, CLDEMOTE and the long NOP are in here.
  hint('nop', 0x0f19, 'either'),
  hint('nop', 0x0f1a, 'either'),
  hint('nop', 0x0f1b, 'either'),
  hint('nop', 0x0f1c, 'either'),
  hint('nop', 0x0f1d, 'either'),
  hint('nop', 0x0f1e, 'either'),
  hint('nop', 0x0f1f, 'either'),
]

function fence(mnemonic: string, digit: number): Encoding {
  return { mnemonic, opcode: 0x0fae, digit, prefix: 'np', modrm: 'register', execute: doNothing }
}

function lineFlush(mnemonic: string, digit: number, prefix: 'np' | '66'): Encoding {
  return { mnemonic, opcode: 0x0fae, digit, prefix, modrm: 'memory', execute: touchLine }
}

/** A hint's memory operand is not accessed. */
function hint(mnemonic: string, opcode: number, modrm: 'memory' | 'either'): Encoding {
  return { mnemonic, opcode, modrm, execute: doNothing }
}

function doNothing(): void {}

/** They fault like the load of a byte. */
function touchLine(machine: Machine, instruction: Instruction): void {
  machine.mapOperand(instruction, 1, ACCESS_READ)
}
