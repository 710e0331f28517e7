/**
 * The kernel command line: a builder that refuses what Linux would misread, and the write to guest memory.
 *
 * Linux: kernel/params.c (`next_arg`: double quotes protect spaces, nothing escapes a quote), init/main.c (what follows
 * `--` goes to init).
 */

import { type GuestMemory, requireRam } from './guest-memory.ts'
import { hex, LoaderError } from './loader-error.ts'

/** COMMAND_LINE_SIZE of x86: the longest command line with its NUL, in bytes. */
export const COMMAND_LINE_SIZE = 2048

const INIT_SEPARATOR = ' -- '

/**
 * Builds a command line within a capacity. Every method either applies whole or throws and changes nothing.
 *
 * @example
 * const cmdline = new Cmdline()
 * cmdline.insertStr('console=ttyS0 quiet')
 * cmdline.insert('panic', '-1')
 * cmdline.virtioMmioDevice(4096, 0xd0000000, 5)
 * cmdline.toString() // 'console=ttyS0 quiet panic=-1 virtio_mmio.device=4K@0xd0000000:5'
 */
export class Cmdline {
  /** Longest text with its NUL, in bytes. */
  readonly capacity: number
  #bootArgs = ''
  #initArgs = ''

  /**
   * @param capacity in bytes with the NUL, 1 or more; default {@link COMMAND_LINE_SIZE}
   * @throws {LoaderError} `ERR_LOADER_ARGUMENT`
   */
  constructor(capacity: number = COMMAND_LINE_SIZE) {
    if (!Number.isSafeInteger(capacity) || capacity < 1)
      throw new LoaderError(
        'ERR_LOADER_ARGUMENT',
        `a command line cannot have a capacity of ${capacity} bytes`,
        {
          capacity,
        },
      )
    this.capacity = capacity
  }

  /**
   * A command line from text, split at the first `--` that stands alone outside quotes.
   * @throws {LoaderError} as {@link insertStr}
   */
  static from(text: string, capacity?: number): Cmdline {
    const cmdline = new Cmdline(capacity)
    if (text.trim() !== '') cmdline.insertStr(text)
    return cmdline
  }

  /**
   * Appends `key=value`. A value with spaces or `=` needs double quotes around it; {@link insertStr} takes anything.
   * @throws {LoaderError} `ERR_CMDLINE_*`
   */
  insert(key: string, value: string): void {
    checkKey(key)
    checkValue(key, value)
    this.#append(`${key}=${value}`)
  }

  /**
   * Appends `key=value,value,…`.
   * @throws {LoaderError} `ERR_CMDLINE_*`; `ERR_CMDLINE_EMPTY` when there are no values
   */
  insertMultiple(key: string, values: readonly string[]): void {
    checkKey(key)
    if (values.length === 0) throw new LoaderError('ERR_CMDLINE_EMPTY', `"${key}" needs at least one value`)
    for (const value of values) checkValue(key, value)
    this.#append(`${key}=${values.join(',')}`)
  }

  /**
   * Appends text as it is, white space at its ends left out. What follows a `--` that stands alone outside quotes is
   * appended to the arguments for init.
   * @throws {LoaderError} `ERR_CMDLINE_*`
   */
  insertStr(text: string): void {
    checkCharacters(text)
    checkQuotes(text)
    const { boot, init } = splitAtSeparator(text)
    if (boot === '' && init === '') throw new LoaderError('ERR_CMDLINE_EMPTY', 'there is no text to insert')
    this.#append(boot, init)
  }

  /**
   * Appends arguments for init, which follow ` -- `.
   * @throws {LoaderError} `ERR_CMDLINE_*`; `ERR_CMDLINE_NO_BOOT_ARGS` when the kernel has none yet
   */
  insertInitArgs(text: string): void {
    checkCharacters(text)
    checkQuotes(text)
    if (text.trim() === '') throw new LoaderError('ERR_CMDLINE_EMPTY', 'there is no text to insert')
    this.#append('', text.trim())
  }

  /**
   * Appends `virtio_mmio.device=<size>@<address>:<irq>[:<id>]`, which tells Linux of a virtio-mmio device.
   *
   * @param size of the register window in bytes, above 0; written with K, M or G where it is a multiple
   * @param address guest-physical, of the window
   * @param irq interrupt line
   * @param id platform device id; Linux counts up from 0 without one
   * @throws {LoaderError} `ERR_LOADER_ARGUMENT`, `ERR_CMDLINE_TOO_LONG`
   */
  virtioMmioDevice(size: number, address: number, irq: number, id?: number): void {
    const valid =
      Number.isSafeInteger(size) &&
      size > 0 &&
      Number.isSafeInteger(address) &&
      address >= 0 &&
      Number.isSafeInteger(address + size) &&
      isSmallCount(irq) &&
      (id === undefined || isSmallCount(id))
    if (!valid)
      throw new LoaderError(
        'ERR_LOADER_ARGUMENT',
        `no virtio-mmio device can have ${size} bytes at ${address}, IRQ ${irq}${id === undefined ? '' : ` and id ${id}`}`,
        { size, address, irq },
      )
    const suffix = id === undefined ? '' : `:${id}`
    this.#append(`virtio_mmio.device=${withUnit(size)}@${hex(address)}:${irq}${suffix}`)
  }

  /** Bytes that it takes with its NUL. */
  get byteLength(): number {
    return this.toString().length + 1
  }

  /** The text without a NUL. */
  toString(): string {
    return join(this.#bootArgs, this.#initArgs)
  }

  /** The text and its NUL. */
  toBytes(): Uint8Array {
    return new TextEncoder().encode(`${this.toString()}\0`)
  }

  /** Whether the other one has the same text and capacity. */
  equals(other: Cmdline): boolean {
    return this.capacity === other.capacity && this.toString() === other.toString()
  }

  #append(boot: string, init = ''): void {
    const bootArgs = appendWord(this.#bootArgs, boot)
    const initArgs = appendWord(this.#initArgs, init)
    if (bootArgs === '')
      throw new LoaderError(
        'ERR_CMDLINE_NO_BOOT_ARGS',
        `there are arguments for init ("${init}") but none for the kernel`,
      )
    const size = join(bootArgs, initArgs).length + 1
    if (size > this.capacity)
      throw new LoaderError(
        'ERR_CMDLINE_TOO_LONG',
        `the command line takes ${size} bytes with its NUL, but at most ${this.capacity} are allowed`,
        { size, capacity: this.capacity },
      )
    this.#bootArgs = bootArgs
    this.#initArgs = initArgs
  }
}

/**
 * Writes a command line with its NUL.
 *
 * @param address guest-physical
 * @returns bytes written
 * @throws {LoaderError} `ERR_CMDLINE_DOES_NOT_FIT`
 */
export const writeCmdline = (memory: GuestMemory, address: number, cmdline: Cmdline): number => {
  const bytes = cmdline.toBytes()
  requireRam(memory, 'the command line', address, bytes.length, 'ERR_CMDLINE_DOES_NOT_FIT')
  memory.writeSlice(address, bytes)
  return bytes.length
}

const isSmallCount = (value: number): boolean => Number.isInteger(value) && value >= 0 && value < 2 ** 31

const appendWord = (text: string, word: string): string =>
  text === '' || word === '' ? text + word : `${text} ${word}`

const join = (boot: string, init: string): string => (init === '' ? boot : boot + INIT_SEPARATOR + init)

const withUnit = (size: number): string => {
  for (const [unit, shift] of [
    ['G', 30],
    ['M', 20],
    ['K', 10],
  ] as const)
    if (size % 2 ** shift === 0) return `${size / 2 ** shift}${unit}`
  return `${size}`
}

const checkCharacters = (text: string): void => {
  const bad = /[^\x20-\x7e]/u.exec(text)
  if (bad === null) return
  const code = (bad[0].codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')
  throw new LoaderError(
    'ERR_CMDLINE_CHARACTER',
    `the command line has U+${code} at ${bad.index}: expected printable ASCII`,
    { index: bad.index },
  )
}

const checkQuotes = (text: string): void => {
  if (text.split('"').length % 2 === 0)
    throw new LoaderError('ERR_CMDLINE_QUOTE', `a quote is not closed in: ${text}`)
}

const checkKey = (key: string): void => {
  checkCharacters(key)
  if (key === '') throw new LoaderError('ERR_CMDLINE_EMPTY', 'the key of a command line argument is empty')
  if (key.includes(' ')) throw new LoaderError('ERR_CMDLINE_SPACE', `the key "${key}" has a space`)
  if (key.includes('=')) throw new LoaderError('ERR_CMDLINE_EQUALS', `the key "${key}" has an "="`)
  if (key.includes('"')) throw new LoaderError('ERR_CMDLINE_QUOTE', `the key ${key} has a quote`)
}

const checkValue = (key: string, value: string): void => {
  checkCharacters(value)
  if (value === '') throw new LoaderError('ERR_CMDLINE_EMPTY', `"${key}" has an empty value`)
  const quoted = value.length >= 2 && value.startsWith('"') && value.endsWith('"')
  const inner = quoted ? value.slice(1, -1) : value
  if (inner.includes('"'))
    throw new LoaderError(
      'ERR_CMDLINE_QUOTE',
      `the value of "${key}" has a quote that is not around the whole: ${value}`,
    )
  if (quoted) return
  if (value.includes(' '))
    throw new LoaderError(
      'ERR_CMDLINE_SPACE',
      `the value of "${key}" has a space but no quotes around it: ${value}`,
    )
  if (value.includes('='))
    throw new LoaderError(
      'ERR_CMDLINE_EQUALS',
      `the value of "${key}" has an "=" but no quotes around it: ${value}`,
    )
}

/** Splits at the first `--` that is a word of its own outside quotes. */
const splitAtSeparator = (text: string): { boot: string; init: string } => {
  let quoted = false
  for (let i = 0; i < text.length; i++) {
    if (text[i] === '"') quoted = !quoted
    const isSeparator =
      !quoted && text.startsWith('--', i) && (text[i - 1] ?? ' ') === ' ' && (text[i + 2] ?? ' ') === ' '
    if (isSeparator) return { boot: text.slice(0, i).trim(), init: text.slice(i + 2).trim() }
  }
  return { boot: text.trim(), init: '' }
}
