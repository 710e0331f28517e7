/**
 * `--disk path=FILE[,readonly=on][,id=NAME]`: as often as there are disks, in the order in which the guest names them.
 */
import { InvalidArgumentError } from 'commander'

/** One disk, as it was asked for. */
export interface DiskOption {
  readonly path: string
  readonly readOnly: boolean
  /** What the guest sees as the serial number, up to 20 characters. */
  readonly id: string
}

const KEYS = ['path', 'readonly', 'id']
const ID = /^[\x21-\x7e]{1,20}$/

/** Adds a disk to those before it. A comma ends a value: a path cannot have one. */
export function parseDisk(text: string, before: readonly DiskOption[] = []): readonly DiskOption[] {
  const values = new Map<string, string>()
  for (const part of text.split(',')) {
    const [, key = '', value = ''] = /^([^=]*)=(.*)$/s.exec(part) ?? [undefined, part]
    if (!KEYS.includes(key))
      throw new InvalidArgumentError(`Expected ${KEYS.join(', ')}, got ${key || part}.`)
    if (values.has(key)) throw new InvalidArgumentError(`Expected one ${key}, got more.`)
    if (value === '') throw new InvalidArgumentError(`Expected a value for ${key}, got none.`)
    values.set(key, value)
  }
  const path = values.get('path')
  if (path === undefined) throw new InvalidArgumentError('Expected path=FILE.')
  const readonly = values.get('readonly') ?? 'off'
  if (readonly !== 'on' && readonly !== 'off') {
    throw new InvalidArgumentError(`Expected readonly=on or readonly=off, got ${readonly}.`)
  }
  const id = values.get('id') ?? `disk${before.length}`
  if (!ID.test(id)) throw new InvalidArgumentError(`Expected an id of 1 to 20 characters, got ${id}.`)
  if (before.some((disk) => disk.id === id))
    throw new InvalidArgumentError(`Expected each id once, got ${id} twice.`)
  return [...before, { path, readOnly: readonly === 'on', id }]
}
