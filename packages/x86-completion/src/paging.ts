/**
 * The page walk: linear to physical addresses as the MMU does it, with the error code of `#PF`, and the accessed and
 * dirty bits set. 32-bit, PAE, 4-level and 5-level paging; large pages; WP, NX, SMEP, SMAP and protection keys for
 * user pages. Not here: supervisor protection keys, shadow-stack accesses, linear-address masking.
 *
 * Intel SDM vol. 3, chapter 5 (Paging). KVM's own KVM_TRANSLATE tells neither why a translation fails nor
 * does it set dirty bits, hence this.
 */

import {
  CR0_PG,
  CR0_WP,
  CR4_LA57,
  CR4_PAE,
  CR4_PKE,
  CR4_PSE,
  CR4_SMAP,
  CR4_SMEP,
  EFER_LMA,
  EFER_NXE,
} from './architecture.ts'
import type { PhysicalMemory, SpecialRegisters } from './context.ts'

/** What an access is, as a set of bits; 0 is a read of data. */
export const ACCESS_READ = 0
export const ACCESS_WRITE = 1
export const ACCESS_FETCH = 2
/** A supervisor access whatever the CPL is: descriptor tables. */
export const ACCESS_IMPLICIT = 4

/** {@link PageWalker.translate} failed: a page fault, with the code in {@link PageWalker.errorCode}. */
export const TRANSLATE_FAULT = -1
/** {@link PageWalker.translate} failed: a paging structure is not in guest memory. */
export const TRANSLATE_UNREACHABLE = -2

export const PAGE_SIZE = 4096

const PF_PRESENT = 1 << 0
const PF_WRITE = 1 << 1
const PF_USER = 1 << 2
const PF_RESERVED = 1 << 3
const PF_FETCH = 1 << 4
const PF_KEY = 1 << 5

const PTE_PRESENT = 1 << 0
const PTE_WRITABLE = 1 << 1
const PTE_USER = 1 << 2
const PTE_ACCESSED = 1 << 5
const PTE_DIRTY = 1 << 6
const PTE_LARGE = 1 << 7
/** In the high half of an 8-byte entry. */
const PTE_NX_HIGH = 1 << 31

/** A paging-structure entry whose accessed or dirty bit is to be set. */
interface EntryUpdate {
  readonly address: number
  readonly low: number
  readonly high: number
  bits: number
}

export class PageWalker {
  readonly #memory: PhysicalMemory
  readonly #physicalHighMask: number
  readonly #entry = new Uint8Array(8)
  readonly #entryView = new DataView(this.#entry.buffer)
  readonly #shortEntry = this.#entry.subarray(0, 4)
  readonly #replacement = new Uint8Array(8)
  readonly #replacementView = new DataView(this.#replacement.buffer)
  readonly #updates: EntryUpdate[] = []

  #cr0 = 0
  #cr4 = 0
  #efer = 0
  #root = 0
  #isUser = false
  #allowsUserData = false
  #entrySize = 8

  /** Error code of the last fault. */
  errorCode = 0
  /** Gives PKRU; asked only when the guest has protection keys on. */
  readonly #pkru: () => number

  constructor(memory: PhysicalMemory, physicalAddressBits: number, pkru: () => number) {
    this.#memory = memory
    this.#physicalHighMask = 2 ** Math.max(physicalAddressBits - 32, 0) - 1
    this.#pkru = pkru
  }

  /** Takes the state that paging depends on. `alignmentCheck` is RFLAGS.AC, which suspends SMAP. */
  configure(special: SpecialRegisters, cpl: number, alignmentCheck: boolean): void {
    this.#cr0 = Number(special.cr0 & 0xffffffffn)
    this.#cr4 = Number(special.cr4 & 0xffffffffn)
    this.#efer = Number(special.efer & 0xffffffffn)
    this.#isUser = cpl === 3
    this.#allowsUserData = alignmentCheck
    this.#updates.length = 0
    const isPae = (this.#cr4 & CR4_PAE) !== 0
    const isLong = (this.#efer & EFER_LMA) !== 0
    this.#entrySize = isPae ? 8 : 4
    const low = Number(special.cr3 & 0xffffffffn)
    const high = isLong ? Number((special.cr3 >> 32n) & BigInt(this.#physicalHighMask)) : 0
    this.#root = high * 2 ** 32 + ((isPae && !isLong ? low & ~0x1f : low & ~0xfff) >>> 0)
  }

  /**
   * The physical address of a linear one, or TRANSLATE_FAULT or TRANSLATE_UNREACHABLE. The access covers bytes up to
   * the end of the 4 KiB page at most. Accessed and dirty bits are noted, and set by {@link commit}.
   */
  translate(linear: bigint, access: number): number {
    const low = Number(linear & 0xffffffffn)
    if ((this.#cr0 & CR0_PG) === 0) return low
    const high = Number((linear >> 32n) & 0xffffffffn)
    const isLong = (this.#efer & EFER_LMA) !== 0
    const isPae = (this.#cr4 & CR4_PAE) !== 0
    const entrySize = this.#entrySize
    const indexBits = isPae ? 9 : 10

    let table = this.#root
    let rights = PTE_WRITABLE | PTE_USER
    let isNoExecute = false
    let level = isLong ? ((this.#cr4 & CR4_LA57) !== 0 ? 5 : 4) : isPae ? 3 : 2
    for (; ; level--) {
      const shift = 12 + indexBits * (level - 1)
      const address = table + tableIndex(low, high, shift, indexBits) * entrySize
      if (!this.#readEntry(address)) return TRANSLATE_UNREACHABLE
      const entryLow = this.#entryView.getUint32(0, true)
      const entryHigh = isPae ? this.#entryView.getUint32(4, true) : 0
      if ((entryLow & PTE_PRESENT) === 0) return this.#fault(access, 0)
      const isDirectoryPointer = isPae && !isLong && level === 3
      const isLeaf =
        level === 1 || ((entryLow & PTE_LARGE) !== 0 && this.#hasLargePages(level, isLong, isPae))
      if (this.#hasReservedBits(entryLow, entryHigh, level, isLeaf, isLong, isPae)) {
        return this.#fault(access, PF_PRESENT | PF_RESERVED)
      }
      // The four directory pointers of PAE paging carry no rights and no accessed bit.
      if (!isDirectoryPointer) {
        rights &= entryLow
        if (isPae && (entryHigh & PTE_NX_HIGH) !== 0) isNoExecute = true
        const wanted = isLeaf && (access & ACCESS_WRITE) !== 0 ? PTE_ACCESSED | PTE_DIRTY : PTE_ACCESSED
        if ((entryLow & wanted) !== wanted) this.#noteUpdate(address, entryLow, entryHigh, wanted & ~entryLow)
      }
      const frame = (entryHigh & this.#physicalHighMask) * 2 ** 32
      if (!isLeaf) {
        table = frame + ((entryLow & ~0xfff) >>> 0)
        continue
      }
      const violation = this.#violation(access, rights, isNoExecute, isLong ? entryHigh : 0)
      if (violation !== 0) return this.#fault(access, violation)
      const offsetMask = 2 ** shift - 1
      if (level === 1) return frame + ((entryLow & ~0xfff) >>> 0) + (low & 0xfff)
      // 4 MiB pages keep physical address bits 39 to 32 in bits 20 to 13 (PSE-36).
      const large = isPae ? frame : ((entryLow >>> 13) & 0xff) * 2 ** 32
      return large + ((entryLow & ~offsetMask) >>> 0) + ((low & offsetMask) >>> 0)
    }
  }

  /** Forgets noted accessed and dirty bits: the access will not be made. */
  discard(): void {
    this.#updates.length = 0
  }

  /** Sets the noted accessed and dirty bits; false if the guest changed an entry meanwhile: walk again. */
  commit(): boolean {
    if (this.#updates.length === 0) return true
    const size = this.#entrySize
    const entry = size === 8 ? this.#entry : this.#shortEntry
    const replacement = this.#replacement.subarray(0, size)
    for (const update of this.#updates) {
      this.#entryView.setUint32(0, update.low, true)
      this.#entryView.setUint32(4, update.high, true)
      this.#replacementView.setUint32(0, update.low | update.bits, true)
      this.#replacementView.setUint32(4, update.high, true)
      const isDone =
        this.#memory.compareExchange === undefined
          ? this.#memory.write(update.address, replacement)
          : this.#memory.compareExchange(update.address, entry, replacement)
      if (!isDone) {
        this.#updates.length = 0
        return false
      }
    }
    this.#updates.length = 0
    return true
  }

  #readEntry(address: number): boolean {
    return this.#memory.read(address, this.#entrySize === 8 ? this.#entry : this.#shortEntry)
  }

  #noteUpdate(address: number, low: number, high: number, bits: number): void {
    const known = this.#updates.find((update) => update.address === address)
    if (known === undefined) this.#updates.push({ address, low, high, bits })
    else known.bits |= bits
  }

  #hasLargePages(level: number, isLong: boolean, isPae: boolean): boolean {
    if (level === 2) return isPae || (this.#cr4 & CR4_PSE) !== 0
    return level === 3 && isLong
  }

  #hasReservedBits(
    low: number,
    high: number,
    level: number,
    isLeaf: boolean,
    isLong: boolean,
    isPae: boolean,
  ): boolean {
    if (!isPae) return isLeaf && level === 2 && (low & (1 << 21)) !== 0
    if ((high & 0xfffff & ~this.#physicalHighMask) !== 0) return true
    if (!isLong && (high & 0x7ff00000) !== 0) return true
    if (!isLong && level === 3) return (high & PTE_NX_HIGH) !== 0 || (low & 0b1_1110_0110) !== 0
    if ((high & PTE_NX_HIGH) !== 0 && (this.#efer & EFER_NXE) === 0) return true
    if ((low & PTE_LARGE) !== 0 && level >= 4) return true
    // Between bit 12 (PAT) and the page frame of a large page.
    if (isLeaf && level > 1) return (low & (2 ** (12 + 9 * (level - 1)) - 1) & ~0x1fff) !== 0
    return false
  }

  /** The error-code bits of a protection violation, 0 if the access is allowed. */
  #violation(access: number, rights: number, isNoExecute: boolean, keyBits: number): number {
    const isUserPage = (rights & PTE_USER) !== 0
    const isUserAccess = this.#isUser && (access & ACCESS_IMPLICIT) === 0
    if (isUserAccess && !isUserPage) return PF_PRESENT
    if ((access & ACCESS_FETCH) !== 0) {
      const isForbidden = isUserPage && !isUserAccess && (this.#cr4 & CR4_SMEP) !== 0
      return isNoExecute || isForbidden ? PF_PRESENT : 0
    }
    const isWrite = (access & ACCESS_WRITE) !== 0
    const isWriteProtecting = isUserAccess || (this.#cr0 & CR0_WP) !== 0
    let violation = 0
    if (isWrite && (rights & PTE_WRITABLE) === 0 && isWriteProtecting) violation = PF_PRESENT
    if (isUserPage && !isUserAccess && (this.#cr4 & CR4_SMAP) !== 0) {
      if (!this.#allowsUserData || (access & ACCESS_IMPLICIT) !== 0) violation = PF_PRESENT
    }
    if (isUserPage && (this.#cr4 & CR4_PKE) !== 0 && (this.#efer & EFER_LMA) !== 0) {
      const rightsOfKey = (this.#pkru() >>> (((keyBits >>> 27) & 15) * 2)) & 3
      const isWriteDenied = isWrite && isWriteProtecting && (rightsOfKey & 0b10) !== 0
      if ((rightsOfKey & 0b01) !== 0 || isWriteDenied) violation |= PF_PRESENT | PF_KEY
    }
    return violation
  }

  #fault(access: number, cause: number): number {
    let code = cause
    if ((access & ACCESS_WRITE) !== 0) code |= PF_WRITE
    if (this.#isUser && (access & ACCESS_IMPLICIT) === 0) code |= PF_USER
    const tellsFetch = this.#entrySize === 8 && (this.#efer & EFER_NXE) !== 0
    if ((access & ACCESS_FETCH) !== 0 && (tellsFetch || (this.#cr4 & CR4_SMEP) !== 0)) code |= PF_FETCH
    this.errorCode = code
    this.#updates.length = 0
    return TRANSLATE_FAULT
  }
}

/** Bits `shift` and up of a 64-bit number in two halves, `bits` of them. */
function tableIndex(low: number, high: number, shift: number, bits: number): number {
  const field =
    shift >= 32
      ? high >>> (shift - 32)
      : shift + bits > 32
        ? (low >>> shift) | (high << (32 - shift))
        : low >>> shift
  return field & (2 ** bits - 1)
}
