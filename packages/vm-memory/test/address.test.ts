import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { GuestAddress } from '../src/index.ts'
import {
  addressFromWords,
  alignDown,
  alignUp,
  checkedAdd,
  checkedSub,
  GUEST_ADDRESS_MAX,
  guestAddress,
  offsetFrom,
} from '../src/index.ts'
import { memoryError } from './guest-memory.contract.ts'

const ZERO = guestAddress(0)

test('an address is an integer from 0 to 2^53 - 1', () => {
  expect(guestAddress(0)).toBe(0)
  expect(guestAddress(2 ** 53 - 1)).toBe(GUEST_ADDRESS_MAX)
  for (const value of [-1, 0.5, 2 ** 53, Number.NaN, Number.POSITIVE_INFINITY]) {
    expect(memoryError(() => guestAddress(value)).code).toBe('ERR_MEMORY_INVALID_ADDRESS')
  }
})

test('two words make an address, or none above 2^53', () => {
  expect(addressFromWords(0, 0xffff_ffff)).toBe(0xffff_ffff)
  expect(addressFromWords(1, 2)).toBe(2 ** 32 + 2)
  expect(addressFromWords(0x1f_ffff, 0xffff_ffff)).toBe(GUEST_ADDRESS_MAX)
  expect(addressFromWords(0x20_0000, 0)).toBeUndefined()
  expect(addressFromWords(0xffff_ffff, 0xffff_ffff)).toBeUndefined()
  // Words as bitwise operators leave them.
  expect(addressFromWords(0, -1)).toBe(0xffff_ffff)
  expect(addressFromWords(-1, 0)).toBeUndefined()
})

test('arithmetic stays among the addresses', () => {
  expect(checkedAdd(guestAddress(0x1000), 0x10)).toBe(0x1010)
  expect(checkedAdd(GUEST_ADDRESS_MAX, 0)).toBe(GUEST_ADDRESS_MAX)
  expect(checkedAdd(GUEST_ADDRESS_MAX, 1)).toBeUndefined()
  expect(checkedAdd(guestAddress(2), Number.MAX_SAFE_INTEGER)).toBeUndefined()
  expect(checkedAdd(ZERO, 0.5)).toBeUndefined()
  expect(checkedAdd(GUEST_ADDRESS_MAX, -0.25)).toBeUndefined()
  expect(checkedAdd(ZERO, Number.NaN)).toBeUndefined()
  expect(checkedSub(guestAddress(0x1000), 0x1000)).toBe(0)
  expect(checkedSub(guestAddress(0x1000), 0x1001)).toBeUndefined()
  expect(offsetFrom(guestAddress(0x1010), guestAddress(0x1000))).toBe(0x10)
  expect(offsetFrom(guestAddress(0x1000), guestAddress(0x1010))).toBeUndefined()
})

test('aligns up and down', () => {
  expect(alignUp(guestAddress(0x1001), 0x1000)).toBe(0x2000)
  expect(alignUp(guestAddress(0x1000), 0x1000)).toBe(0x1000)
  expect(alignUp(guestAddress(5), 1)).toBe(5)
  expect(alignUp(GUEST_ADDRESS_MAX, 2)).toBeUndefined()
  expect(alignUp(guestAddress(2 ** 40 + 1), 2 ** 40)).toBe(2 ** 41)
  expect(alignDown(guestAddress(0x1fff), 0x1000)).toBe(0x1000)
  expect(alignDown(GUEST_ADDRESS_MAX, 2 ** 52)).toBe(2 ** 52)
  for (const alignment of [0, 3, -4, 0.5, Number.NaN, 2 ** 52 + 1]) {
    expect(memoryError(() => alignUp(ZERO, alignment)).code).toBe('ERR_MEMORY_INVALID_ARGUMENT')
    expect(memoryError(() => alignDown(ZERO, alignment)).code).toBe('ERR_MEMORY_INVALID_ARGUMENT')
  }
})

test('agrees with exact arithmetic', () => {
  const addresses = fc.maxSafeNat().map((value) => value as GuestAddress)
  const exact = (value: bigint) => (value >= 0n && value < 2n ** 53n ? Number(value) : undefined)
  fc.assert(
    fc.property(addresses, fc.maxSafeInteger(), fc.integer({ min: 0, max: 52 }), (address, offset, shift) => {
      expect(checkedAdd(address, offset)).toBe(exact(BigInt(address) + BigInt(offset)))
      expect(checkedSub(address, offset)).toBe(exact(BigInt(address) - BigInt(offset)))
      const mask = (1n << BigInt(shift)) - 1n
      expect(alignUp(address, 2 ** shift)).toBe(exact((BigInt(address) + mask) & ~mask))
      expect(alignDown(address, 2 ** shift)).toBe(exact(BigInt(address) & ~mask))
    }),
  )
})
