/** XGETBV and XSETBV. Intel SDM vol. 2. */

import { CR4_OSXSAVE } from '../architecture.ts'
import type { Encoding } from '../instruction.ts'
import type { Machine } from '../machine.ts'
import { REGISTER_RCX } from '../register-file.ts'
import { XSAVE_AVX, XSAVE_SSE, XSAVE_X87 } from '../xsave-layout.ts'

export const extendedControlEncodings: readonly Encoding[] = [
  { mnemonic: 'xgetbv', opcode: 0x0f01, prefix: 'np', modrm: 0xd0, execute: get },
  { mnemonic: 'xsetbv', opcode: 0x0f01, prefix: 'np', modrm: 0xd1, execute: set },
]

/** XCR0, and the components of it that are in use. */
const XCR_0 = 0
const XCR_IN_USE = 1

const MPX = 0b11n << 3n
const AVX_512 = 0b111n << 5n
const AMX = 0b11n << 17n

function get(machine: Machine): void {
  const { registers } = machine
  if ((machine.cr4 & CR4_OSXSAVE) === 0) {
    machine.invalidOpcode()
    return
  }
  const index = registers.get32(REGISTER_RCX)
  if (index === XCR_0) registers.edxEax = machine.xcr0
  else if (index === XCR_IN_USE) registers.edxEax = machine.xcr0 & machine.xsave.inUseWithMxcsr
  else machine.generalProtection()
}

function set(machine: Machine): void {
  const { registers } = machine
  if ((machine.cr4 & CR4_OSXSAVE) === 0) {
    machine.invalidOpcode()
    return
  }
  const value = registers.edxEax
  const isAllowed = machine.cpl === 0 && registers.get32(REGISTER_RCX) === XCR_0
  if (isAllowed && isConsistent(value, machine.features.supportedXcr0)) machine.context.setXcr0(value)
  else machine.generalProtection()
}

/** x87 is always on; AVX needs SSE, AVX-512 needs AVX; the parts of MPX, AVX-512 and AMX go together. */
function isConsistent(xcr0: bigint, supported: bigint): boolean {
  if ((xcr0 & ~supported) !== 0n || (xcr0 & XSAVE_X87) === 0n) return false
  if ((xcr0 & XSAVE_AVX) !== 0n && (xcr0 & XSAVE_SSE) === 0n) return false
  if ((xcr0 & AVX_512) !== 0n && (xcr0 & XSAVE_AVX) === 0n) return false
  return [MPX, AVX_512, AMX].every((group) => (xcr0 & group) === 0n || (xcr0 & group) === group)
}
