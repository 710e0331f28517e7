/**
 * `--share tag=NAME,path=DIRECTORY[,readonly=on]`: as often as there are directories to share.
 */
import { Fs, VIRTIO_FS_TAG_BYTES } from '@vmm/devices/virtio'
import type { AttachDevice } from '@vmm/microvm'
import { SharedDirectory } from '@vmm/shared-dir'
import { InvalidArgumentError } from 'commander'
import { type AsGiven, expectOnce, KeyValues } from './key-values.ts'

/** One directory, as it was asked for. */
export interface ShareOption extends AsGiven {
  /** What the guest mounts it by. */
  readonly tag: string
  readonly path: string
  readonly readOnly: boolean
}

/** Adds a directory to those before it. */
export function parseShare(text: string, before: readonly ShareOption[] = []): readonly ShareOption[] {
  const values = new KeyValues(text, ['tag', 'path', 'readonly'])
  const tag = values.required('tag', 'NAME')
  const path = values.required('path', 'DIRECTORY')
  const readOnly = values.isOn('readonly', false)
  const bytes = Buffer.byteLength(tag)
  if (bytes > VIRTIO_FS_TAG_BYTES) {
    throw new InvalidArgumentError(
      `Expected a tag of up to ${VIRTIO_FS_TAG_BYTES} bytes, got ${bytes}: ${tag}.`,
    )
  }
  expectOnce(
    'tag',
    tag,
    before.map((share) => share.tag),
  )
  return [...before, { text, tag, path, readOnly }]
}

/** A directory of the host, by virtio-fs. */
export function shareDevice({ tag, path, readOnly }: ShareOption): AttachDevice {
  return (host) => {
    const fileSystem = host.own(new SharedDirectory(path, { readOnly }))
    const device = new Fs({ tag, fileSystem })
    host.virtio.attach(device, { hostFailure: (error) => host.warn((error as Error).message) })
    host.beforeClose(() => device.idle())
  }
}
