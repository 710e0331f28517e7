/**
 * A vCPU's x87, SSE and extended state, as KVM_GET_XSAVE gives it: an XSAVE area in the standard format, with 64-bit
 * instruction and data pointers.
 */

import type { XsaveComponent } from './features.ts'
import {
  FCW_INITIAL,
  FCW_OFFSET,
  HEADER_SIZE,
  MXCSR_INITIAL,
  MXCSR_MASK_OFFSET,
  MXCSR_OFFSET,
  ST_OFFSET,
  XMM_END,
  XMM_OFFSET,
  XSAVE_SSE,
  XSAVE_X87,
  XSTATE_BV_OFFSET,
  type XsaveLayout,
} from './xsave-layout.ts'

const INDEX_PKRU = 9
const XSAVE_PKRU = 1n << BigInt(INDEX_PKRU)
/** MXCSR_MASK of CPUs that store 0 there. Intel SDM vol. 1, section 11.6.6. */
const MXCSR_MASK_DEFAULT = 0xffbf

export class XsaveImage {
  readonly #layout: XsaveLayout
  #area: Uint8Array = new Uint8Array(XSTATE_BV_OFFSET + HEADER_SIZE)
  #view: DataView = new DataView(this.#area.buffer)
  readonly #pkruOffset: number
  #held = 0n

  constructor(layout: XsaveLayout) {
    this.#layout = layout
    this.#pkruOffset = layout.components.find(({ index }) => index === INDEX_PKRU)?.offset ?? 0
  }

  /** Takes an area over, and gives components that are in their initial state their initial bytes. */
  load(area: Uint8Array): void {
    if (area !== this.#area) {
      this.#area = area
      this.#view = new DataView(area.buffer, area.byteOffset, area.byteLength)
    }
    this.#held = XSAVE_X87 | XSAVE_SSE
    for (const component of this.#layout.components) {
      if (this.#holds(component)) this.#held |= 1n << BigInt(component.index)
    }
    const { inUse } = this
    if ((inUse & XSAVE_X87) === 0n) this.#clearX87()
    if ((inUse & XSAVE_SSE) === 0n) area.fill(0, XMM_OFFSET, XMM_END)
    for (const component of this.#layout.components) {
      if ((inUse & (1n << BigInt(component.index))) === 0n) this.#clear(component)
    }
  }

  /** Components that the area has room for, supervisor ones included, which are elsewhere; a bit each. */
  get held(): bigint {
    return this.#held
  }

  get area(): Uint8Array {
    return this.#area
  }

  /** Numbers of the legacy region by their offsets; components that change are to be marked by {@link use}. */
  get view(): DataView {
    return this.#view
  }

  /** Components that are not in their initial state (XINUSE). */
  get inUse(): bigint {
    return this.#view.getBigUint64(XSTATE_BV_OFFSET, true) & this.#held
  }

  /** The same, where an MXCSR other than the initial one counts as use of SSE: what goes for compacted areas. */
  get inUseWithMxcsr(): bigint {
    return this.mxcsr === MXCSR_INITIAL ? this.inUse : this.inUse | XSAVE_SSE
  }

  /** Notes that components, a bit each, are in use. */
  use(components: bigint): void {
    const known = this.#view.getBigUint64(XSTATE_BV_OFFSET, true)
    this.#view.setBigUint64(XSTATE_BV_OFFSET, known | components, true)
  }

  get mxcsr(): number {
    return this.#view.getUint32(MXCSR_OFFSET, true)
  }

  set mxcsr(value: number) {
    this.#view.setUint32(MXCSR_OFFSET, value, true)
    if (value !== MXCSR_INITIAL) this.use(XSAVE_SSE)
  }

  /** The MXCSR bits that the CPU has. */
  get mxcsrMask(): number {
    const mask = this.#view.getUint32(MXCSR_MASK_OFFSET, true)
    return mask === 0 ? MXCSR_MASK_DEFAULT : mask
  }

  /** The protection-key rights of user pages, 0 without that component. */
  get pkru(): number {
    return (this.#held & XSAVE_PKRU) === 0n ? 0 : this.#view.getUint32(this.#pkruOffset, true)
  }

  /** Puts x87 into the state after FNINIT with all registers zero. */
  initialiseX87(): void {
    this.#clearX87()
    this.#markInitial(XSAVE_X87)
  }

  /** Zeroes the XMM registers up to the area's offset `end`; MXCSR is left. */
  initialiseXmm(end: number): void {
    this.#area.fill(0, XMM_OFFSET, end)
    if (end === XMM_END && this.mxcsr === MXCSR_INITIAL) this.#markInitial(XSAVE_SSE)
  }

  /** Puts the first `size` bytes of an extended user component into their initial state. */
  initialise({ index, offset, size: whole }: XsaveComponent, size: number): void {
    this.#area.fill(0, offset, offset + size)
    if (size === whole) this.#markInitial(1n << BigInt(index))
  }

  #clear({ offset, size }: XsaveComponent): void {
    if (offset !== 0) this.#area.fill(0, offset, offset + size)
  }

  #holds({ supervisor, offset, size }: XsaveComponent): boolean {
    return supervisor || offset + size <= this.#area.length
  }

  #clearX87(): void {
    this.#area.fill(0, 0, MXCSR_OFFSET)
    this.#area.fill(0, ST_OFFSET, XMM_OFFSET)
    this.#view.setUint16(FCW_OFFSET, FCW_INITIAL, true)
  }

  #markInitial(components: bigint): void {
    const used = this.#view.getBigUint64(XSTATE_BV_OFFSET, true)
    this.#view.setBigUint64(XSTATE_BV_OFFSET, used & ~components, true)
  }
}
