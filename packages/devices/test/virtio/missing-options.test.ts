/** What a device cannot do without is asked for by name: not every user of it has a compiler that does. */
import { expect, it } from 'vitest'
import { Balloon, Blk, BufferDisk, Fs, Net, UserDisk } from '../../src/virtio/index.ts'

/** As JavaScript has it: anything goes. */
const untyped = <T>(options: unknown): T => options as T

it.each([
  ['a disk', () => new Blk(untyped(new BufferDisk(new Uint8Array(512)))), 'new Blk({ disk })'],
  ['options of a disk', () => new Blk(untyped(undefined)), 'new Blk({ disk })'],
  ['a network', () => new Net(untyped({ mac: '02:00:00:00:00:01' })), 'new Net({ network })'],
  ['a file system', () => new Fs(untyped({ tag: 'docs' })), 'new Fs({ tag, fileSystem })'],
  ['memory', () => new Balloon(untyped({})), 'new Balloon({ memory })'],
  ['a way to read', () => new UserDisk(untyped({ size: 512 })), 'read(target, position)'],
])('says that there is no %s, and what to write', (_, make, wanted) => {
  expect(make).toThrow(expect.objectContaining({ code: 'ERR_DEVICE_OPTION' }))
  expect(make).toThrow(wanted)
})
