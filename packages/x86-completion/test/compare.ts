/** Compares the outcomes of one case, leaving out what manuals leave undefined. */

import type { CpuFeatures } from '../src/index.ts'
import type { FuzzHints } from './fuzz-cases.ts'
import { DATA_BASE, type Outcome } from './native-cpu.ts'
import { REGISTER_NAMES } from './simulated-cpu.ts'

/** CF PF AF ZF SF DF OF AC */
const COMPARED_FLAGS = 0x40cd5
const VECTOR_PF = 14
const PF_PRESENT = 1
const KERNEL_HALF = 0x8000_0000_0000n

export function compareOutcomes(
  simulated: Outcome,
  native: Outcome,
  hints: FuzzHints,
  features: CpuFeatures,
): string[] {
  const differences: string[] = []
  const compare = (what: string, ours: bigint | number, theirs: bigint | number): void => {
    if (ours !== theirs) differences.push(`${what}: ${ours.toString(16)}, natively ${theirs.toString(16)}`)
  }
  compare('vector', simulated.vector, native.vector)
  if (native.vector === VECTOR_PF || simulated.vector === VECTOR_PF) compare('cr2', simulated.cr2, native.cr2)
  // Linux says of every address in its own half that the page is present.
  const told = native.vector === VECTOR_PF && native.cr2 >= KERNEL_HALF ? ~PF_PRESENT : -1
  compare('error code', simulated.errorCode & told, native.errorCode & told)
  compare('rip', simulated.rip, native.rip)
  const flags = COMPARED_FLAGS & ~(hints.undefinedFlags ?? 0)
  compare('flags', simulated.flags & flags, native.flags & flags)
  REGISTER_NAMES.forEach((name, i) => {
    compare(name, simulated.registers[i] ?? 0n, native.registers[i] ?? 0n)
  })
  const compareBytes = (what: string, base: number, ours: Uint8Array, theirs: Uint8Array): void => {
    if (Buffer.compare(ours, theirs) === 0) return
    for (let i = 0; i < theirs.length; i++)
      compare(`${what} ${(base + i).toString(16)}`, ours[i] ?? 0, theirs[i] ?? 0)
  }
  compareBytes('memory', DATA_BASE, simulated.data, native.data)
  compareBytes('state', 0, canonicalArea(simulated.area, features), canonicalArea(native.area, features))
  return differences.slice(0, 12)
}

/** A standard-format area as XRSTOR would take it: components that are not in use have their initial values. */
export function canonicalArea(area: Uint8Array, features: CpuFeatures): Uint8Array {
  const canonical = new Uint8Array(area)
  const view = new DataView(canonical.buffer)
  const inUse = view.getBigUint64(512, true)
  if ((inUse & 1n) === 0n) {
    canonical.fill(0, 0, 24)
    canonical.fill(0, 32, 160)
    view.setUint16(0, 0x37f, true)
  }
  if ((inUse & 2n) === 0n) canonical.fill(0, 160, 416)
  for (const { index, offset, size } of features.xsaveComponents) {
    if ((inUse & (1n << BigInt(index))) === 0n) canonical.fill(0, offset, offset + size)
  }
  canonical.fill(0, 416, 576)
  settleX87(view)
  return canonical
}

const FSW_ES = 0x80
const FSW_B = 0x8000
const EXCEPTIONS = 0x3f

/** Gives the x87 part of an area the form in which the CPU itself would have stored it. */
export function settleX87(view: DataView): void {
  const control = view.getUint16(0, true)
  const status = view.getUint16(2, true) & ~(FSW_ES | FSW_B)
  const isPending = (status & ~control & EXCEPTIONS) !== 0
  view.setUint16(2, isPending ? status | FSW_ES | FSW_B : status, true)
  // AMD's CPUs keep the pointers for a pending exception alone.
  if (!isPending) {
    view.setUint16(6, 0, true)
    view.setBigUint64(8, 0n, true)
    view.setBigUint64(16, 0n, true)
  }
}
