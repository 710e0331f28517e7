/**
 * Option values of the form `key=value,key=value`. A comma ends a value: none can have one inside.
 */
import { InvalidArgumentError } from 'commander'

const OFF_ON = ['off', 'on']
/** Binary, as everywhere in the field. */
const UNITS = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 } as const

/** An option of this form, parsed. */
export interface AsGiven {
  /** As it was given: what a snapshot says of the device. */
  readonly text: string
}

/** The values of one option, by key. */
export class KeyValues {
  readonly #values = new Map<string, string>()

  /**
   * @param keys that may be there, each once
   * @throws InvalidArgumentError
   */
  constructor(text: string, keys: readonly string[]) {
    const values = this.#values
    for (const part of text.split(',')) {
      const [, key = '', value = ''] = /^([^=]*)=(.*)$/s.exec(part) ?? [undefined, part]
      if (!keys.includes(key))
        throw new InvalidArgumentError(`Expected ${keys.join(', ')}, got ${key || part}.`)
      if (values.has(key)) throw new InvalidArgumentError(`Expected one ${key}, got more.`)
      if (value === '') throw new InvalidArgumentError(`Expected a value for ${key}, got none.`)
      values.set(key, value)
    }
  }

  /** A text, undefined where it is not given. */
  text(key: string): string | undefined {
    return this.#values.get(key)
  }

  /**
   * A text that must be given.
   * @param example says what it is, in capitals
   * @throws InvalidArgumentError
   */
  required(key: string, example: string): string {
    const value = this.#values.get(key)
    if (value === undefined) throw new InvalidArgumentError(`Expected ${key}=${example}.`)
    return value
  }

  /** @throws InvalidArgumentError for what is neither `on` nor `off` */
  isOn(key: string, otherwise: boolean): boolean {
    return this.oneOf(key, OFF_ON, otherwise ? 'on' : 'off') === 'on'
  }

  /** @throws InvalidArgumentError for what is none of the choices */
  oneOf<Choice extends string>(key: string, choices: readonly Choice[], otherwise: Choice): Choice {
    const value = this.#values.get(key) ?? otherwise
    const choice = choices.find((one) => one === value)
    if (choice !== undefined) return choice
    throw new InvalidArgumentError(
      `Expected ${choices.map((one) => `${key}=${one}`).join(' or ')}, got ${value}.`,
    )
  }

  /**
   * A number of bytes, with K, M or G behind it or not; undefined where it is not given.
   * @throws InvalidArgumentError
   */
  size(key: string): number | undefined {
    const text = this.#values.get(key)
    return text === undefined ? undefined : size(key, text)
  }

  /**
   * A whole number, undefined where it is not given.
   * @param range what it may be, both ends included
   * @throws InvalidArgumentError
   */
  wholeNumber(key: string, range: { least: number; most: number }): number | undefined {
    const text = this.#values.get(key)
    if (text === undefined) return undefined
    const value = Number(text)
    if (/^\d+$/.test(text) && value >= range.least && value <= range.most) return value
    throw new InvalidArgumentError(
      `Expected a whole number from ${range.least} to ${range.most} for ${key}, got ${text}.`,
    )
  }
}

/**
 * Reads `512`, `64K`, `10M` or `1G`.
 * @throws InvalidArgumentError
 */
function size(key: string, text: string): number {
  const [, digits = '', unit = ''] = /^(\d+)([KMG]?)$/.exec(text) ?? []
  const value = Number(digits) * UNITS[unit as keyof typeof UNITS]
  if (value >= 1 && Number.isSafeInteger(value)) return value
  throw new InvalidArgumentError(
    `Expected a number of bytes such as 512, 64K or 10M for ${key}, got ${text}.`,
  )
}

/**
 * @param before the values of the options before this one
 * @throws InvalidArgumentError where one of them is the same
 */
export function expectOnce(what: string, value: string, before: readonly string[]): void {
  if (!before.includes(value)) return
  throw new InvalidArgumentError(`Expected each ${what} once, got ${value} twice.`)
}
