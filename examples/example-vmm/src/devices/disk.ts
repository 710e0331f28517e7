/**
 * `--disk path=FILE[,readonly=on][,id=NAME][,rate=BYTES][,iops=N]`: as often as there are disks, in the order in which the
 * guest names them.
 */
import { openDisk } from '@vmm/block'
import { Blk, type RateLimit } from '@vmm/devices/virtio'
import type { AttachDevice } from '@vmm/microvm'
import { InvalidArgumentError } from 'commander'
import { expectOnce, KeyValues } from './key-values.ts'
import { rateLimit } from './rate.ts'

/** One disk, as it was asked for. */
export interface DiskOption {
  readonly path: string
  readonly readOnly: boolean
  /** What the guest sees as the serial number, up to 20 characters. */
  readonly id: string
  readonly rateLimit: RateLimit
}

const ID = /^[\x21-\x7e]{1,20}$/

/** Adds a disk to those before it. */
export function parseDisk(text: string, before: readonly DiskOption[] = []): readonly DiskOption[] {
  const values = new KeyValues(text, ['path', 'readonly', 'id', 'rate', 'iops'])
  const path = values.required('path', 'FILE')
  const readOnly = values.isOn('readonly', false)
  const id = values.text('id') ?? `disk${before.length}`
  if (!ID.test(id)) throw new InvalidArgumentError(`Expected an id of 1 to 20 characters, got ${id}.`)
  expectOnce(
    'id',
    id,
    before.map((disk) => disk.id),
  )
  return [...before, { path, readOnly, id, rateLimit: rateLimit(values, 'rate', 'iops') }]
}

/** A disk in a file, locked for this VM. */
export function diskDevice({ path, readOnly, id, rateLimit }: DiskOption): AttachDevice {
  return (host) => {
    const disk = host.own(openDisk(path, { readOnly }))
    host.virtio.attach(new Blk({ disk, id, rateLimit }), {
      // The guest sees an I/O error; its host gets to know why.
      hostFailure: (error) => host.warn((error as Error).message),
    })
  }
}
