/**
 * ACPI Machine Language, as much of it as describes devices: names, numbers, strings, buffers, packages, and methods that
 * notify. An encoder: each function gives the bytes of one term. Nothing here interprets AML.
 *
 * ACPI 6.5, chapter 20.
 */

import { setUint64, viewOf } from '../fields.ts'
import { LoaderError } from '../loader-error.ts'

/** Encoded AML. */
export type Aml = Uint8Array

const ZERO_OP = 0x00
const ONE_OP = 0x01
const NAME_OP = 0x08
const BYTE_PREFIX = 0x0a
const WORD_PREFIX = 0x0b
const DWORD_PREFIX = 0x0c
const STRING_PREFIX = 0x0d
const QWORD_PREFIX = 0x0e
const SCOPE_OP = 0x10
const BUFFER_OP = 0x11
const PACKAGE_OP = 0x12
const METHOD_OP = 0x14
const DUAL_NAME_PREFIX = 0x2e
const EXT_OP_PREFIX = 0x5b
const ROOT_CHAR = 0x5c
const ARG0_OP = 0x68
const DEVICE_OP = 0x82
const NOTIFY_OP = 0x86
const LEQUAL_OP = 0x93
const IF_OP = 0xa0

const NAME_SEG = /^[A-Z_][A-Z0-9_]{0,3}$/

/** The first argument of a method. */
export const ARG0: Aml = Uint8Array.of(ARG0_OP)

/** Puts terms one after the other. */
export const concat = (...terms: readonly Uint8Array[]): Aml => Buffer.concat(terms)

/** A whole number from 0 to 2^53 - 1, in as few bytes as there can be. */
export const integer = (value: number): Aml => {
  if (value === 0) return Uint8Array.of(ZERO_OP)
  if (value === 1) return Uint8Array.of(ONE_OP)
  const bytes = new Uint8Array(9)
  setUint64(viewOf(bytes), 1, value)
  if (value < 2 ** 8) return prefixed(BYTE_PREFIX, bytes, 1)
  if (value < 2 ** 16) return prefixed(WORD_PREFIX, bytes, 2)
  return value < 2 ** 32 ? prefixed(DWORD_PREFIX, bytes, 4) : prefixed(QWORD_PREFIX, bytes, 8)
}

const prefixed = (prefix: number, bytes: Uint8Array, size: number): Aml => {
  bytes[0] = prefix
  return bytes.subarray(0, size + 1)
}

/** A string of ASCII characters. */
export const string = (text: string): Aml => {
  if (/[^\x20-\x7e]/.test(text)) throw new LoaderError('ERR_LOADER_ARGUMENT', `"${text}" is no ASCII text`)
  return Uint8Array.of(STRING_PREFIX, ...new TextEncoder().encode(text), 0)
}

/** A name of one segment, `VGEN`, or the path of two from the root, `\_SB.VGEN`. */
export const name = (path: string): Aml => {
  const isRooted = path.startsWith('\\')
  const segments = (isRooted ? path.slice(1) : path).split('.')
  if (segments.length > 2 || !segments.every((segment) => NAME_SEG.test(segment)))
    throw new LoaderError('ERR_LOADER_ARGUMENT', `"${path}" is no name in AML`)
  const root = isRooted ? [ROOT_CHAR] : []
  const prefix = segments.length === 2 ? [DUAL_NAME_PREFIX] : []
  const text = segments.map((segment) => segment.padEnd(4, '_')).join('')
  return Uint8Array.of(...root, ...prefix, ...new TextEncoder().encode(text))
}

/** `Name (path, value)` */
export const named = (path: string, value: Aml): Aml => concat(Uint8Array.of(NAME_OP), name(path), value)

/** `Buffer () { … }` */
export const buffer = (bytes: Uint8Array): Aml => packaged([BUFFER_OP], integer(bytes.length), bytes)

/** `Package () { … }` of up to 255 elements. */
export const packageOf = (...elements: readonly Aml[]): Aml =>
  packaged([PACKAGE_OP], Uint8Array.of(elements.length), ...elements)

/** `Scope (path) { … }` */
export const scope = (path: string, ...terms: readonly Aml[]): Aml =>
  packaged([SCOPE_OP], name(path), ...terms)

/** `Device (path) { … }` */
export const device = (path: string, ...terms: readonly Aml[]): Aml =>
  packaged([EXT_OP_PREFIX, DEVICE_OP], name(path), ...terms)

/** `Method (path, argumentCount, NotSerialized) { … }` */
export const method = (path: string, argumentCount: number, ...terms: readonly Aml[]): Aml =>
  packaged([METHOD_OP], name(path), Uint8Array.of(argumentCount), ...terms)

/** `If (left == right) { … }` */
export const ifEqual = (left: Aml, right: Aml, ...terms: readonly Aml[]): Aml =>
  packaged([IF_OP], Uint8Array.of(LEQUAL_OP), left, right, ...terms)

/** `Notify (path, value)` */
export const notify = (path: string, value: number): Aml =>
  concat(Uint8Array.of(NOTIFY_OP), name(path), integer(value))

/** An operator, the length of what follows it, and that (20.2.4). */
const packaged = (operator: readonly number[], ...terms: readonly Uint8Array[]): Aml => {
  const body = concat(...terms)
  return concat(Uint8Array.from(operator), packageLength(body.length), body)
}

/** The length counts its own bytes: one for up to 63 in all, else up to four with four bits in the first one. */
const packageLength = (bodySize: number): Uint8Array => {
  if (bodySize + 1 < 2 ** 6) return Uint8Array.of(bodySize + 1)
  const more = bodySize + 2 < 2 ** 12 ? 1 : bodySize + 3 < 2 ** 20 ? 2 : 3
  const length = bodySize + 1 + more
  const bytes = [(more << 6) | (length & 0xf)]
  for (let i = 0; i < more; i++) bytes.push((length >>> (4 + 8 * i)) & 0xff)
  return Uint8Array.from(bytes)
}
