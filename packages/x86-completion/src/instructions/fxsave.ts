/** FXSAVE and FXRSTOR. Intel SDM vol. 2; AMD APM vol. 2, section 11.4.4, for EFER.FFXSR. */

import { CR0_EM, CR0_TS, EFER_FFXSR } from '../architecture.ts'
import type { Encoding, Instruction } from '../instruction.ts'
import type { Machine } from '../machine.ts'
import { ACCESS_READ, ACCESS_WRITE } from '../paging.ts'
import { VECTOR_NM } from '../vectors.ts'
import { MXCSR_OFFSET } from '../xsave-layout.ts'
import { addFxPieces, restoreX87, restoreXmm, saveMxcsr, saveX87, saveXmm } from './fx-region.ts'

export const fxsaveEncodings: readonly Encoding[] = [
  { mnemonic: 'fxsave', opcode: 0x0fae, digit: 0, prefix: 'np', modrm: 'memory', execute: save },
  { mnemonic: 'fxrstor', opcode: 0x0fae, digit: 1, prefix: 'np', modrm: 'memory', execute: restore },
]

const AREA_SIZE = 512
const AREA_ALIGNMENT = 16
/** What #AC goes by. */
const CHECKED_ALIGNMENT = 4

function save(machine: Machine, instruction: Instruction): void {
  const linear = checkedAddress(machine, instruction, ACCESS_WRITE)
  if (linear === undefined) return
  const hasXmm = !isFast(machine)
  if (!mapArea(machine, linear, ACCESS_WRITE, hasXmm)) return
  const { operand, xsave } = machine
  saveX87(xsave, operand.bytes, instruction.rexW)
  saveMxcsr(xsave, operand.view)
  if (hasXmm) saveXmm(machine, operand.bytes)
  operand.store()
}

function restore(machine: Machine, instruction: Instruction): void {
  const linear = checkedAddress(machine, instruction, ACCESS_READ)
  if (linear === undefined) return
  const hasXmm = !isFast(machine)
  if (!mapArea(machine, linear, ACCESS_READ, hasXmm)) return
  const { operand } = machine
  const image = machine.changeXsave()
  const mxcsr = operand.view.getUint32(MXCSR_OFFSET, true)
  if ((mxcsr & ~image.mxcsrMask) !== 0) {
    machine.generalProtection()
    return
  }
  restoreX87(image, operand.bytes, instruction.rexW)
  image.mxcsr = mxcsr
  if (hasXmm) restoreXmm(machine, operand.bytes)
}

function checkedAddress(machine: Machine, instruction: Instruction, access: number): bigint | undefined {
  if ((machine.cr0 & (CR0_EM | CR0_TS)) !== 0) {
    machine.faults.raise(VECTOR_NM)
    return undefined
  }
  // Unlike XSAVE's, this alignment is looked at last, after that of alignment checks (AMD, measured).
  const linear = machine.operandAddress(instruction, AREA_SIZE, access, 1)
  if (linear === undefined || !machine.isAligned(linear, CHECKED_ALIGNMENT)) return undefined
  if ((Number(linear & 0xffn) & (AREA_ALIGNMENT - 1)) !== 0) machine.generalProtection()
  return machine.faults.areNone ? linear : undefined
}

/** Faults where any byte of the 512 would, whether it is used or not; CPUs (AMD's, measured) look at the last one first. */
function mapArea(machine: Machine, linear: bigint, access: number, hasXmm: boolean): boolean {
  const { operand } = machine
  const last = BigInt.asUintN(64, linear + BigInt(AREA_SIZE - 1))
  if (!operand.probe(last, access) || !operand.probe(linear, access)) return false
  operand.pieces.clear()
  addFxPieces(operand.pieces, machine, true, true, hasXmm)
  return operand.mapPieces(linear, operand.pieces, access)
}

/** AMD's fast mode: at CPL 0 in 64-bit code XMM registers are left out. */
function isFast(machine: Machine): boolean {
  return machine.codeBits === 64 && machine.cpl === 0 && (machine.efer & EFER_FFXSR) !== 0
}
