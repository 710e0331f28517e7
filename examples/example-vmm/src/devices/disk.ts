/**
 * `--disk path=FILE[,readonly=on][,id=NAME][,direct=on][,engine=NAME][,rate=BYTES][,iops=N]`: as often as there are disks,
 * in the order in which the guest names them.
 */
import { type DiskEngine, openDisk } from '@vmm/block'
import { Blk, type RateLimit } from '@vmm/devices/virtio'
import type { AttachDevice } from '@vmm/microvm'
import { InvalidArgumentError } from 'commander'
import { type AsGiven, expectOnce, KeyValues } from './key-values.ts'
import { rateLimit } from './rate.ts'

/** One disk, as it was asked for. */
export interface DiskOption extends AsGiven {
  readonly path: string
  readonly readOnly: boolean
  /** What the guest sees as the serial number, up to 20 characters. */
  readonly id: string
  /** Past the host's page cache. */
  readonly direct: boolean
  readonly engine: DiskEngine | 'auto'
  readonly rateLimit: RateLimit
}

const ENGINES = ['auto', 'io_uring', 'threads', 'sync'] as const

const ID = /^[\x21-\x7e]{1,20}$/

/** Adds a disk to those before it. */
export function parseDisk(text: string, before: readonly DiskOption[] = []): readonly DiskOption[] {
  const values = new KeyValues(text, ['path', 'readonly', 'id', 'direct', 'engine', 'rate', 'iops'])
  const path = values.required('path', 'FILE')
  const readOnly = values.isOn('readonly', false)
  const direct = values.isOn('direct', false)
  const engine = values.oneOf('engine', ENGINES, 'auto')
  const id = values.text('id') ?? `disk${before.length}`
  if (!ID.test(id)) throw new InvalidArgumentError(`Expected an id of 1 to 20 characters, got ${id}.`)
  expectOnce(
    'id',
    id,
    before.map((disk) => disk.id),
  )
  const limit = rateLimit(values, 'rate', 'iops')
  return [...before, { text, path, readOnly, id, direct, engine, rateLimit: limit }]
}

/** A disk in a file, locked for this VM. */
export function diskDevice({ path, id, rateLimit, ...options }: DiskOption): AttachDevice {
  return (host) => {
    const disk = host.own(openDisk(path, options))
    host.virtio.attach(new Blk({ disk, id, blockSize: disk.blockSize, rateLimit }), {
      // The guest sees an I/O error; its host gets to know why.
      hostFailure: (error) => host.warn((error as Error).message),
    })
  }
}
