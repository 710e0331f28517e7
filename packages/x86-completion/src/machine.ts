/**
 * One instruction in flight: a copy of the registers, the memory operand, the extended state, and the fault if there is
 * one. Instructions work on this; the vCPU itself is changed by {@link Machine.finish} alone, when all has gone well.
 */

import { CR0_AM, FLAG_AC } from './architecture.ts'
import { MAX_INSTRUCTION_LENGTH } from './code-bytes.ts'
import type { CpuContext, GeneralRegisters, SpecialRegisters } from './context.ts'
import { Faults } from './faults.ts'
import type { CpuFeatures } from './features.ts'
import type { Instruction } from './instruction.ts'
import { currentPrivilegeLevel, type OperatingMode, operatingMode } from './mode.ts'
import { OperandMemory } from './operand-memory.ts'
import { ACCESS_FETCH, ACCESS_READ, ACCESS_WRITE, PAGE_SIZE, PageWalker } from './paging.ts'
import { RegisterFile } from './register-file.ts'
import { codeAddress, effectiveAddress, linearAddress } from './segmentation.ts'
import { VECTOR_AC, VECTOR_GP, VECTOR_UD } from './vectors.ts'
import { XsaveImage } from './xsave-image.ts'
import { XsaveLayout } from './xsave-layout.ts'

export class Machine {
  readonly context: CpuContext
  readonly features: CpuFeatures
  readonly faults: Faults = new Faults()
  readonly registers: RegisterFile = new RegisterFile()
  readonly layout: XsaveLayout
  /** The memory operand. */
  readonly operand: OperandMemory
  readonly #code: OperandMemory
  readonly #walker: PageWalker
  readonly #xsaveImage: XsaveImage
  // Set by start().
  #general!: GeneralRegisters
  #special!: SpecialRegisters
  #hasXsave = false
  #mustSetXsave = false
  #mustSetSpecial = false
  #xcr0 = 0n
  #hasXcr0 = false

  mode: OperatingMode = 'long'
  /** Size of the code segment's instructions: 16, 32 or 64. */
  codeBits = 64
  /** Current privilege level. */
  cpl = 0
  cr0 = 0
  cr4 = 0
  efer = 0

  /** For one vCPU, stopped at an instruction. */
  constructor(context: CpuContext, features: CpuFeatures) {
    this.context = context
    this.features = features
    this.layout = new XsaveLayout(features.xsaveComponents)
    this.#xsaveImage = new XsaveImage(this.layout)
    this.#walker = new PageWalker(context.memory, features.physicalAddressBits, () => this.xsave.pkru)
    this.operand = new OperandMemory(
      context.memory,
      this.#walker,
      this.faults,
      'operand-not-memory',
      this.layout.maxSize,
    )
    this.#code = new OperandMemory(
      context.memory,
      this.#walker,
      this.faults,
      'code-not-memory',
      MAX_INSTRUCTION_LENGTH,
    )
  }

  /** Takes the vCPU's state for a new instruction. */
  start(): void {
    this.faults.clear()
    this.#hasXsave = false
    this.#mustSetXsave = false
    this.#mustSetSpecial = false
    this.#hasXcr0 = false
    this.#general = this.context.getRegisters()
    this.#special = this.context.getSpecialRegisters()
    this.registers.load(this.#general)
    const special = this.#special
    this.cr0 = Number(special.cr0 & 0xffffffffn)
    this.cr4 = Number(special.cr4 & 0xffffffffn)
    this.efer = Number(special.efer & 0xffffffffn)
    this.mode = operatingMode(special, this.#general.rflags)
    this.cpl = currentPrivilegeLevel(special, this.mode)
    this.codeBits = this.mode === 'long' ? 64 : special.cs.db !== 0 ? 32 : 16
    this.#walker.configure(special, this.cpl, (this.registers.flags & FLAG_AC) !== 0)
  }

  /** Puts the results back into the vCPU. */
  finish(): void {
    this.registers.store(this.#general)
    this.context.setRegisters(this.#general)
    if (this.#mustSetSpecial) this.context.setSpecialRegisters(this.#special)
    if (this.#mustSetXsave) this.context.setXsave(this.#xsaveImage.area)
  }

  get special(): SpecialRegisters {
    return this.#special
  }

  /** Has `finish` set segment registers, which the instruction has changed in {@link special}. */
  changeSpecial(): SpecialRegisters {
    this.#mustSetSpecial = true
    return this.#special
  }

  /** x87, SSE and extended state, to be read. */
  get xsave(): XsaveImage {
    if (!this.#hasXsave) {
      this.#xsaveImage.load(this.context.getXsave())
      this.#hasXsave = true
    }
    return this.#xsaveImage
  }

  /** The same, to be changed. */
  changeXsave(): XsaveImage {
    this.#mustSetXsave = true
    return this.xsave
  }

  get xcr0(): bigint {
    if (!this.#hasXcr0) {
      this.#xcr0 = this.context.getXcr0()
      this.#hasXcr0 = true
    }
    return this.#xcr0
  }

  /** Raises `#UD`. */
  invalidOpcode(): false {
    return this.faults.raise(VECTOR_UD)
  }

  /** Raises `#GP(0)`. */
  generalProtection(): false {
    return this.faults.raise(VECTOR_GP, 0)
  }

  /**
   * The linear address of the instruction's memory operand; undefined with a fault raised. `alignment` is what the
   * instruction demands, on pain of `#GP(0)`: a power of two.
   */
  operandAddress(
    instruction: Instruction,
    size: number,
    access: number,
    alignment: number,
  ): bigint | undefined {
    const offset = effectiveAddress(instruction, this.registers)
    const isWrite = access === ACCESS_WRITE
    const { mode, faults } = this
    return linearAddress(this.#special, mode, instruction.segment, offset, size, alignment, isWrite, faults)
  }

  /** Raises `#AC(0)` if CPL 3 has alignment checks on and `linear` is no multiple of `alignment`, a power of two. */
  isAligned(linear: bigint, alignment: number): boolean {
    if (this.cpl !== 3 || (this.registers.flags & FLAG_AC) === 0 || (this.cr0 & CR0_AM) === 0) return true
    return (Number(linear & 0xffn) & (alignment - 1)) === 0 || this.faults.raise(VECTOR_AC, 0)
  }

  /** Maps and reads the instruction's memory operand of `size` bytes (a power of two) into {@link operand}. */
  mapOperand(instruction: Instruction, size: number, access: number): boolean {
    const linear = this.operandAddress(instruction, size, access, 1)
    return linear !== undefined && this.isAligned(linear, size) && this.operand.map(linear, size, access)
  }

  /** Reads the register or memory operand that ModRM.rm gives, of `size` bits; undefined with a fault raised. */
  readRm(instruction: Instruction, size: number = instruction.operandSize): bigint | undefined {
    if (!instruction.isMemory) return this.registers.get(instruction.rm, size, instruction.rex !== 0)
    if (!this.mapOperand(instruction, size / 8, ACCESS_READ)) return undefined
    const { view } = this.operand
    switch (size) {
      case 8:
        return BigInt(view.getUint8(0))
      case 16:
        return BigInt(view.getUint16(0, true))
      case 32:
        return BigInt(view.getUint32(0, true))
      default:
        return view.getBigUint64(0, true)
    }
  }

  /** Fetches code beyond the `length` bytes known at RIP, up to the page's end; gives how many bytes there are now. */
  fetchCode(bytes: Uint8Array, length: number): number {
    const offset = this.registers.rip + BigInt(length)
    const linear = codeAddress(this.#special, this.mode, offset, this.faults)
    if (linear === undefined) return length
    const inPage = Number(linear & BigInt(PAGE_SIZE - 1))
    const inSegment = this.mode === 'long' ? PAGE_SIZE : this.#special.cs.limit - Number(offset) + 1
    const size = Math.min(bytes.length - length, PAGE_SIZE - inPage, inSegment)
    if (!this.#code.map(linear, size, ACCESS_FETCH)) return length
    bytes.set(this.#code.bytes.subarray(0, size), length)
    return length + size
  }
}
