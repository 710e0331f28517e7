/**
 * Logical to linear addresses: effective address, segment base, limit, type and canonical checks.
 * Intel SDM vol. 1, section 3.7.5 and vol. 3, section 6.3 to 6.5.
 */

import { CR4_LA57 } from './architecture.ts'
import type { SegmentRegister, SpecialRegisters } from './context.ts'
import type { Faults } from './faults.ts'
import {
  type Instruction,
  NO_REGISTER,
  SEGMENT_CS,
  SEGMENT_ES,
  SEGMENT_FS,
  SEGMENT_GS,
  SEGMENT_SS,
} from './instruction.ts'
import type { OperatingMode } from './mode.ts'
import type { RegisterFile } from './register-file.ts'
import { VECTOR_GP, VECTOR_SS } from './vectors.ts'

const TYPE_CODE = 1 << 3
/** Of data segments. */
const TYPE_EXPAND_DOWN = 1 << 2
/** Writable for data, readable for code. */
const TYPE_READ_WRITE = 1 << 1

/** The effective address of an instruction's memory operand, wrapped to the address size. */
export function effectiveAddress(instruction: Instruction, registers: RegisterFile): bigint {
  let address = BigInt(instruction.displacement)
  if (instruction.isRipRelative) address += registers.rip + BigInt(instruction.length)
  if (instruction.base !== NO_REGISTER) address += registers.get64(instruction.base)
  if (instruction.index !== NO_REGISTER) {
    address += registers.get64(instruction.index) * BigInt(instruction.scale)
  }
  return BigInt.asUintN(instruction.addressSize, address)
}

export function segmentRegister(special: SpecialRegisters, segment: number): SegmentRegister {
  switch (segment) {
    case SEGMENT_ES:
      return special.es
    case SEGMENT_CS:
      return special.cs
    case SEGMENT_SS:
      return special.ss
    case SEGMENT_FS:
      return special.fs
    case SEGMENT_GS:
      return special.gs
    default:
      return special.ds
  }
}

/** Is the address canonical: are all its bits above the 48th (57th with LA57) copies of that one? */
export function isCanonical(linear: bigint, cr4: number): boolean {
  const bits = (cr4 & CR4_LA57) !== 0 ? 57 : 48
  return BigInt.asUintN(64, BigInt.asIntN(bits, linear)) === linear
}

/**
 * The linear address of `size` bytes at `offset` in a segment; undefined, with `#GP(0)` or `#SS(0)` raised, if the segment
 * does not allow the access or the address is not canonical, or with `#GP(0)` if it is no multiple of `alignment`.
 */
export function linearAddress(
  special: SpecialRegisters,
  mode: OperatingMode,
  segment: number,
  offset: bigint,
  size: number,
  alignment: number,
  isWrite: boolean,
  faults: Faults,
): bigint | undefined {
  const vector = segment === SEGMENT_SS ? VECTOR_SS : VECTOR_GP
  const register = segmentRegister(special, segment)
  if (mode === 'long') {
    const base = segment === SEGMENT_FS || segment === SEGMENT_GS ? register.base : 0n
    const linear = BigInt.asUintN(64, base + offset)
    // Before the canonical check: CPUs (AMD's, measured) raise #GP rather than #SS where both go wrong.
    if (!isMultiple(linear, alignment)) return refuse(faults, VECTOR_GP)
    const cr4 = Number(special.cr4 & 0xffffffffn)
    const last = BigInt.asUintN(64, linear + BigInt(size - 1))
    return isCanonical(linear, cr4) && isCanonical(last, cr4) ? linear : refuse(faults, vector)
  }
  const isProtected = mode === 'protected' || mode === 'compatibility'
  if ((isProtected && !isAllowed(register, isWrite)) || !isWithinLimit(register, Number(offset), size)) {
    return refuse(faults, vector)
  }
  const linear = BigInt.asUintN(32, register.base + offset)
  return isMultiple(linear, alignment) ? linear : refuse(faults, VECTOR_GP)
}

/** The linear address of code at `offset` in CS; undefined, with `#GP(0)` raised, if there can be none. */
export function codeAddress(
  special: SpecialRegisters,
  mode: OperatingMode,
  offset: bigint,
  faults: Faults,
): bigint | undefined {
  if (mode === 'long') {
    const linear = BigInt.asUintN(64, offset)
    if (isCanonical(linear, Number(special.cr4 & 0xffffffffn))) return linear
  } else if (offset <= BigInt(special.cs.limit)) {
    return BigInt.asUintN(32, special.cs.base + offset)
  }
  return refuse(faults, VECTOR_GP)
}

function refuse(faults: Faults, vector: number): undefined {
  faults.raise(vector, 0)
  return undefined
}

/** `alignment` is a power of two, 256 at most. */
function isMultiple(linear: bigint, alignment: number): boolean {
  return (Number(linear & 0xffn) & (alignment - 1)) === 0
}

function isAllowed(register: SegmentRegister, isWrite: boolean): boolean {
  if (register.unusable !== 0) return false
  const isCode = (register.type & TYPE_CODE) !== 0
  const isReadWrite = (register.type & TYPE_READ_WRITE) !== 0
  return isWrite ? !isCode && isReadWrite : !isCode || isReadWrite
}

function isWithinLimit(register: SegmentRegister, offset: number, size: number): boolean {
  const last = offset + size - 1
  if ((register.type & (TYPE_CODE | TYPE_EXPAND_DOWN)) === TYPE_EXPAND_DOWN) {
    return offset > register.limit && last <= (register.db !== 0 ? 0xffffffff : 0xffff)
  }
  return last <= register.limit
}
