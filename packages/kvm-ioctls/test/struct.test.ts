import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import * as K from '../src/index.ts'
import { array, bytes, s16, s32, size64, u8, u16, u32, u64 } from '../src/layout/field.ts'
import { Struct } from '../src/layout/struct.ts'
import { kvm_mp_state } from '../src/structs/events.ts'

interface Inner {
  small: number
  large: bigint
}

interface Outer {
  first: number
  signed: number
  short: number
  word: number
  address: number
  raw: Uint8Array
  inner: Inner
  numbers: readonly number[]
  inners: readonly Inner[]
}

const inner = new Struct<Inner>('inner', { small: u8, large: u64 })
const outer = new Struct<Outer>('outer', {
  first: u8,
  signed: s32,
  short: s16,
  word: u32,
  address: size64,
  raw: bytes(5),
  _padding: bytes(3),
  inner,
  numbers: array(u16, 3),
  inners: array(inner, 2),
})

const anyInner = fc.record({
  small: fc.integer({ min: 0, max: 0xff }),
  large: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
})
const anyOuter: fc.Arbitrary<Outer> = fc.record({
  first: fc.integer({ min: 0, max: 0xff }),
  signed: fc.integer({ min: -0x8000_0000, max: 0x7fff_ffff }),
  short: fc.integer({ min: -0x8000, max: 0x7fff }),
  word: fc.integer({ min: 0, max: 0xffff_ffff }),
  address: fc.maxSafeNat(),
  raw: fc.uint8Array({ minLength: 5, maxLength: 5 }),
  inner: anyInner,
  numbers: fc.array(fc.integer({ min: 0, max: 0xffff }), { minLength: 3, maxLength: 3 }),
  inners: fc.array(anyInner, { minLength: 2, maxLength: 2 }),
})

/** Every structure of the public API that is state. */
const exported: readonly unknown[] = Object.values(K)
const states = exported.filter((value): value is Struct<object> => value instanceof Struct)

describe('a structure', () => {
  test('lays its members out as C does', () => {
    expect(outer.members().map(({ path, offset }) => [path, offset])).toEqual([
      ['first', 0],
      ['signed', 4],
      ['short', 8],
      ['word', 12],
      ['address', 16],
      ['raw', 24],
      ['inner', 32],
      ['inner.small', 32],
      ['inner.large', 40],
      ['numbers', 48],
      ['inners', 56],
      ['inners[0].small', 56],
      ['inners[0].large', 64],
    ])
    expect([outer.size, outer.align, outer.offsetOf('inner.large')]).toEqual([88, 8, 40])
    expect(() => outer.offsetOf('nothing')).toThrow(K.KvmError)
  })

  test('comes back from bytes, from views and from JSON as it went in', () => {
    fc.assert(
      fc.property(anyOuter, (value) => {
        expect(outer.decode(outer.encode(value))).toEqual(value)
        const view = outer.allocate()
        Object.assign(view, value)
        expect(outer.decode(outer.encode(view))).toEqual(value)
        expect(outer.fromJSON(JSON.parse(JSON.stringify(view)))).toEqual(value)
        expect(outer.fromJSON(JSON.parse(JSON.stringify(outer.toJSON(value))))).toEqual(value)
      }),
    )
  })

  test('in place shows what the memory has, down to its parts, and writes there', () => {
    const memory = new DataView(new ArrayBuffer(outer.size + 8))
    const view = outer.live(memory, 8)
    view.inner.large = 0x1234n
    const [, second] = view.inners
    if (second !== undefined) second.small = 7
    view.raw[4] = 9
    expect(memory.getBigUint64(8 + 40, true)).toBe(0x1234n)
    expect(memory.getUint8(8 + 72)).toBe(7)
    expect(memory.getUint8(8 + 28)).toBe(9)
    memory.setUint32(8 + 12, 0xffff_ffff, true)
    expect(view.word).toBe(0xffff_ffff)
    expect(outer.bytesOf(view).byteOffset).toBe(8)
  })

  test('refuses values that do not fit, and says which', () => {
    const value = outer.get(new DataView(new ArrayBuffer(outer.size)), 0)
    const cases: readonly (readonly [Partial<Outer>, string])[] = [
      [{ first: 256 }, 'outer.first'],
      [{ first: 0.5 }, 'outer.first'],
      [{ signed: 2 ** 31 }, 'outer.signed'],
      [{ short: -32769 }, 'outer.short'],
      [{ word: -1 }, 'outer.word'],
      [{ address: 2 ** 53 }, 'outer.address'],
      [{ raw: new Uint8Array(4) }, 'outer.raw'],
      [{ numbers: [1, 2] }, 'outer.numbers'],
      [{ numbers: [1, 2, -3] }, 'outer.numbers[2]'],
      [{ inner: { small: 999, large: 0n } }, 'outer.inner.small'],
    ]
    for (const [change, label] of cases) {
      expect(() => outer.encode({ ...value, ...change }), label).toThrow(
        expect.objectContaining({
          code: 'ERR_KVM_OUT_OF_RANGE',
          message: expect.stringContaining(`${label}:`),
        }),
      )
    }
  })

  test('writes registers modulo 2^64', () => {
    expect(inner.decode(inner.encode({ small: 0, large: -1n })).large).toBe(2n ** 64n - 1n)
  })

  test('does not take a view of another structure for its own', () => {
    expect(() => outer.bytesOf(inner.allocate() as never)).toThrow(K.KvmError)
    expect(() => outer.encode(inner.allocate() as never)).toThrow(K.KvmError)
  })
})

describe('JSON', () => {
  test('of every state comes back as it went', () => {
    expect(states.length).toBeGreaterThan(12)
    for (const state of states) {
      fc.assert(
        fc.property(fc.uint8Array({ minLength: state.size, maxLength: state.size }), (memory) => {
          const value = state.decode(memory)
          // Addresses that no number holds are not exact to begin with.
          const json = JSON.parse(JSON.stringify(state.toJSON(value)))
          let back: object
          try {
            back = state.fromJSON(json)
          } catch {
            return
          }
          expect(back).toEqual(value)
        }),
        { numRuns: 20 },
      )
    }
  })

  test('from an enemy is refused with an error that names the place, and nothing else happens', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.constantFrom(...states), (json, state) => {
        try {
          state.fromJSON(json)
        } catch (error) {
          expect(error).toBeInstanceOf(K.KvmError)
        }
      }),
    )
  })

  test.each([
    ['rip', -1],
    ['rip', '-1'],
    ['rip', '0x'],
    ['rip', '0x12345678123456781'],
    ['rip', '0XFF'],
    ['rip', ' 0x1'],
    ['rip', null],
    ['rip', undefined],
  ])('of a register is a hexadecimal string, and not %s = %j', (key, value) => {
    const json = { ...(K.kvm_regs.toJSON(K.kvm_regs.allocate()) as object), [key]: value }
    expect(() => K.kvm_regs.fromJSON(json)).toThrow(
      expect.objectContaining({
        code: 'ERR_KVM_INVALID_STATE',
        message: expect.stringContaining('kvm_regs.rip'),
      }),
    )
  })

  test('members come from the object itself', () => {
    const json = Object.create(kvm_mp_state.toJSON({ mp_state: 1 }) as object)
    expect(() => kvm_mp_state.fromJSON(json)).toThrow(K.KvmError)
    expect(kvm_mp_state.fromJSON({ mp_state: 1, more: 2 })).toEqual({ mp_state: 1 })
  })

  test('of bytes has all of them', () => {
    expect(() => K.kvm_lapic_state.fromJSON({ regs: 'ff' })).toThrow(K.KvmError)
    expect(() => K.kvm_lapic_state.fromJSON({ regs: 'zz'.repeat(0x400) })).toThrow(K.KvmError)
    expect(K.kvm_lapic_state.fromJSON({ regs: 'ab'.repeat(0x400) }).regs[0x3ff]).toBe(0xab)
  })
})
