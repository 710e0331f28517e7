/** CLAC and STAC: RFLAGS.AC, which suspends SMAP. Intel SDM vol. 2. */

import { FLAG_AC } from '../architecture.ts'
import type { Encoding } from '../instruction.ts'
import type { Machine } from '../machine.ts'

export const accessControlEncodings: readonly Encoding[] = [
  { mnemonic: 'clac', opcode: 0x0f01, prefix: 'np', modrm: 0xca, execute: (machine) => setAc(machine, 0) },
  {
    mnemonic: 'stac',
    opcode: 0x0f01,
    prefix: 'np',
    modrm: 0xcb,
    execute: (machine) => setAc(machine, FLAG_AC),
  },
]

/** Other levels than CPL 0 raise `#UD`, not `#GP`. CR4.SMAP may be off: CPUID.SMAP alone decides that they are there. */
function setAc(machine: Machine, value: number): void {
  if (machine.cpl !== 0) machine.invalidOpcode()
  else machine.registers.setFlags(FLAG_AC, value)
}
