/**
 * The x87 instructions that kernels execute to set up and check the FPU: no arithmetic. Intel SDM vol. 1, chapter 8.
 */

import { CR0_MP, CR0_NE, CR0_TS } from '../architecture.ts'
import type { Encoding } from '../instruction.ts'
import type { Machine } from '../machine.ts'
import { VECTOR_MF, VECTOR_NM } from '../vectors.ts'
import { hasPendingX87Exception } from './fx-region.ts'

export const x87Encodings: readonly Encoding[] = [{ mnemonic: 'fwait', opcode: 0x9b, execute: wait }]

/** FWAIT looks at MP with TS, and not at EM. */
function wait(machine: Machine): void {
  const mask = CR0_MP | CR0_TS
  if ((machine.cr0 & mask) === mask) machine.faults.raise(VECTOR_NM)
  else raisePending(machine)
}

/** `#MF` for a pending exception. Without CR0.NE the CPU would signal FERR#, which is not modelled: none is raised. */
function raisePending(machine: Machine): void {
  if ((machine.cr0 & CR0_NE) !== 0 && hasPendingX87Exception(machine.xsave)) machine.faults.raise(VECTOR_MF)
}
