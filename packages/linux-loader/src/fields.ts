/**
 * Fields of little-endian structures: each is declared once, as an offset and a width, and read and written through a
 * DataView. Tests hold the declared offsets against the C headers.
 */

import { LoaderError } from './loader-error.ts'

/** One scalar of a structure. */
export interface Field {
  /** Bytes from the start of the structure. */
  readonly offset: number
  /** Width in bytes. */
  readonly size: number
  /** Reads it from the structure at `base`. */
  get(view: DataView, base?: number): number
  /** Writes it to the structure at `base`. */
  set(view: DataView, value: number, base?: number): void
}

/** The fields of one structure, by their names in C. */
export type Layout<Name extends string> = Readonly<Record<Name, Field>>

/** A 64-bit value as a number; one of 2^53 or more is refused, as no address or size is that large. */
export const getUint64 = (view: DataView, offset: number): number => {
  const high = view.getUint32(offset + 4, true)
  const low = view.getUint32(offset, true)
  if (high > 0x1fffff) {
    const text = `0x${high.toString(16)}${low.toString(16).padStart(8, '0')}`
    throw new LoaderError('ERR_KERNEL_INVALID', `the header holds ${text} where an address or size belongs`, {
      offset,
    })
  }
  return high * 2 ** 32 + low
}

export const setUint64 = (view: DataView, offset: number, value: number): void => {
  view.setUint32(offset, value % 2 ** 32, true)
  view.setUint32(offset + 4, Math.floor(value / 2 ** 32), true)
}

export const u8 = (offset: number): Field => ({
  offset,
  size: 1,
  get: (view, base = 0) => view.getUint8(base + offset),
  set: (view, value, base = 0) => view.setUint8(base + offset, value),
})

export const u16 = (offset: number): Field => ({
  offset,
  size: 2,
  get: (view, base = 0) => view.getUint16(base + offset, true),
  set: (view, value, base = 0) => view.setUint16(base + offset, value, true),
})

export const u32 = (offset: number): Field => ({
  offset,
  size: 4,
  get: (view, base = 0) => view.getUint32(base + offset, true),
  set: (view, value, base = 0) => view.setUint32(base + offset, value, true),
})

export const u64 = (offset: number): Field => ({
  offset,
  size: 8,
  get: (view, base = 0) => getUint64(view, base + offset),
  set: (view, value, base = 0) => setUint64(view, base + offset, value),
})

/** A DataView over the same bytes. */
export const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
