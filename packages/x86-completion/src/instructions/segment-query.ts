/**
 * VERR, VERW, LAR and LSL: what a selector's descriptor allows. Linux executes VERW on its way out to user space, as
 * a mitigation on Intel's CPUs. Intel SDM vol. 2; vol. 3, section 6.10.
 */

import { EFER_LMA, FLAG_ZF } from '../architecture.ts'
import type { Encoding, Instruction } from '../instruction.ts'
import type { Machine } from '../machine.ts'
import { ACCESS_IMPLICIT } from '../paging.ts'

export const segmentQueryEncodings: readonly Encoding[] = [
  { mnemonic: 'verr', opcode: 0x0f00, digit: 4, modrm: 'either', execute: verifyRead },
  { mnemonic: 'verw', opcode: 0x0f00, digit: 5, modrm: 'either', execute: verifyWrite },
  { mnemonic: 'lar', opcode: 0x0f02, modrm: 'either', execute: loadAccessRights },
  { mnemonic: 'lsl', opcode: 0x0f03, modrm: 'either', execute: loadLimit },
]

const DESCRIPTOR_SIZE = 8
const SELECTOR_LDT = 0b100
const SELECTOR_RPL = 0b011

// In the descriptor's upper half.
const TYPE_SHIFT = 8
const NOT_SYSTEM = 1 << 12
const DPL_SHIFT = 13
const GRANULAR = 1 << 23
const ACCESS_RIGHTS = 0x00f0ff00
const LIMIT_HIGH = 0x000f0000

const TYPE_CODE = 0b1000
const TYPE_CONFORMING = 0b0100
const TYPE_READ_WRITE = 0b0010

/** System descriptor types that the two instructions take; a bit each. 286 ones are none in long mode. */
const LAR_TYPES = typeSet(1, 2, 3, 4, 5, 9, 11, 12)
const LAR_TYPES_LONG = typeSet(2, 9, 11, 12)
const LSL_TYPES = typeSet(1, 2, 3, 9, 11)
const LSL_TYPES_LONG = typeSet(2, 9, 11)

function typeSet(...types: number[]): number {
  return types.reduce((set, type) => set | (1 << type), 0)
}

function verifyRead(machine: Machine, instruction: Instruction): void {
  query(machine, instruction, 0, 0, (_low, high) => {
    const type = typeOf(high)
    return (type & TYPE_CODE) === 0 || (type & TYPE_READ_WRITE) !== 0
  })
}

function verifyWrite(machine: Machine, instruction: Instruction): void {
  query(
    machine,
    instruction,
    0,
    0,
    (_low, high) => (typeOf(high) & (TYPE_CODE | TYPE_READ_WRITE)) === TYPE_READ_WRITE,
  )
}

function loadAccessRights(machine: Machine, instruction: Instruction): void {
  query(machine, instruction, LAR_TYPES, LAR_TYPES_LONG, (_low, high) => {
    machine.registers.set(instruction.reg, instruction.operandSize, BigInt(high & ACCESS_RIGHTS))
    return true
  })
}

function loadLimit(machine: Machine, instruction: Instruction): void {
  query(machine, instruction, LSL_TYPES, LSL_TYPES_LONG, (low, high) => {
    const limit = (high & LIMIT_HIGH) | (low & 0xffff)
    const bytes = (high & GRANULAR) !== 0 ? limit * 4096 + 4095 : limit
    machine.registers.set(instruction.reg, instruction.operandSize, BigInt(bytes))
    return true
  })
}

/**
 * Looks up the descriptor of the selector operand. ZF becomes what `use` makes of it, and 0 if there is none that the
 * current privilege level may see. `types` are the system types allowed outside long mode, `typesLong` those in it.
 */
function query(
  machine: Machine,
  instruction: Instruction,
  types: number,
  typesLong: number,
  use: (low: number, high: number) => boolean,
): void {
  if (machine.mode === 'real' || machine.mode === 'virtual-8086') {
    machine.invalidOpcode()
    return
  }
  const operand = machine.readRm(instruction, 16)
  if (operand === undefined) return
  const selector = Number(operand)
  const linear = descriptorAddress(machine, selector)
  let isVisible = false
  if (linear !== undefined) {
    if (!machine.operand.map(linear, DESCRIPTOR_SIZE, ACCESS_IMPLICIT)) return
    const low = machine.operand.view.getUint32(0, true)
    const high = machine.operand.view.getUint32(4, true)
    const allowed = (machine.efer & EFER_LMA) !== 0 ? typesLong : types
    isVisible = isAllowed(machine.cpl, selector, high, allowed) && use(low, high)
  }
  machine.registers.setFlags(FLAG_ZF, isVisible ? FLAG_ZF : 0)
}

/** Where the descriptor is; undefined for a null selector and beyond its table's limit. */
function descriptorAddress({ special, mode }: Machine, selector: number): bigint | undefined {
  if ((selector & ~SELECTOR_RPL) === 0) return undefined
  const isLocal = (selector & SELECTOR_LDT) !== 0
  if (isLocal && special.ldt.unusable !== 0) return undefined
  const table = isLocal ? special.ldt : special.gdt
  const offset = selector & ~(SELECTOR_LDT | SELECTOR_RPL)
  if (offset + DESCRIPTOR_SIZE - 1 > table.limit) return undefined
  return BigInt.asUintN(mode === 'long' ? 64 : 32, table.base + BigInt(offset))
}

function isAllowed(cpl: number, selector: number, high: number, systemTypes: number): boolean {
  const type = typeOf(high)
  const isSystem = (high & NOT_SYSTEM) === 0
  if (isSystem && (systemTypes & (1 << type)) === 0) return false
  const isConforming = !isSystem && (type & TYPE_CODE) !== 0 && (type & TYPE_CONFORMING) !== 0
  const dpl = (high >> DPL_SHIFT) & 3
  return isConforming || dpl >= Math.max(cpl, selector & SELECTOR_RPL)
}

function typeOf(high: number): number {
  return (high >> TYPE_SHIFT) & 0b1111
}
