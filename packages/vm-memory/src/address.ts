/**
 * Guest physical addresses: numbers below 2^53, branded so that they are not mixed up with offsets and lengths.
 *
 * The functions of this package that take an address take any number and refuse those that are not in guest
 * memory; the brand is for code that keeps and computes addresses. Nothing here throws but {@link guestAddress}
 * and a host's own mistakes: arithmetic that leaves the address space returns `undefined`.
 */
import { hex, MemoryError } from './errors.ts'

declare const brand: unique symbol

/** A guest physical address: an integer from 0 to 2^53 - 1. */
export type GuestAddress = number & { readonly [brand]: 'GuestAddress' }

/** The highest guest address, 2^53 - 1. */
export const GUEST_ADDRESS_MAX: GuestAddress = Number.MAX_SAFE_INTEGER as GuestAddress

/** High words above this one make a 64-bit value that no number holds exactly. */
const HIGH_WORD_MAX = 0x1f_ffff

function isAddress(value: number): value is GuestAddress {
  return Number.isSafeInteger(value) && value >= 0
}

/**
 * Makes an address of a number.
 * @throws MemoryError ERR_MEMORY_INVALID_ADDRESS unless it is an integer from 0 to 2^53 - 1
 */
export function guestAddress(value: number): GuestAddress {
  if (isAddress(value)) return value
  throw new MemoryError('ERR_MEMORY_INVALID_ADDRESS', `${hex(value)} is not a guest address`, {
    address: value,
  })
}

/**
 * Joins the halves of a 64-bit address that a guest has written. `undefined` for 2^53 and above: combined
 * unchecked, such an address would be rounded to another one.
 */
export function addressFromWords(high: number, low: number): GuestAddress | undefined {
  return high >>> 0 > HIGH_WORD_MAX ? undefined : (((high >>> 0) * 2 ** 32 + (low >>> 0)) as GuestAddress)
}

/** `address + offset`, or `undefined` where that is no address. */
export function checkedAdd(address: GuestAddress, offset: number): GuestAddress | undefined {
  const sum = address + offset
  return isAddress(sum) && Number.isSafeInteger(offset) ? sum : undefined
}

/** `address - offset`, or `undefined` where that is no address. */
export function checkedSub(address: GuestAddress, offset: number): GuestAddress | undefined {
  return checkedAdd(address, -offset)
}

/** How far `address` lies above `base`, in bytes, or `undefined` where it lies below. */
export function offsetFrom(address: GuestAddress, base: GuestAddress): number | undefined {
  return address >= base ? address - base : undefined
}

/** The exponent of a power of two, or `undefined` for another number. Exact where bitwise operators are not. */
export function exactLog2(value: number): number | undefined {
  const exponent = Math.round(Math.log2(value))
  return 2 ** exponent === value && exponent >= 0 ? exponent : undefined
}

function checkAlignment(alignment: number): void {
  if (exactLog2(alignment) !== undefined) return
  throw new MemoryError('ERR_MEMORY_INVALID_ARGUMENT', `alignment ${alignment} is not a power of two`)
}

/**
 * The first multiple of `alignment` at or above `address`, or `undefined` where that is no address.
 * @param alignment in bytes, a power of two
 * @throws MemoryError ERR_MEMORY_INVALID_ARGUMENT for another alignment
 */
export function alignUp(address: GuestAddress, alignment: number): GuestAddress | undefined {
  checkAlignment(alignment)
  const rest = address % alignment
  return rest === 0 ? address : checkedAdd(address, alignment - rest)
}

/**
 * The last multiple of `alignment` at or below `address`.
 * @param alignment in bytes, a power of two
 * @throws MemoryError ERR_MEMORY_INVALID_ARGUMENT for another alignment
 */
export function alignDown(address: GuestAddress, alignment: number): GuestAddress {
  checkAlignment(alignment)
  return (address - (address % alignment)) as GuestAddress
}
