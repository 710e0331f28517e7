/**
 * Supervisor state components of XSAVES and XRSTORS: they are model-specific registers, one 8-byte field each.
 * Intel SDM vol. 1, section 13.5.
 */

import type { XsaveComponent } from '../features.ts'
import type { Machine } from '../machine.ts'

/** The registers of a component by its index, in the order of its fields. */
const COMPONENT_MSRS: ReadonlyMap<number, readonly number[]> = new Map([
  [10, [0xd93]], // PASID
  [11, [0x6a0, 0x6a7]], // CET_U: IA32_U_CET, IA32_PL3_SSP
  [12, [0x6a4, 0x6a5, 0x6a6]], // CET_S: IA32_PL0_SSP to IA32_PL2_SSP
  [13, [0xdb1]], // HDC: IA32_PM_CTL1
  [16, [0x774]], // HWP: IA32_HWP_REQUEST
])

/** Those supervisor components of `requested` that are not in their initial state, all zeros. */
export function supervisorInUse(machine: Machine, requested: bigint): bigint {
  let inUse = 0n
  for (const { index, supervisor } of machine.layout.components) {
    const bit = 1n << BigInt(index)
    if (!supervisor || (requested & bit) === 0n) continue
    for (const msr of registersOf(machine, index)) {
      if (readMsr(machine, msr) !== 0n) inUse |= bit
    }
  }
  return inUse
}

/** Writes a component's registers to the operand at `offset`. */
export function saveSupervisorState(machine: Machine, { index }: XsaveComponent, offset: number): void {
  let at = offset
  for (const msr of registersOf(machine, index)) {
    machine.operand.view.setBigUint64(at, readMsr(machine, msr), true)
    at += 8
  }
}

/** Loads a component's registers from the operand at `offset`, or with zeros. False with a fault raised. */
export function loadSupervisorState(
  machine: Machine,
  { index }: XsaveComponent,
  offset: number | undefined,
): boolean {
  let at = offset
  for (const msr of registersOf(machine, index)) {
    const value = at === undefined ? 0n : machine.operand.view.getBigUint64(at, true)
    if (!machine.context.setMsr(msr, value)) return machine.generalProtection()
    if (at !== undefined) at += 8
  }
  return machine.faults.areNone
}

function registersOf(machine: Machine, index: number): readonly number[] {
  const registers = COMPONENT_MSRS.get(index)
  if (registers === undefined) machine.faults.giveUp('xsave-component')
  return registers ?? []
}

function readMsr(machine: Machine, msr: number): bigint {
  const value = machine.context.getMsr(msr)
  if (value === undefined) machine.faults.giveUp('msr')
  return value ?? 0n
}
