/**
 * Where state components lie in an XSAVE area, in the standard and the compacted format.
 * Intel SDM vol. 1, section 13.4 (XSAVE Area) and 13.5.
 */

import type { XsaveComponent } from './features.ts'

export const XSAVE_X87: bigint = 1n << 0n
export const XSAVE_SSE: bigint = 1n << 1n
export const XSAVE_AVX: bigint = 1n << 2n
/** XCOMP_BV: the area is compacted. */
export const XCOMP_COMPACTED: bigint = 1n << 63n

/** Fields of the legacy region, which is an FXSAVE area. */
export const FCW_OFFSET = 0
export const FSW_OFFSET = 2
/** Abridged tag word: a bit for each register that is in use. */
export const FTW_OFFSET = 4
export const FOP_OFFSET = 6
export const FIP_OFFSET = 8
export const FCS_OFFSET = 12
export const FDP_OFFSET = 16
export const FDS_OFFSET = 20
export const MXCSR_OFFSET = 24
export const MXCSR_MASK_OFFSET = 28
export const ST_OFFSET = 32
export const XMM_OFFSET = 160
/** Where the registers end that code other than 64-bit has: XMM0 to XMM7. */
export const XMM8_OFFSET = 288
export const XMM_END = 416

export const XSTATE_BV_OFFSET = 512
export const XCOMP_BV_OFFSET = 520
export const HEADER_SIZE = 64
/** The end of the header, where a compacted area's extended components start. */
export const EXTENDED_OFFSET = 576

/** Of those components that are aligned. */
const COMPACTED_ALIGNMENT = 64

export const FCW_INITIAL = 0x37f
export const MXCSR_INITIAL = 0x1f80

export class XsaveLayout {
  /** Extended components in ascending order of index. */
  readonly components: readonly XsaveComponent[]
  /** Bytes that an area of either format takes at most. */
  readonly maxSize: number

  constructor(components: readonly XsaveComponent[]) {
    this.components = components
    let all = 0n
    for (const { index } of components) all |= 1n << BigInt(index)
    this.maxSize = Math.max(this.sizeOf(all, 0n), this.sizeOf(all, all | XCOMP_COMPACTED))
  }

  /** Offset of a component in an area of which `xcompBv` is the XCOMP_BV: compacted if its bit 63 says so. */
  offsetIn(component: XsaveComponent, xcompBv: bigint): number {
    if ((xcompBv & XCOMP_COMPACTED) === 0n) return component.offset
    let offset = EXTENDED_OFFSET
    for (const { index, size, aligned } of this.components) {
      if ((xcompBv & (1n << BigInt(index))) === 0n) continue
      if (aligned) offset = Math.ceil(offset / COMPACTED_ALIGNMENT) * COMPACTED_ALIGNMENT
      if (index === component.index) break
      offset += size
    }
    return offset
  }

  /** Size in bytes of an area with the components in `mask`, of which `xcompBv` is the XCOMP_BV. */
  sizeOf(mask: bigint, xcompBv: bigint): number {
    let end = EXTENDED_OFFSET
    for (const component of this.components) {
      if ((mask & (1n << BigInt(component.index))) === 0n) continue
      end = Math.max(end, this.offsetIn(component, xcompBv) + component.size)
    }
    return end
  }
}
