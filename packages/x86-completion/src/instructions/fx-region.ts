/**
 * The legacy region of XSAVE areas, which is an FXSAVE area: its parts, and how they go to and from memory.
 * Intel SDM vol. 1, section 10.5.1 and 13.4.1.
 */

import type { Machine } from '../machine.ts'
import type { Pieces } from '../operand-memory.ts'
import type { XsaveImage } from '../xsave-image.ts'
import {
  FCS_OFFSET,
  FCW_OFFSET,
  FDS_OFFSET,
  FOP_OFFSET,
  FSW_OFFSET,
  MXCSR_MASK_OFFSET,
  MXCSR_OFFSET,
  ST_OFFSET,
  XMM_END,
  XMM_OFFSET,
  XMM8_OFFSET,
  XSAVE_SSE,
  XSAVE_X87,
} from '../xsave-layout.ts'

/** Where the XMM registers of the current mode end in the region: there are 16 in 64-bit code, else 8. */
export function xmmEnd(machine: Machine): number {
  return machine.codeBits === 64 ? XMM_END : XMM8_OFFSET
}

/** Adds the parts that x87, MXCSR with its mask, and XMM take. */
export function addFxPieces(
  pieces: Pieces,
  machine: Machine,
  x87: boolean,
  mxcsr: boolean,
  xmm: boolean,
): void {
  if (x87) pieces.add(0, MXCSR_OFFSET)
  if (mxcsr) pieces.add(MXCSR_OFFSET, ST_OFFSET - MXCSR_OFFSET)
  if (x87) pieces.add(ST_OFFSET, XMM_OFFSET - ST_OFFSET)
  if (xmm) pieces.add(XMM_OFFSET, xmmEnd(machine) - XMM_OFFSET)
}

/**
 * Copies x87 state to an area. Without `is64BitFormat` (REX.W) the last instruction's and operand's addresses are 32 bits
 * and a selector each; the selectors are not known and stored as 0, as CPUs do that deprecate them.
 */
export function saveX87(image: XsaveImage, to: Uint8Array, is64BitFormat: boolean): void {
  to.set(image.area.subarray(0, MXCSR_OFFSET))
  to.set(image.area.subarray(ST_OFFSET, XMM_OFFSET), ST_OFFSET)
  if (!is64BitFormat) {
    to.fill(0, FCS_OFFSET, FCS_OFFSET + 4)
    to.fill(0, FDS_OFFSET, FDS_OFFSET + 4)
  }
}

/** Loads x87 state from an area. */
export function restoreX87(image: XsaveImage, from: Uint8Array, is64BitFormat: boolean): void {
  const { area, view } = image
  image.use(XSAVE_X87)
  area.set(from.subarray(0, MXCSR_OFFSET))
  for (let offset = ST_OFFSET; offset < XMM_OFFSET; offset += ST_STRIDE) {
    area.set(from.subarray(offset, offset + ST_SIZE), offset)
  }
  area[FTW_RESERVED_OFFSET] = 0
  if (!is64BitFormat) {
    area.fill(0, FCS_OFFSET, FCS_OFFSET + 4)
    area.fill(0, FDS_OFFSET, FDS_OFFSET + 4)
  }
  setControlWord(image, view.getUint16(FCW_OFFSET, true))
  view.setUint16(FOP_OFFSET, view.getUint16(FOP_OFFSET, true) & FOP_MASK, true)
  summariseX87Exceptions(image)
}

/** Copies MXCSR and its mask to an area. */
export function saveMxcsr(image: XsaveImage, to: DataView): void {
  to.setUint32(MXCSR_OFFSET, image.mxcsr, true)
  to.setUint32(MXCSR_MASK_OFFSET, image.mxcsrMask, true)
}

/** Copies the mode's XMM registers to an area. */
export function saveXmm(machine: Machine, to: Uint8Array): void {
  to.set(machine.xsave.area.subarray(XMM_OFFSET, xmmEnd(machine)), XMM_OFFSET)
}

/** Loads the mode's XMM registers from an area. */
export function restoreXmm(machine: Machine, from: Uint8Array): void {
  const image = machine.changeXsave()
  image.use(XSAVE_SSE)
  image.area.set(from.subarray(XMM_OFFSET, xmmEnd(machine)), XMM_OFFSET)
}

/** Sets the control word, but for its reserved bits. */
export function setControlWord({ view }: XsaveImage, value: number): void {
  view.setUint16(FCW_OFFSET, (value & FCW_SETTABLE) | FCW_FIXED, true)
}

/** Sets ES and B of the status word to what its exception flags and the control word's masks say. */
export function summariseX87Exceptions(image: XsaveImage): void {
  const { view } = image
  const status = view.getUint16(FSW_OFFSET, true) & ~(FSW_ES | FSW_B)
  view.setUint16(FSW_OFFSET, hasPendingX87Exception(image) ? status | FSW_ES | FSW_B : status, true)
}

/** Makes TOP 0. The area holds registers in stack order, which changes; the abridged tag word goes by register number. */
export function resetX87Top({ area, view }: XsaveImage): void {
  const status = view.getUint16(FSW_OFFSET, true)
  const top = (status & FSW_TOP) >> FSW_TOP_SHIFT
  view.setUint16(FSW_OFFSET, status & ~FSW_TOP, true)
  // ST(i) was register TOP + i, and is to be register i.
  const stack = area.slice(ST_OFFSET, XMM_OFFSET)
  for (let i = 0; i < ST_COUNT; i++) {
    const from = ((i - top) & (ST_COUNT - 1)) * ST_STRIDE
    area.set(stack.subarray(from, from + ST_STRIDE), ST_OFFSET + i * ST_STRIDE)
  }
}

/** Is an unmasked x87 exception waiting to be raised? */
export function hasPendingX87Exception({ view }: XsaveImage): boolean {
  return (view.getUint16(FSW_OFFSET, true) & ~view.getUint16(FCW_OFFSET, true) & X87_EXCEPTIONS) !== 0
}

const ST_COUNT = 8
const ST_STRIDE = 16
/** Bytes of a register; the other 6 of its 16 are reserved. */
const ST_SIZE = 10
const FTW_RESERVED_OFFSET = 5
const FOP_MASK = 0x7ff
/** Exception masks, precision and rounding control, and the bit that was infinity control. */
const FCW_SETTABLE = 0x1f3f
/** Reserved, and always set. */
const FCW_FIXED = 0x0040
/** Exception flags of the status word, and at the same places masks in the control word. */
const X87_EXCEPTIONS = 0x3f
const FSW_ES = 1 << 7
const FSW_TOP = 0x3800
const FSW_TOP_SHIFT = 11
const FSW_B = 1 << 15
