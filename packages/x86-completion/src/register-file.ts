/** The general registers, RIP and RFLAGS of the instruction in flight, by register number. */

import type { GeneralRegisters } from './context.ts'

export const REGISTER_RAX = 0
export const REGISTER_RCX = 1
export const REGISTER_RDX = 2
export const REGISTER_RBX = 3

const WORDS_LITTLE_ENDIAN = true

export class RegisterFile {
  readonly #bytes = new DataView(new ArrayBuffer(16 * 8))
  rip = 0n
  /** RFLAGS; its upper half is reserved and always zero. */
  flags = 0

  load(from: GeneralRegisters): void {
    this.#set64(0, from.rax)
    this.#set64(1, from.rcx)
    this.#set64(2, from.rdx)
    this.#set64(3, from.rbx)
    this.#set64(4, from.rsp)
    this.#set64(5, from.rbp)
    this.#set64(6, from.rsi)
    this.#set64(7, from.rdi)
    this.#set64(8, from.r8)
    this.#set64(9, from.r9)
    this.#set64(10, from.r10)
    this.#set64(11, from.r11)
    this.#set64(12, from.r12)
    this.#set64(13, from.r13)
    this.#set64(14, from.r14)
    this.#set64(15, from.r15)
    this.rip = from.rip
    this.flags = Number(from.rflags & 0xffffffffn)
  }

  store(to: GeneralRegisters): void {
    to.rax = this.get64(0)
    to.rcx = this.get64(1)
    to.rdx = this.get64(2)
    to.rbx = this.get64(3)
    to.rsp = this.get64(4)
    to.rbp = this.get64(5)
    to.rsi = this.get64(6)
    to.rdi = this.get64(7)
    to.r8 = this.get64(8)
    to.r9 = this.get64(9)
    to.r10 = this.get64(10)
    to.r11 = this.get64(11)
    to.r12 = this.get64(12)
    to.r13 = this.get64(13)
    to.r14 = this.get64(14)
    to.r15 = this.get64(15)
    to.rip = this.rip
    to.rflags = BigInt(this.flags >>> 0)
  }

  get64(register: number): bigint {
    return this.#bytes.getBigUint64(register * 8, WORDS_LITTLE_ENDIAN)
  }

  get32(register: number): number {
    return this.#bytes.getUint32(register * 8, WORDS_LITTLE_ENDIAN)
  }

  /** The low `size` (8, 16, 32, 64) bits. For 8 bits without REX, numbers 4 to 7 are AH, CH, DH and BH. */
  get(register: number, size: number, hasRex = true): bigint {
    if (size === 64) return this.get64(register)
    if (size === 32) return BigInt(this.get32(register))
    if (size === 16) return BigInt(this.#bytes.getUint16(register * 8, WORDS_LITTLE_ENDIAN))
    const isHighByte = !hasRex && register >= 4
    return BigInt(this.#bytes.getUint8(isHighByte ? (register - 4) * 8 + 1 : register * 8))
  }

  /** Sets the low `size` (16, 32, 64) bits; 32 clears the upper half, 16 leaves the rest. */
  set(register: number, size: number, value: bigint): void {
    if (size === 16) this.#bytes.setUint16(register * 8, Number(value & 0xffffn), WORDS_LITTLE_ENDIAN)
    else this.#set64(register, size === 32 ? BigInt.asUintN(32, value) : value)
  }

  /** EDX:EAX as one number. */
  get edxEax(): bigint {
    return (BigInt(this.get32(REGISTER_RDX)) << 32n) | BigInt(this.get32(REGISTER_RAX))
  }

  set edxEax(value: bigint) {
    this.set(REGISTER_RAX, 32, value)
    this.set(REGISTER_RDX, 32, value >> 32n)
  }

  /** Sets or clears the flags in `mask`. */
  setFlags(mask: number, values: number): void {
    this.flags = (this.flags & ~mask) | (values & mask)
  }

  #set64(register: number, value: bigint): void {
    this.#bytes.setBigUint64(register * 8, value, WORDS_LITTLE_ENDIAN)
  }
}
