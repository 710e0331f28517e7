/** Checks saved states field by field. A snapshot file is input from a stranger. */
import { DevicesError } from './error.ts'

/**
 * Reads the fields of one state and throws `ERR_DEVICE_STATE`, naming the field, at the first that cannot be.
 */
export class StateChecker {
  readonly #device: string
  readonly #state: Readonly<Record<string, unknown>>

  /** @param device - what the state is of, for messages */
  constructor(device: string, state: object) {
    this.#device = device
    if (typeof state !== 'object' || state === null) {
      throw new DevicesError(
        'ERR_DEVICE_STATE',
        `${device} state: expected an object, got ${describe(state)}`,
      )
    }
    this.#state = Object.fromEntries(Object.entries(state))
  }

  /** The format's version must be this one. */
  version(expected: number): void {
    const field = 'version'
    if (this.#state[field] !== expected) this.refuse(field, String(expected))
  }

  /** An unsigned number of at most 32 bits, with no bit outside `mask`. */
  bits(field: string, mask: number): number {
    const value = this.#state[field]
    if (!isBits(value, mask)) this.refuse(field, `a number of the bits 0x${mask.toString(16)}`)
    return value
  }

  /** A whole number from `least` to `most`. */
  integer(field: string, least: number, most: number): number {
    const value = this.#state[field]
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < least || value > most) {
      this.refuse(field, `a whole number from ${least} to ${most}`)
    }
    return value
  }

  /** One of the listed numbers. */
  oneOf(field: string, values: readonly number[]): number {
    const value = this.#state[field]
    if (typeof value !== 'number' || !values.includes(value))
      this.refuse(field, `one of ${values.join(', ')}`)
    return value
  }

  boolean(field: string): boolean {
    const value = this.#state[field]
    if (typeof value !== 'boolean') this.refuse(field, 'a boolean')
    return value
  }

  /** An array of `least` to `most` numbers, each as {@link bits} has it. */
  bitsArray(field: string, least: number, most: number, mask: number): readonly number[] {
    const value = this.#state[field]
    if (!Array.isArray(value) || value.length < least || value.length > most) {
      this.refuse(field, least === most ? `${most} numbers` : `${least} to ${most} numbers`)
    }
    for (const [i, item] of value.entries()) {
      if (!isBits(item, mask))
        this.refuse(`${field}[${i}]`, `a number of the bits 0x${mask.toString(16)}`, item)
    }
    return value
  }

  /** Ends the check: `field` is not what it must be. */
  refuse(field: string, expected: string, value: unknown = this.#state[field]): never {
    const message = `${this.#device} state: ${field} must be ${expected}, got ${describe(value)}`
    throw new DevicesError('ERR_DEVICE_STATE', message)
  }
}

function isBits(value: unknown, mask: number): value is number {
  return typeof value === 'number' && value >>> 0 === value && (value & ~mask) === 0
}

function describe(value: unknown): string {
  if (typeof value === 'number' || typeof value === 'boolean' || value == null) return String(value)
  return Array.isArray(value) ? `an array of ${value.length}` : `a ${typeof value}`
}
