/**
 * A host that fails while a snapshot takes the place of another.
 */
import { readdirSync } from 'node:fs'
import type * as fs from 'node:fs/promises'
import { MappedMemory } from '@vmm/vm-memory/mmap'
import { beforeEach, expect, test, vi } from 'vitest'
import { own, temporaryDirectory } from '../../../tests/support/own.ts'
import { Snapshot, writeSnapshot } from '../src/index.ts'

/** Which call for the folder itself fails. */
const failing = vi.hoisted(() => ({
  syncs: Number.POSITIVE_INFINITY,
  opensAfterRename: false,
  renamed: false,
}))

vi.mock('node:fs/promises', async (importOriginal) => {
  const real = await importOriginal<typeof fs>()
  const open: typeof fs.open = async (path, flags, mode) => {
    if (flags === 'r' && failing.renamed && failing.opensAfterRename) throw new Error('EMFILE')
    const handle = await real.open(path, flags, mode)
    if (flags !== 'r') return handle
    const sync = handle.sync.bind(handle)
    handle.sync = () => (failing.syncs-- > 0 ? sync() : Promise.reject(new Error('EIO')))
    return handle
  }
  const rename: typeof fs.rename = async (...paths) => {
    await real.rename(...paths)
    failing.renamed = true
  }
  return { ...real, open, rename }
})

let folder: string
let memory: MappedMemory

const write = (number: number) => writeSnapshot(folder, { state: { number }, memory: memory.memory })
const saved = () => {
  const snapshot = Snapshot.open(folder)
  snapshot.mapMemory().close()
  snapshot.close()
  return snapshot.state
}

beforeEach(async () => {
  Object.assign(failing, { syncs: Number.POSITIVE_INFINITY, opensAfterRename: false, renamed: false })
  folder = temporaryDirectory()
  memory = own(MappedMemory.anonymous([{ start: 0, size: 4096 }]))
  await write(1)
  failing.renamed = false
})

test('a folder that cannot be synced before has the old snapshot alone', async () => {
  failing.syncs = 0
  await expect(write(2)).rejects.toMatchObject({ code: 'ERR_SNAPSHOT_IO' })
  expect(saved()).toEqual({ number: 1 })
  expect(readdirSync(folder)).toHaveLength(3)
})

test('a folder that cannot be synced after has the new one, and the files of both', async () => {
  failing.syncs = 1
  await expect(write(2)).rejects.toMatchObject({ code: 'ERR_SNAPSHOT_IO' })
  expect(saved()).toEqual({ number: 2 })
  expect(readdirSync(folder)).toHaveLength(5)
  failing.syncs = Number.POSITIVE_INFINITY
  await write(3)
  expect(saved()).toEqual({ number: 3 })
  expect(readdirSync(folder)).toHaveLength(3)
})

test('no more descriptors after that are no matter', async () => {
  failing.opensAfterRename = true
  await write(2)
  expect(saved()).toEqual({ number: 2 })
})
