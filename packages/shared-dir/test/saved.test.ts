/** A mount that is saved and goes on over the same directory, which the host has changed meanwhile. */
import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { FuseClient, fuseArguments } from '@vmm/devices/testing'
import { Fs, type FsMountState, type FsState } from '@vmm/devices/virtio'
import { MappedMemory } from '@vmm/vm-memory/mmap'
import { describe, expect, test } from 'vitest'
import { SharedDirectory, type SharedDirectoryOptions } from '../src/index.ts'
import {
  countFds,
  ERRNO,
  MEMORY_BYTES,
  type Mounted,
  mount,
  own,
  ROOT,
  refusal,
  startSwapping,
  temporaryDirectory,
} from './support.ts'

const O_WRONLY = 1
const O_RDWR = 2
const OPENDIR = 27
const READDIR = 28
const READ = 15
const UNLINK = 10
const DESTROY = 38

/** Saves a mount and ends it, as a program that ends; through JSON. */
function save({ device, client, share }: Mounted): FsState {
  const state = JSON.parse(JSON.stringify(device.state()))
  client.transport.reset()
  share.close()
  return state
}

/** Goes on with it in a share of its own. */
function goOn(path: string, state: FsState, options: SharedDirectoryOptions = {}): Mounted {
  const share = own(new SharedDirectory(path, options))
  const device = new Fs({ tag: 'share', fileSystem: share })
  const memory = own(MappedMemory.anonymous([{ start: 0, size: MEMORY_BYTES }]))
  const client = new FuseClient(device, memory.memory)
  device.restore(state)
  own({ close: () => client.transport.reset() })
  return { path, share, device, client }
}

const idOf = async ({ client }: Mounted, path: string) => (await client.walk(path)).id

describe('a mount that was saved', () => {
  test('reads on and writes on in what was open', async () => {
    const mounted = await mount()
    const { path, client } = mounted
    writeFileSync(join(path, 'read'), 'before after')
    mkdirSync(join(path, 'a/b'), { recursive: true })
    const reading = await idOf(mounted, 'read')
    const handle = await client.open(reading)
    expect((await client.read(reading, handle, 0, 6)).toString()).toBe('before')
    const { entry: written, handle: writing } = await client.create(await idOf(mounted, 'a/b'), 'new', O_RDWR)
    await client.write(written.id, writing, 0, Buffer.from('one '))
    const only = await client.open(written.id, O_WRONLY)

    const copy = goOn(path, save(mounted))
    expect((await copy.client.read(reading, handle, 7, 5)).toString()).toBe('after')
    await copy.client.write(written.id, writing, 4, Buffer.from('two'))
    expect((await copy.client.read(written.id, writing, 0, 10)).toString()).toBe('one two')
    expect(await refusal(copy.client.write(reading, handle, 0, Buffer.from('x')))).toBe(ERRNO.EBADF)
    expect(await refusal(copy.client.read(written.id, only, 0, 10))).toBe(ERRNO.EBADF)
    expect(readFileSync(join(path, 'a/b/new'), 'latin1')).toBe('one two')
    expect([copy.device.nodes, copy.device.handles, copy.device.lost]).toEqual([4, 3, 0])
    expect((await copy.client.lookup(ROOT, 'read')).id).toBe(reading)
  })

  test('goes on with a list where that was', async () => {
    const mounted = await mount()
    const { path, client } = mounted
    for (let i = 0; i < 20; i += 1) writeFileSync(join(path, `file-${i}`), '')
    const names = (await client.list(ROOT)).map(({ name }) => name)
    const handle = await client.open(ROOT, 0, OPENDIR)
    const part = (from: FuseClient, next: bigint) =>
      from.call(READDIR, ROOT, fuseArguments(BigInt(handle), next, 4096, 0, 0n, 0, 0))
    const all = await client.list(ROOT)
    const next = all[5]?.next ?? 0n
    const rest = (await part(client, next)).toString('latin1')
    const copy = goOn(path, save(mounted))
    expect((await part(copy.client, next)).toString('latin1')).toBe(rest)
    expect(rest).toContain(names.at(-1))
  })

  test('finds what the guest has moved, and hard links by the name that it used', async () => {
    const mounted = await mount()
    const { path, client } = mounted
    mkdirSync(join(path, 'a/b'), { recursive: true })
    writeFileSync(join(path, 'a/b/file'), 'text')
    writeFileSync(join(path, 'one'), 'linked')
    linkSync(join(path, 'one'), join(path, 'two'))
    const file = await idOf(mounted, 'a/b/file')
    const linked = await idOf(mounted, 'one')
    expect(await idOf(mounted, 'two')).toBe(linked)
    await client.rename(ROOT, 'a', ROOT, 'c')
    rmSync(join(path, 'one'))
    const copy = goOn(path, save(mounted))
    expect((await copy.client.getattr(file)).size).toBe(4)
    expect((await copy.client.getattr(linked)).links).toBe(1)
    expect(copy.device.lost).toBe(0)
  })

  test('has no file in the place of another', async () => {
    const outside = temporaryDirectory()
    writeFileSync(join(outside, 'file'), 'SECRET')
    mkdirSync(join(outside, 'directory'))
    writeFileSync(join(outside, 'directory/inner'), 'SECRET')
    const mounted = await mount()
    const { path, client } = mounted
    const names = ['removed', 'replaced', 'moved', 'linked', 'stays', 'typed', 'unlinked']
    for (const name of names) writeFileSync(join(path, name), name)
    mkdirSync(join(path, 'directory'))
    writeFileSync(join(path, 'directory/inner'), 'inner')
    const ids = new Map<string, number>()
    for (const name of [...names, 'directory', 'directory/inner']) ids.set(name, await idOf(mounted, name))
    const handles = new Map<string, number>()
    for (const name of [...names, 'directory/inner']) handles.set(name, await client.open(ids.get(name) ?? 0))
    await client.call(UNLINK, ROOT, fuseArguments('unlinked'))

    const state = save(mounted)
    rmSync(join(path, 'removed'))
    // Both exist at a time: the new one has another inode number.
    writeFileSync(join(path, 'new'), 'another')
    renameSync(join(path, 'new'), join(path, 'replaced'))
    renameSync(join(path, 'moved'), join(path, 'elsewhere'))
    rmSync(join(path, 'linked'))
    symlinkSync(join(outside, 'file'), join(path, 'linked'))
    rmSync(join(path, 'typed'))
    mkdirSync(join(path, 'typed'))
    renameSync(join(path, 'directory'), join(path, 'directory-2'))
    symlinkSync(join(outside, 'directory'), join(path, 'directory'))

    const { client: later, device } = goOn(path, state)
    const lost = [
      'removed',
      'replaced',
      'moved',
      'linked',
      'typed',
      'unlinked',
      'directory',
      'directory/inner',
    ]
    for (const name of lost) {
      const id = ids.get(name) ?? 0
      for (const request of [
        later.getattr(id),
        later.open(id),
        later.open(id, O_RDWR),
        later.lookup(id, 'inner'),
        later.create(id, 'new'),
        later.read(id, handles.get(name) ?? 0, 0, 100),
        later.write(id, handles.get(name) ?? 0, 0, Buffer.from('x')),
      ]) {
        expect([name, await refusal(request)]).toEqual([name, ERRNO.ESTALE])
      }
    }
    const stays = ids.get('stays') ?? 0
    expect((await later.read(stays, handles.get('stays') ?? 0, 0, 100)).toString()).toBe('stays')
    expect([device.nodes, device.handles]).toEqual([1, 1])
    // What there is by now is found by its name, as anything else.
    expect((await later.lookup(ROOT, 'linked')).mode & 0o170000).toBe(0o120000)
    expect([...ids.values()]).not.toContain((await later.lookup(ROOT, 'moved').catch(() => ({ id: 0 }))).id)
    expect(readFileSync(join(outside, 'file'), 'latin1')).toBe('SECRET')
  })

  test('is read-only where the share is by now', async () => {
    const mounted = await mount()
    const { path, client } = mounted
    writeFileSync(join(path, 'file'), 'text')
    const id = await idOf(mounted, 'file')
    const [reading, writing] = [await client.open(id), await client.open(id, O_RDWR)]
    const { client: later } = goOn(path, save(mounted), { readOnly: true })
    expect((await later.read(id, reading, 0, 10)).toString()).toBe('text')
    expect(await refusal(later.write(id, writing, 0, Buffer.from('x')))).toBe(ERRNO.EROFS)
    expect(await refusal(later.read(id, writing, 0, 10))).toBe(ERRNO.EBADF)
  })

  test('has no more descriptors than any other, and gives them back', async () => {
    const mounted = await mount()
    const { path, client } = mounted
    const ids: number[] = []
    for (let i = 0; i < 30; i += 1) {
      mkdirSync(join(path, `${i}/a`), { recursive: true })
      writeFileSync(join(path, `${i}/a/file`), `text ${i}`)
      const entry = await client.walk(`${i}/a/file`)
      ids.push(entry.id)
    }
    const handle = await client.open(ids[0] ?? 0)
    const state = save(mounted)
    const before = countFds()
    const { client: later, share, device } = goOn(path, state, { maxDescriptors: 16 })
    await device.idle()
    // The way to one file is not closed before the next request.
    expect(share.descriptors).toBeLessThanOrEqual(16 + 4)
    expect([device.nodes, share.nodes, device.lost]).toEqual([90, 90, 0])
    for (const [i, id] of ids.entries()) expect((await later.getattr(id)).size).toBe(`text ${i}`.length)
    expect((await later.read(ids[0] ?? 0, handle, 0, 10)).toString()).toBe('text 0')
    await later.call(DESTROY, ROOT, Buffer.alloc(0))
    expect([share.descriptors, share.nodes]).toEqual([0, 0])
    // The root's.
    expect(countFds()).toBe(before + 1)
  })

  test('does not leave the share while a directory is swapped for a link all the time', async () => {
    const outside = temporaryDirectory()
    const path = join(outside, 'share')
    mkdirSync(join(path, 'victim'), { recursive: true })
    writeFileSync(join(outside, 'file'), 'SECRET')
    writeFileSync(join(path, 'victim/file'), 'harmless')
    symlinkSync(outside, join(path, 'link'))
    const mounted = await mount({ path })
    const id = await idOf(mounted, 'victim/file')
    const handle = await mounted.client.open(id)
    const state = save(mounted)
    const found = { same: 0, lost: 0 }
    const swapper = await startSwapping(path)
    try {
      // Until both have been met.
      for (let i = 0; i < 200 || (Math.min(found.same, found.lost) === 0 && i < 5000); i += 1) {
        const { client, share } = goOn(path, state)
        const { error, body } = await client.send(
          READ,
          id,
          fuseArguments(BigInt(handle), 0n, 100, 0, 0n, 0, 0),
        )
        if (error === 0) expect(body.toString()).toBe('harmless')
        else expect(error).toBe(-ERRNO.ESTALE)
        found[error === 0 ? 'same' : 'lost'] += 1
        client.transport.reset()
        share.close()
      }
    } finally {
      await swapper.stop()
    }
    expect(Math.min(found.same, found.lost)).toBeGreaterThan(0)
  })

  test('is found on a device of another number', async () => {
    const mounted = await mount()
    writeFileSync(join(mounted.path, 'file'), 'text')
    const id = await idOf(mounted, 'file')
    const [node] = save(mounted).mount?.nodes ?? []
    expect(node).toMatchObject({
      id,
      name: 'file',
      identity: expect.stringMatching(/^100000::\d+:\d+:\d+\.\d+$/),
    })
  })
})

describe('a forged mount', () => {
  const forged = (...nodes: readonly Partial<FsMountState['nodes'][number]>[]): FsState => ({
    version: 1,
    mount: {
      nextNode: 100,
      nextHandle: 100,
      nodes: nodes.map((node, i) => ({
        id: i + 2,
        lookups: 1,
        directory: -1,
        name: 'x',
        identity: '',
        ...node,
      })),
      handles: nodes.map((_, i) => ({ id: i + 1, node: i + 2, isDirectory: false, access: O_RDWR })),
    },
  })

  test('reaches nothing but files of the share that are what it says', async () => {
    const outside = temporaryDirectory()
    writeFileSync(join(outside, 'secret'), 'SECRET')
    const mounted = await mount()
    const { path } = mounted
    writeFileSync(join(path, 'file'), 'text')
    symlinkSync(outside, join(path, 'out'))
    await mounted.client.list(ROOT, true)
    const true_ = new Map(save(mounted).mount?.nodes.map(({ name, identity }) => [name, identity]))
    const [file = '', out = ''] = [true_.get('file'), true_.get('out')]
    const { client, device } = goOn(
      path,
      forged(
        { name: 'file', identity: out },
        { name: 'out', identity: out },
        { name: 'secret', directory: 1, identity: file },
        { name: 'file', identity: file },
        { name: 'inner', directory: 3, identity: file },
        { name: 'file', identity: file },
      ),
    )
    await device.idle()
    expect([device.nodes, device.handles]).toEqual([2, 1])
    for (const id of [2, 4, 6, 7]) expect(await refusal(client.getattr(id))).toBe(ERRNO.ESTALE)
    // A link is one, and is not opened.
    expect((await client.getattr(3)).mode & 0o170000).toBe(0o120000)
    expect((await client.read(5, 4, 0, 10)).toString()).toBe('text')
  })

  test.each(['..', '.', '../secret', '/etc/passwd', 'a/../..', ''])('with the name %j is refused', (name) => {
    const device = new Fs({ tag: 'share', fileSystem: own(new SharedDirectory(temporaryDirectory())) })
    expect(() => device.restore(forged({ name }))).toThrow(
      expect.objectContaining({ code: 'ERR_DEVICE_STATE' }),
    )
  })
})
