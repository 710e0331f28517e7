/** The shapes that the JSON of a state has. */
import { MicroVmError } from '../error.ts'

/** The error for what no state can be. */
export function damaged(what: string, cause?: unknown): MicroVmError {
  return new MicroVmError('ERR_MICROVM_STATE', `a saved state is damaged: ${what}`, { cause })
}

/** An object. @throws MicroVmError ERR_MICROVM_STATE */
export function object(json: unknown, label: string): Readonly<Record<string, unknown>> {
  if (typeof json === 'object' && json !== null && !Array.isArray(json))
    return json as Record<string, unknown>
  throw damaged(`${label} is no object`)
}

/** An array. @throws MicroVmError ERR_MICROVM_STATE */
export function list(json: unknown, label: string): readonly unknown[] {
  if (Array.isArray(json)) return json
  throw damaged(`${label} is no array`)
}

/** A whole number. @throws MicroVmError ERR_MICROVM_STATE */
export function wholeNumber(json: unknown, label: string, most: number = Number.MAX_SAFE_INTEGER): number {
  if (Number.isSafeInteger(json) && Number(json) >= 0 && Number(json) <= most) return Number(json)
  throw damaged(`${label} is no whole number up to ${most}`)
}

const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/

/** Bytes, in base64. @throws MicroVmError ERR_MICROVM_STATE */
export function bytes(json: unknown, label: string): Uint8Array {
  if (typeof json === 'string' && BASE64.test(json)) return Uint8Array.from(Buffer.from(json, 'base64'))
  throw damaged(`${label} is no base64`)
}
