/**
 * XSAVE, XSAVEOPT, XSAVEC, XSAVES, XRSTOR and XRSTORS. Intel SDM vol. 1, sections 13.7 to 13.12, and the instructions'
 * pages in vol. 2; AMD APM vol. 4.
 *
 * XSAVEOPT's modified optimisation is not used: it is allowed to write what has not changed. Instruction and data pointers of
 * x87 are always saved and restored, as Intel's CPUs do and AMD's with CPUID XSaveErPtr.
 */

import { CR0_TS, CR4_OSXSAVE } from '../architecture.ts'
import type { XsaveComponent } from '../features.ts'
import type { Encoding, Instruction } from '../instruction.ts'
import type { Machine } from '../machine.ts'
import { ACCESS_READ, ACCESS_WRITE } from '../paging.ts'
import { VECTOR_NM } from '../vectors.ts'
import {
  EXTENDED_OFFSET,
  HEADER_SIZE,
  MXCSR_INITIAL,
  MXCSR_OFFSET,
  XCOMP_BV_OFFSET,
  XCOMP_COMPACTED,
  XSAVE_AVX,
  XSAVE_SSE,
  XSAVE_X87,
  XSTATE_BV_OFFSET,
} from '../xsave-layout.ts'
import { addFxPieces, restoreX87, restoreXmm, saveMxcsr, saveX87, saveXmm, xmmEnd } from './fx-region.ts'
import { loadSupervisorState, saveSupervisorState, supervisorInUse } from './supervisor-state.ts'

const MSR_IA32_XSS = 0xda0
const AREA_ALIGNMENT = 64

const INDEX_AVX = 2
const INDEX_ZMM_HI256 = 6
const INDEX_HI16_ZMM = 7

type Format = 'standard' | 'optimised' | 'compacted'

export const xsaveEncodings: readonly Encoding[] = [
  xsaveRow('xsave', 0x0fae, 4, (machine, instruction) => save(machine, instruction, 'standard', false)),
  xsaveRow('xsaveopt', 0x0fae, 6, (machine, instruction) => save(machine, instruction, 'optimised', false)),
  xsaveRow('xsavec', 0x0fc7, 4, (machine, instruction) => save(machine, instruction, 'compacted', false)),
  xsaveRow('xsaves', 0x0fc7, 5, (machine, instruction) => save(machine, instruction, 'compacted', true)),
  xsaveRow('xrstor', 0x0fae, 5, (machine, instruction) => restore(machine, instruction, false)),
  xsaveRow('xrstors', 0x0fc7, 3, (machine, instruction) => restore(machine, instruction, true)),
]

function xsaveRow(mnemonic: string, opcode: number, digit: number, execute: Encoding['execute']): Encoding {
  return { mnemonic, opcode, digit, prefix: 'np', modrm: 'memory', execute }
}

function save(machine: Machine, instruction: Instruction, format: Format, isSupervisor: boolean): void {
  const linear = checkedAddress(machine, instruction, ACCESS_WRITE, isSupervisor)
  if (linear === undefined) return
  const requested = requestedComponents(machine, isSupervisor)
  if (requested === undefined) return
  const { operand, layout } = machine
  const { pieces } = operand
  const image = machine.xsave
  const isCompacted = format === 'compacted'
  // XRSTOR loads MXCSR from a standard-format area whether SSE is in use or not; a compacted one must say so.
  const userInUse = isCompacted ? image.inUseWithMxcsr : image.inUse
  const inUse = (userInUse | supervisorInUse(machine, requested)) & requested
  const saved = format === 'standard' ? requested : inUse
  const xcompBv = isCompacted ? requested | XCOMP_COMPACTED : 0n
  if (!operand.probe(linear, ACCESS_WRITE) || !probeEnd(machine, linear, requested, xcompBv, ACCESS_WRITE))
    return

  const hasX87 = (saved & XSAVE_X87) !== 0n
  const hasXmm = (saved & XSAVE_SSE) !== 0n
  // Outside of compacted areas MXCSR goes with SSE or AVX, in use or not.
  const hasMxcsr = isCompacted ? hasXmm : (requested & (XSAVE_SSE | XSAVE_AVX)) !== 0n
  pieces.clear()
  addFxPieces(pieces, machine, hasX87, hasMxcsr, hasXmm)
  pieces.add(XSTATE_BV_OFFSET, isCompacted ? 16 : 8)
  for (const component of layout.components) {
    const size = sizeInMode(machine, component)
    if ((saved & bitOf(component)) !== 0n && size !== 0) pieces.add(layout.offsetIn(component, xcompBv), size)
  }
  if (!operand.mapPieces(linear, pieces, ACCESS_WRITE)) return

  if (hasX87) saveX87(image, operand.bytes, instruction.rexW)
  if (hasMxcsr) saveMxcsr(image, operand.view)
  if (hasXmm) saveXmm(machine, operand.bytes)
  for (const component of layout.components) {
    if ((saved & bitOf(component)) === 0n) continue
    const to = layout.offsetIn(component, xcompBv)
    const { offset, supervisor } = component
    if (supervisor) saveSupervisorState(machine, component, to)
    else operand.bytes.set(image.area.subarray(offset, offset + sizeInMode(machine, component)), to)
  }
  if (isCompacted) {
    operand.view.setBigUint64(XSTATE_BV_OFFSET, inUse, true)
    operand.view.setBigUint64(XCOMP_BV_OFFSET, xcompBv, true)
  } else {
    const others = operand.view.getBigUint64(XSTATE_BV_OFFSET, true) & ~requested
    operand.view.setBigUint64(XSTATE_BV_OFFSET, others | inUse, true)
  }
  if (machine.faults.areNone) operand.store()
}

function restore(machine: Machine, instruction: Instruction, isSupervisor: boolean): void {
  const linear = checkedAddress(machine, instruction, ACCESS_READ, isSupervisor)
  if (linear === undefined) return
  const requested = requestedComponents(machine, isSupervisor)
  if (requested === undefined) return
  const { operand, layout } = machine
  const { pieces } = operand
  pieces.clear()
  pieces.add(XSTATE_BV_OFFSET, HEADER_SIZE)
  if (!operand.probe(linear, ACCESS_READ) || !operand.mapPieces(linear, pieces, ACCESS_READ)) return
  const xstateBv = operand.view.getBigUint64(XSTATE_BV_OFFSET, true)
  const xcompBv = operand.view.getBigUint64(XCOMP_BV_OFFSET, true)
  const isCompacted = (xcompBv & XCOMP_COMPACTED) !== 0n
  if (!isHeaderValid(machine, xstateBv, xcompBv, isSupervisor)) {
    machine.generalProtection()
    return
  }
  // The header is valid: a compacted one has no bit in XSTATE_BV that XCOMP_BV lacks.
  const restored = requested & xstateBv
  if (!probeEnd(machine, linear, isCompacted ? restored : requested, xcompBv, ACCESS_READ)) return
  const hasX87 = (restored & XSAVE_X87) !== 0n
  const hasXmm = (restored & XSAVE_SSE) !== 0n
  const hasMxcsr = isCompacted ? hasXmm : (requested & (XSAVE_SSE | XSAVE_AVX)) !== 0n
  pieces.clear()
  addFxPieces(pieces, machine, hasX87, hasMxcsr, hasXmm)
  for (const component of layout.components) {
    const size = sizeInMode(machine, component)
    if ((restored & bitOf(component)) !== 0n && size !== 0)
      pieces.add(layout.offsetIn(component, xcompBv), size)
  }
  if (!operand.mapPieces(linear, pieces, ACCESS_READ)) return
  const image = machine.changeXsave()
  const mxcsr = operand.view.getUint32(MXCSR_OFFSET, true)
  if (hasMxcsr && (mxcsr & ~image.mxcsrMask) !== 0) {
    machine.generalProtection()
    return
  }

  if (hasX87) restoreX87(image, operand.bytes, instruction.rexW)
  else if ((requested & XSAVE_X87) !== 0n) image.initialiseX87()
  if (hasMxcsr) image.mxcsr = mxcsr
  else if ((requested & XSAVE_SSE) !== 0n) image.mxcsr = MXCSR_INITIAL
  if (hasXmm) restoreXmm(machine, operand.bytes)
  else if ((requested & XSAVE_SSE) !== 0n) image.initialiseXmm(xmmEnd(machine))
  for (const component of layout.components) {
    if ((requested & bitOf(component)) === 0n) continue
    const isRestored = (restored & bitOf(component)) !== 0n
    const from = layout.offsetIn(component, xcompBv)
    if (component.supervisor) {
      if (!loadSupervisorState(machine, component, isRestored ? from : undefined)) return
      continue
    }
    const size = sizeInMode(machine, component)
    if (isRestored) {
      image.use(bitOf(component))
      image.area.set(operand.bytes.subarray(from, from + size), component.offset)
    } else {
      image.initialise(component, size)
    }
  }
}

/**
 * Faults where the area's last byte would. CPUs (AMD's, measured) look at its first byte and its last one before anything
 * else, whether components there are in use or not.
 */
function probeEnd(machine: Machine, linear: bigint, mask: bigint, xcompBv: bigint, access: number): boolean {
  const last = machine.layout.sizeOf(mask, xcompBv) - 1
  return machine.operand.probe(BigInt.asUintN(64, linear + BigInt(last)), access)
}

/** Makes the checks that all six have in common; undefined with a fault raised. */
function checkedAddress(
  machine: Machine,
  instruction: Instruction,
  access: number,
  isSupervisor: boolean,
): bigint | undefined {
  if ((machine.cr4 & CR4_OSXSAVE) === 0) machine.invalidOpcode()
  else if ((machine.cr0 & CR0_TS) !== 0) machine.faults.raise(VECTOR_NM)
  else if (isSupervisor && machine.cpl !== 0) machine.generalProtection()
  if (!machine.faults.areNone) return undefined
  return machine.operandAddress(instruction, EXTENDED_OFFSET, access, AREA_ALIGNMENT)
}

/** The requested-feature bitmap: EDX:EAX and what is enabled; undefined if the context has no room for one of them. */
function requestedComponents(machine: Machine, isSupervisor: boolean): bigint | undefined {
  const enabled = isSupervisor ? machine.xcr0 | supervisorComponents(machine) : machine.xcr0
  const requested = enabled & machine.registers.edxEax
  if ((requested & ~machine.xsave.held) !== 0n) machine.faults.giveUp('xsave-component')
  return machine.faults.areNone ? requested : undefined
}

function supervisorComponents(machine: Machine): bigint {
  return machine.context.getMsr(MSR_IA32_XSS) ?? 0n
}

/** SDM vol. 1, sections 13.8 and 13.12. */
function isHeaderValid(machine: Machine, xstateBv: bigint, xcompBv: bigint, isSupervisor: boolean): boolean {
  const { view } = machine.operand
  const enabled = isSupervisor ? machine.xcr0 | supervisorComponents(machine) : machine.xcr0
  if ((xcompBv & XCOMP_COMPACTED) === 0n) {
    if (isSupervisor || xcompBv !== 0n || (xstateBv & ~enabled) !== 0n) return false
    return view.getBigUint64(XCOMP_BV_OFFSET + 8, true) === 0n
  }
  const components = xcompBv & ~XCOMP_COMPACTED
  if ((components & ~enabled) !== 0n || (xstateBv & ~components) !== 0n) return false
  for (let offset = XCOMP_BV_OFFSET + 8; offset < EXTENDED_OFFSET; offset += 8) {
    if (view.getBigUint64(offset, true) !== 0n) return false
  }
  return true
}

function bitOf(component: XsaveComponent): bigint {
  return 1n << BigInt(component.index)
}

/** Bytes of a component that the current mode saves and restores: code other than 64-bit has eight vector registers. */
function sizeInMode(machine: Machine, { index, size }: XsaveComponent): number {
  if (machine.codeBits === 64) return size
  if (index === INDEX_AVX || index === INDEX_ZMM_HI256) return size / 2
  return index === INDEX_HI16_ZMM ? 0 : size
}
