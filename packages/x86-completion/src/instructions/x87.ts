/**
 * The x87 instructions that kernels execute to set up and check the FPU: no arithmetic. Intel SDM vol. 1, chapter 8, and
 * vol. 2.
 */

import { CR0_EM, CR0_MP, CR0_NE, CR0_TS } from '../architecture.ts'
import type { Encoding, Instruction } from '../instruction.ts'
import type { Machine } from '../machine.ts'
import { ACCESS_READ, ACCESS_WRITE } from '../paging.ts'
import { REGISTER_RAX } from '../register-file.ts'
import { VECTOR_MF, VECTOR_NM, VECTOR_UD } from '../vectors.ts'
import {
  FCW_INITIAL,
  FCW_OFFSET,
  FDP_OFFSET,
  FIP_OFFSET,
  FOP_OFFSET,
  FSW_OFFSET,
  FTW_OFFSET,
  XSAVE_X87,
} from '../xsave-layout.ts'
import { hasPendingX87Exception, resetX87Top, setControlWord, summariseX87Exceptions } from './fx-region.ts'

export const x87Encodings: readonly Encoding[] = [
  { mnemonic: 'fwait', opcode: 0x9b, execute: wait },
  { mnemonic: 'fldcw', opcode: 0xd9, digit: 5, modrm: 'memory', execute: loadControl },
  { mnemonic: 'fnstcw', opcode: 0xd9, digit: 7, modrm: 'memory', execute: storeControl },
  { mnemonic: 'fnclex', opcode: 0xdb, modrm: 0xe2, execute: clearExceptions },
  { mnemonic: 'fninit', opcode: 0xdb, modrm: 0xe3, execute: initialise },
  { mnemonic: 'fnstsw', opcode: 0xdd, digit: 7, modrm: 'memory', execute: storeStatus },
  { mnemonic: 'fnstsw ax', opcode: 0xdf, modrm: 0xe0, execute: storeStatusInAx },
  { mnemonic: 'emms', opcode: 0x0f77, prefix: 'np', execute: emptyMmx },
]

const WORD_SIZE = 2
/** Condition codes and TOP: what FNCLEX leaves of the status word. */
const FSW_CONDITIONS = 0x7f00

/** FWAIT looks at MP with TS, and not at EM. */
function wait(machine: Machine): void {
  const mask = CR0_MP | CR0_TS
  if ((machine.cr0 & mask) === mask) machine.faults.raise(VECTOR_NM)
  else isNothingPending(machine)
}

function loadControl(machine: Machine, instruction: Instruction): void {
  if (!isUsable(machine) || !isNothingPending(machine)) return
  if (!machine.mapOperand(instruction, WORD_SIZE, ACCESS_READ)) return
  const image = machine.changeXsave()
  image.use(XSAVE_X87)
  setControlWord(image, machine.operand.view.getUint16(0, true))
  summariseX87Exceptions(image)
}

function storeControl(machine: Machine, instruction: Instruction): void {
  if (isUsable(machine)) storeWord(machine, instruction, FCW_OFFSET)
}

function storeStatus(machine: Machine, instruction: Instruction): void {
  if (isUsable(machine)) storeWord(machine, instruction, FSW_OFFSET)
}

function storeStatusInAx(machine: Machine): void {
  if (!isUsable(machine)) return
  machine.registers.set(REGISTER_RAX, 16, BigInt(machine.xsave.view.getUint16(FSW_OFFSET, true)))
}

function clearExceptions(machine: Machine): void {
  if (!isUsable(machine)) return
  const { view } = machine.changeXsave()
  view.setUint16(FSW_OFFSET, view.getUint16(FSW_OFFSET, true) & FSW_CONDITIONS, true)
}

/** The registers keep their values, and count as empty. */
function initialise(machine: Machine): void {
  if (!isUsable(machine)) return
  const image = machine.changeXsave()
  const { view } = image
  image.use(XSAVE_X87)
  resetX87Top(image)
  view.setUint16(FCW_OFFSET, FCW_INITIAL, true)
  view.setUint16(FSW_OFFSET, 0, true)
  view.setUint16(FTW_OFFSET, 0, true)
  view.setUint16(FOP_OFFSET, 0, true)
  view.setBigUint64(FIP_OFFSET, 0n, true)
  view.setBigUint64(FDP_OFFSET, 0n, true)
}

/** EMMS belongs to MMX, for which CR0.EM means `#UD`. TOP becomes 0 as with every MMX instruction. */
function emptyMmx(machine: Machine): void {
  if ((machine.cr0 & CR0_EM) !== 0) machine.faults.raise(VECTOR_UD)
  if (!isUsable(machine) || !isNothingPending(machine)) return
  const image = machine.changeXsave()
  image.use(XSAVE_X87)
  image.view.setUint16(FTW_OFFSET, 0, true)
  resetX87Top(image)
}

function storeWord(machine: Machine, instruction: Instruction, offset: number): void {
  if (!machine.mapOperand(instruction, WORD_SIZE, ACCESS_WRITE)) return
  machine.operand.view.setUint16(0, machine.xsave.view.getUint16(offset, true), true)
  machine.operand.store()
}

function isUsable(machine: Machine): boolean {
  return (machine.cr0 & (CR0_EM | CR0_TS)) === 0 || machine.faults.raise(VECTOR_NM)
}

/** `#MF` for a pending exception. Without CR0.NE the CPU would signal FERR#, which is not modelled: none is raised. */
function isNothingPending(machine: Machine): boolean {
  const isPending = (machine.cr0 & CR0_NE) !== 0 && hasPendingX87Exception(machine.xsave)
  return !isPending || machine.faults.raise(VECTOR_MF)
}
