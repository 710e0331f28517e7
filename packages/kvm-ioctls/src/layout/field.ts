/**
 * The members of C structures: how each is read from memory, written to it, and carried in JSON.
 * All of x86-64's are little-endian, and aligned to their own size.
 */
import { KvmError, outOfRange } from '../errors.ts'

/** What JSON can hold. */
export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json }

/** A part of a structure, for checks against a C compiler. */
export interface LayoutMember {
  /** As `offsetof` takes it, for example `cs.base`. */
  readonly path: string
  /** In bytes, from the start of the structure. */
  readonly offset: number
  /** In bytes. */
  readonly size: number
}

/** One type of member. */
export interface Field<T> {
  /** In bytes. */
  readonly size: number
  /** What its offset is a multiple of. */
  readonly align: number
  /** Reads it; nothing of the result refers to the memory. */
  get(view: DataView, offset: number): T
  /** Writes it. `label` names it in errors. */
  set(view: DataView, offset: number, value: T, label: string): void
  /**
   * The member as an object over the memory, reading and writing in place. Scalars have none: an accessor of the
   * structure around them does.
   */
  live?(view: DataView, offset: number): T
  /** As JSON: 64-bit values and bytes as hexadecimal strings. */
  toJSON(value: T): Json
  /** From JSON, as if from an enemy. */
  fromJSON(json: unknown, label: string): T
  /** The parts below this member that have names of their own; none for scalars. */
  members?(path: string, offset: number): LayoutMember[]
}

/** The error of JSON that is not what it should be. */
export function invalidState(label: string, expected: string, got: unknown): KvmError {
  const shown = typeof got === 'object' ? (got === null ? 'null' : 'an object') : JSON.stringify(got)
  return new KvmError('ERR_KVM_INVALID_STATE', `${label}: expected ${expected}, got ${shown?.slice(0, 80)}`)
}

function integer(size: number, min: number, max: number, read: Read, write: Write): Field<number> {
  const expected = `an integer from ${min} to ${max}`
  const fits = (value: unknown): value is number =>
    Number.isInteger(value) && (value as number) >= min && (value as number) <= max
  return {
    size,
    align: size,
    get: read,
    set(view, offset, value, label) {
      if (!fits(value)) throw outOfRange(label, expected, value)
      write(view, offset, value)
    },
    toJSON: (value) => value,
    fromJSON(json, label) {
      if (!fits(json)) throw invalidState(label, expected, json)
      return json
    },
  }
}

type Read = (view: DataView, offset: number) => number
type Write = (view: DataView, offset: number, value: number) => void

/** `__u8` */
export const u8: Field<number> = integer(
  1,
  0,
  0xff,
  (view, offset) => view.getUint8(offset),
  (view, offset, value) => view.setUint8(offset, value),
)

/** `__u16` */
export const u16: Field<number> = integer(
  2,
  0,
  0xffff,
  (view, offset) => view.getUint16(offset, true),
  (view, offset, value) => view.setUint16(offset, value, true),
)

/** `__u32` */
export const u32: Field<number> = integer(
  4,
  0,
  0xffff_ffff,
  (view, offset) => view.getUint32(offset, true),
  (view, offset, value) => view.setUint32(offset, value, true),
)

/** `__s32` */
export const s32: Field<number> = integer(
  4,
  -0x8000_0000,
  0x7fff_ffff,
  (view, offset) => view.getInt32(offset, true),
  (view, offset, value) => view.setInt32(offset, value, true),
)

/** `__s16` */
export const s16: Field<number> = integer(
  2,
  -0x8000,
  0x7fff,
  (view, offset) => view.getInt16(offset, true),
  (view, offset, value) => view.setInt16(offset, value, true),
)

const HIGH_WORD = 0x1_0000_0000

/** `__u64` that is an address or a size: a number. What is above 2^53 cannot be written, and is rounded when read. */
export const size64: Field<number> = integer(
  8,
  0,
  Number.MAX_SAFE_INTEGER,
  (view, offset) => view.getUint32(offset + 4, true) * HIGH_WORD + view.getUint32(offset, true),
  (view, offset, value) => {
    view.setUint32(offset, value >>> 0, true)
    view.setUint32(offset + 4, Math.floor(value / HIGH_WORD), true)
  },
)

const HEX_U64 = /^0x[0-9a-f]{1,16}$/

/** `__u64` that is a bit pattern: a bigint. Written modulo 2^64, as registers wrap. */
export const u64: Field<bigint> = {
  size: 8,
  align: 8,
  get: (view, offset) => view.getBigUint64(offset, true),
  set: (view, offset, value) => view.setBigUint64(offset, value, true),
  toJSON: (value) => `0x${value.toString(16)}`,
  fromJSON(json, label) {
    if (typeof json !== 'string' || !HEX_U64.test(json)) {
      throw invalidState(label, 'a hexadecimal string of up to 64 bits', json)
    }
    return BigInt(json)
  },
}

const HEX_BYTES = /^[0-9a-f]*$/

/** `__u8 name[length]`: bytes. Read as a copy; in place as a view of the memory. */
export function bytes(length: number): Field<Uint8Array> {
  return {
    size: length,
    align: 1,
    get: (view, offset) => new Uint8Array(view.buffer, view.byteOffset + offset, length).slice(),
    set(view, offset, value, label) {
      if (value.length !== length) throw outOfRange(label, `${length} bytes`, `${value.length} bytes`)
      new Uint8Array(view.buffer, view.byteOffset + offset, length).set(value)
    },
    live: (view, offset) => new Uint8Array(view.buffer, view.byteOffset + offset, length),
    toJSON: (value) => Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('hex'),
    fromJSON(json, label) {
      if (typeof json !== 'string' || json.length !== 2 * length || !HEX_BYTES.test(json)) {
        throw invalidState(label, `${length} bytes as hexadecimal digits`, json)
      }
      return new Uint8Array(Buffer.from(json, 'hex'))
    },
  }
}

/** `type name[length]` */
export function array<T>(element: Field<T>, length: number): Field<readonly T[]> {
  const { size } = element
  const indices = Array.from({ length }, (_, index) => index)
  return {
    size: size * length,
    align: element.align,
    get: (view, offset) => indices.map((index) => element.get(view, offset + index * size)),
    set(view, offset, value, label) {
      if (value.length !== length) throw outOfRange(label, `${length} elements`, value.length)
      value.forEach((item, index) => {
        element.set(view, offset + index * size, item, `${label}[${index}]`)
      })
    },
    // Elements of scalar arrays have no place of their own: those arrays are read and written whole.
    ...(element.live !== undefined && {
      live: (view: DataView, offset: number) => {
        return indices.map((index) => element.live?.(view, offset + index * size) as T)
      },
    }),
    toJSON: (value) => value.map((item) => element.toJSON(item)),
    fromJSON: (json, label) => arrayFromJSON(element, json, label, length, length),
    members: (path, offset) => element.members?.(`${path}[0]`, offset) ?? [],
  }
}

/** Elements from JSON: an array of `min` to `max` of them. */
export function arrayFromJSON<T>(
  element: Field<T>,
  json: unknown,
  label: string,
  min: number,
  max: number,
): T[] {
  if (!Array.isArray(json) || json.length < min || json.length > max) {
    const count = min === max ? `${min}` : `${min} to ${max}`
    throw invalidState(label, `an array of ${count} elements`, Array.isArray(json) ? json.length : json)
  }
  return json.map((item, index) => element.fromJSON(item, `${label}[${index}]`))
}
