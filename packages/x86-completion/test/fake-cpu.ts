/** A vCPU made of plain objects, with guest memory in pages and page tables built in it. */

import type {
  CpuContext,
  CpuFeatures,
  GeneralRegisters,
  PhysicalMemory,
  SegmentRegister,
  SpecialRegisters,
} from '../src/index.ts'

export const PAGE_SIZE = 4096

export const PTE_PRESENT = 0x01n
export const PTE_WRITABLE = 0x02n
export const PTE_USER = 0x04n
export const PTE_ACCESSED = 0x20n
export const PTE_DIRTY = 0x40n
export const PTE_LARGE = 0x80n
export const PTE_NX = 0x8000_0000_0000_0000n
/** What a page that is mapped for everything has in its entry. */
export const PTE_ALL: bigint = PTE_PRESENT | PTE_WRITABLE | PTE_USER | PTE_ACCESSED | PTE_DIRTY

export const CR0_PROTECTED_PAGED = 0x80050033n
export const CR4_KERNEL = 0x00350620n
export const EFER_LONG = 0xd01n

/** Guest RAM: pages that exist once they are touched through {@link page}; anything else is no memory. */
export class FakeMemory implements PhysicalMemory {
  readonly pages: Map<number, Uint8Array> = new Map()

  page(address: number): Uint8Array {
    const base = address - (address % PAGE_SIZE)
    let page = this.pages.get(base)
    if (page === undefined) {
      page = new Uint8Array(PAGE_SIZE)
      this.pages.set(base, page)
    }
    return page
  }

  read(address: number, into: Uint8Array): boolean {
    const page = this.pages.get(address - (address % PAGE_SIZE))
    if (page === undefined) return false
    const at = address % PAGE_SIZE
    into.set(page.subarray(at, at + into.length))
    return true
  }

  write(address: number, from: Uint8Array): boolean {
    const page = this.pages.get(address - (address % PAGE_SIZE))
    if (page === undefined) return false
    page.set(from, address % PAGE_SIZE)
    return true
  }

  compareExchange(address: number, expected: Uint8Array, replacement: Uint8Array): boolean {
    const now = new Uint8Array(expected.length)
    if (!this.read(address, now) || now.some((byte, i) => byte !== expected[i])) return false
    return this.write(address, replacement)
  }

  get64(address: number): bigint {
    const page = this.page(address)
    return new DataView(page.buffer).getBigUint64(address % PAGE_SIZE, true)
  }

  set64(address: number, value: bigint): void {
    const page = this.page(address)
    new DataView(page.buffer).setBigUint64(address % PAGE_SIZE, value, true)
  }
}

export function segment(fields: Partial<SegmentRegister> = {}): SegmentRegister {
  return { base: 0n, limit: 0xffffffff, selector: 0x18, type: 3, dpl: 0, db: 1, l: 0, unusable: 0, ...fields }
}

export function generalRegisters(fields: Partial<GeneralRegisters> = {}): GeneralRegisters {
  return {
    rax: 0n,
    rbx: 0n,
    rcx: 0n,
    rdx: 0n,
    rsi: 0n,
    rdi: 0n,
    rsp: 0n,
    rbp: 0n,
    r8: 0n,
    r9: 0n,
    r10: 0n,
    r11: 0n,
    r12: 0n,
    r13: 0n,
    r14: 0n,
    r15: 0n,
    rip: 0n,
    rflags: 2n,
    ...fields,
  }
}

/** 64-bit code at `cpl`, with paging on from `cr3`. */
export function longMode(cpl: number, cr3 = 0n): SpecialRegisters {
  return {
    cs: segment({ type: 11, dpl: cpl, db: 0, l: 1 }),
    ds: segment({ dpl: cpl }),
    es: segment({ dpl: cpl }),
    fs: segment({ dpl: cpl }),
    gs: segment({ dpl: cpl }),
    ss: segment({ dpl: cpl }),
    ldt: segment({ unusable: 1 }),
    gdt: { base: 0n, limit: 0 },
    cr0: CR0_PROTECTED_PAGED,
    cr3,
    cr4: CR4_KERNEL,
    efer: EFER_LONG,
  }
}

/** 32-bit (or with `db` 0 16-bit) protected mode without paging. */
export function protectedMode(cpl: number, db = 1): SpecialRegisters {
  const special = longMode(cpl)
  special.cs = segment({ type: 11, dpl: cpl, db })
  return { ...special, cr0: 0x33n, cr4: CR4_KERNEL, efer: 0n }
}

export function realMode(): SpecialRegisters {
  const real = (): SegmentRegister => segment({ limit: 0xffff, db: 0 })
  return {
    ...longMode(0),
    cs: real(),
    ds: real(),
    es: real(),
    fs: real(),
    gs: real(),
    ss: real(),
    cr0: 0x10n,
    cr4: CR4_KERNEL,
    efer: 0n,
  }
}

/** A CPU with AVX and PKRU where AMD's CPUs have them. */
export const FEATURES: CpuFeatures = {
  physicalAddressBits: 48,
  xsaveComponents: [
    { index: 2, size: 256, offset: 576, supervisor: false, aligned: false },
    { index: 9, size: 8, offset: 2432, supervisor: false, aligned: false },
    { index: 11, size: 16, offset: 0, supervisor: true, aligned: false },
  ],
  supportedXcr0: 0x207n,
}

const FIRST_TABLE = 0x100000

export class FakeCpu implements CpuContext {
  readonly memory: FakeMemory = new FakeMemory()
  general: GeneralRegisters = generalRegisters()
  special: SpecialRegisters
  xsave: Uint8Array = new Uint8Array(4096)
  xcr0 = 7n
  readonly msrs: Map<number, bigint> = new Map()
  /** How often each getter and setter was called. */
  readonly calls: Map<string, number> = new Map()
  #nextTable = FIRST_TABLE

  constructor(special: SpecialRegisters) {
    this.special = special
    const view = new DataView(this.xsave.buffer)
    view.setUint16(0, 0x37f, true)
    view.setUint32(24, 0x1f80, true)
    view.setUint32(28, 0xffff, true)
  }

  /** Maps the page of a linear address to a physical one in 4-level tables; `entry` holds the bits of the last level. */
  map(linear: bigint, physical: number, entry: bigint = PTE_ALL): void {
    this.memory.page(physical)
    this.memory.set64(this.entryAddress(linear), BigInt(physical) | entry)
  }

  /** Where the entry of `level` (1: page table) for a linear address is; tables above it are made. */
  entryAddress(linear: bigint, level = 1): number {
    if (this.special.cr3 === 0n) this.special.cr3 = BigInt(this.#newTable())
    let table = Number(this.special.cr3 & 0xffffffffff000n)
    for (let at = 4; ; at--) {
      const address = table + Number((linear >> BigInt(12 + 9 * (at - 1))) & 511n) * 8
      if (at === level) return address
      if ((this.memory.get64(address) & PTE_PRESENT) === 0n) {
        this.memory.set64(address, BigInt(this.#newTable()) | PTE_ALL)
      }
      table = Number(this.memory.get64(address) & 0xffffffffff000n)
    }
  }

  #newTable(): number {
    const table = this.#nextTable
    this.#nextTable += PAGE_SIZE
    this.memory.page(table)
    return table
  }

  getRegisters(): GeneralRegisters {
    this.#count('getRegisters')
    return { ...this.general }
  }

  setRegisters(registers: GeneralRegisters): void {
    this.#count('setRegisters')
    this.general = registers
  }

  getSpecialRegisters(): SpecialRegisters {
    this.#count('getSpecialRegisters')
    return structuredClone(this.special)
  }

  setSpecialRegisters(registers: SpecialRegisters): void {
    this.#count('setSpecialRegisters')
    this.special = registers
  }

  getXsave(): Uint8Array {
    this.#count('getXsave')
    return this.xsave.slice()
  }

  setXsave(area: Uint8Array): void {
    this.#count('setXsave')
    this.xsave = area
  }

  getXcr0(): bigint {
    this.#count('getXcr0')
    return this.xcr0
  }

  setXcr0(value: bigint): void {
    this.#count('setXcr0')
    this.xcr0 = value
  }

  getMsr(index: number): bigint | undefined {
    return this.msrs.get(index)
  }

  setMsr(index: number, value: bigint): boolean {
    if (!this.msrs.has(index)) return false
    this.msrs.set(index, value)
    return true
  }

  /** What {@link fillRandom} gives, byte by byte. */
  randomByte = 0

  fillRandom(into: Uint8Array): void {
    into.fill(this.randomByte)
  }

  #count(name: string): void {
    this.calls.set(name, (this.calls.get(name) ?? 0) + 1)
  }
}
