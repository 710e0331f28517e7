/** A mount that is saved, and goes on over another object of the same tree, or one that has changed. */

import { MockMemory } from '@vmm/virtio-queue/testing'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FuseClient, fuseArguments } from '../../src/testing/index.ts'
import * as spec from '../../src/virtio/fs/spec.ts'
import {
  type FileSystem,
  FS_ERRNO,
  Fs,
  type FsMountState,
  type FsState,
  MemoryLink,
  memoryTree,
  type NodeLocation,
  UserTree,
  type UserTreeSource,
} from '../../src/virtio/index.ts'
import { codeThrownBy } from '../support.ts'
import {
  createGuest,
  directoryItem,
  type FsGuest,
  fileItem,
  MEMORY_SIZE,
  mounted,
  ROOT,
  refusal,
  SlowTree,
  TestFileSystem,
} from './fs-support.ts'

const O_RDWR = 2
const FILE = '100000:0'
const DIRECTORY = '40000:0'

const contents = () => ({
  file: 'contents of a file',
  other: 'another',
  dir: { inner: { deep: 'deep down' } },
  link: new MemoryLink('file'),
})
const tree = () => new UserTree(memoryTree(contents()))

type Item = ReturnType<typeof directoryItem>

/** A file system with handles, which finds files again by what is in them. */
class Handles extends TestFileSystem {
  locate(item: Item): NodeLocation<Item> | undefined {
    const look = (directory: Item): NodeLocation<Item> | undefined => {
      for (const [name, one] of directory.children ?? []) {
        if (one === item) return { directory, name, identity: Buffer.from(one.data).toString('hex') }
        const found = look(one)
        if (found !== undefined) return found
      }
      return undefined
    }
    return look(this.root)
  }
}

const items = () =>
  new Handles(
    directoryItem(
      ['a', directoryItem(['file', fileItem('in a')])],
      ['b', directoryItem()],
      ['file', fileItem('text')],
    ),
  )

/** Through JSON, as in a file. */
const saved = ({ device }: FsGuest): FsState => JSON.parse(JSON.stringify(device.state()))

/** A guest whose device takes a state; what it asks waits for that. */
function restored(state: unknown, fileSystem: FileSystem, options = {}): FsGuest {
  const memory = new MockMemory([{ start: 0, size: MEMORY_SIZE }])
  const device = new Fs({ tag: 'test', fileSystem, ...options })
  const client = new FuseClient(device, memory)
  device.restore(state)
  return { device, memory, client }
}

const mount = (changes: Partial<FsMountState>): FsState => ({
  version: 1,
  mount: { nextNode: 100, nextHandle: 100, nodes: [], handles: [], ...changes },
})
const node = { id: 2, lookups: 1, directory: -1, name: 'file', identity: FILE }
const handle = { id: 1, node: 2, isDirectory: false, access: 0 }

describe('a saved mount', () => {
  it('goes on: files, what is open, and numbers', async () => {
    const guest = await mounted(tree())
    const file = await guest.client.lookup(ROOT, 'file')
    await guest.client.lookup(ROOT, 'file')
    const deep = await guest.client.walk('dir/inner/deep')
    const listing = await guest.client.open(ROOT, 0, spec.FUSE_OPENDIR)
    const before = await guest.client.read(file.id, 0, 0, 4)

    const { client, device } = restored(saved(guest), tree())
    await device.idle()
    expect([device.nodes, device.handles, device.lost]).toEqual([4, 1, 0])
    expect(before.toString() + (await client.read(file.id, 0, 4, 100))).toBe('contents of a file')
    expect((await client.getattr(deep.id)).size).toBe('deep down'.length)
    const names = await client.call(
      spec.FUSE_READDIR,
      ROOT,
      fuseArguments(BigInt(listing), 0n, 4096, 0, 0n, 0, 0),
    )
    expect(names.toString('latin1')).toContain('other')
    // Forgotten as often as it was told of, before and after.
    expect((await client.lookup(ROOT, 'file')).id).toBe(file.id)
    await client.forget(file.id, 2)
    expect(device.nodes).toBe(4)
    await client.forget(file.id)
    expect(device.nodes).toBe(3)
    // Numbers are not given twice.
    expect((await client.lookup(ROOT, 'other')).id).toBeGreaterThan(deep.id)
    expect(await client.open(ROOT, 0, spec.FUSE_OPENDIR)).toBeGreaterThan(listing)
    expect(guest.client.transport.faults).toEqual([])
  })

  it('is saved again', async () => {
    const guest = await mounted(tree())
    const { id } = await guest.client.walk('dir/inner')
    await guest.client.open(id, 0, spec.FUSE_OPENDIR)
    const state = saved(guest)
    const copy = restored(state, tree())
    await copy.device.idle()
    expect(saved(copy)).toEqual(state)
  })

  it('has no number for what is not there any more, or is something else', async () => {
    const guest = await mounted(tree())
    const names = ['file', 'other', 'dir', 'link']
    const ids: number[] = []
    for (const name of names) ids.push((await guest.client.lookup(ROOT, name)).id)
    const [file = 0, other = 0, dir = 0, link = 0] = ids
    const { id: deep } = await guest.client.walk('dir/inner/deep')
    const now = new UserTree(memoryTree({ other: 'another', dir: 'a file by now', link: {} }))
    const { client, device } = restored(saved(guest), now)
    for (const id of [file, dir, deep, link]) {
      expect(await refusal(client.getattr(id))).toBe(FS_ERRNO.ESTALE)
      expect(await refusal(client.lookup(id, 'x'))).toBe(FS_ERRNO.ESTALE)
      expect(await refusal(client.open(id))).toBe(FS_ERRNO.ESTALE)
    }
    expect(await refusal(client.read(file, 0, 0, 10))).toBe(FS_ERRNO.ESTALE)
    expect((await client.getattr(other)).size).toBe('another'.length)
    // dir, dir/inner and dir/inner/deep; link; file.
    expect([device.nodes, device.lost]).toEqual([1, 5])
    // To be looked up like anything else.
    const { id, mode } = await client.lookup(ROOT, 'dir')
    expect(ids).not.toContain(id)
    expect(mode & 0o170000).toBe(0o100000)
  })

  it('opens files as they were open, and no others', async () => {
    const guest = await mounted(items())
    const { client } = guest
    const ids = [await client.walk('file'), await client.walk('a/file'), await client.walk('b')].map(
      ({ id }) => id,
    )
    const [file = 0, inner = 0, directory = 0] = ids
    const reading = await client.open(file)
    const writing = await client.open(inner, spec.O_RDONLY + 1)
    const listing = await client.open(directory, 0, spec.FUSE_OPENDIR)
    await client.release(file, await client.open(file))
    const state = saved(guest)
    expect(state.mount?.handles.map(({ id, access }) => [id, access])).toEqual([
      [reading, 0],
      [writing, 1],
      [listing, 0],
    ])

    const fileSystem = items()
    fileSystem.root.children?.delete('file')
    const copy = restored(state, fileSystem)
    await copy.client.write(inner, writing, 0, Buffer.from('out'))
    const data = fileSystem.root.children?.get('a')?.children?.get('file')?.data ?? ''
    expect(Buffer.from(data).toString()).toBe('outa')
    expect(await refusal(copy.client.read(file, reading, 0, 4))).toBe(FS_ERRNO.ESTALE)
    expect(await refusal(copy.client.read(directory, listing, 0, 4))).toBe(FS_ERRNO.EBADF)
    await copy.client.release(directory, listing, spec.FUSE_RELEASEDIR)
    await copy.client.release(inner, writing)
    expect([copy.device.handles, copy.device.lost, fileSystem.open_.size]).toEqual([0, 2, 0])
    expect(await copy.client.open(inner)).toBeGreaterThan(listing)
  })

  it('knows where the guest has moved things', async () => {
    const source = (): UserTreeSource<Item> => ({
      root: items().root,
      lookup: ({ children }, name) => children?.get(name),
      stat: ({ children, data }) => ({
        type: children === undefined ? 'file' : 'directory',
        size: data.length,
      }),
      readdir: ({ children }) => children?.keys() ?? [],
      read: ({ data }, target, position) => Buffer.from(data).copy(target, 0, position),
      rename: (from, name, to, newName) => {
        to.children?.set(newName, from.children?.get(name) as Item)
        from.children?.delete(name)
      },
    })
    const one = source()
    const guest = await mounted(new UserTree(one))
    const { id } = await guest.client.walk('a/file')
    await guest.client.rename(ROOT, 'a', (await guest.client.lookup(ROOT, 'b')).id, 'c')
    const moved = restored(saved(guest), new UserTree(one))
    expect((await moved.client.read(id, 0, 0, 10)).toString()).toBe('in a')
    // In a tree where it was not moved it is not there.
    const other = restored(saved(guest), new UserTree(source()))
    expect(await refusal(other.client.read(id, 0, 0, 10))).toBe(FS_ERRNO.ESTALE)
  })

  it('has names that are found by a list, and ways by what the guest has forgotten', async () => {
    const guest = await mounted(tree())
    const { id: dir } = await guest.client.lookup(ROOT, 'dir')
    const [inner] = (await guest.client.list(dir, true)).filter(({ name }) => name === 'inner')
    await guest.client.forget(dir)
    const state = saved(guest)
    expect(state.mount?.nodes.map(({ id, name }) => [id, name])).toEqual([
      [0, 'dir'],
      [inner?.entry?.id, 'inner'],
    ])
    const { client, device } = restored(state, tree())
    expect((await client.lookup(inner?.entry?.id ?? 0, 'deep')).size).toBe('deep down'.length)
    expect(device.nodes).toBe(2)
  })

  it('of a file system that cannot find files again is none', async () => {
    const fileSystem = Object.assign(tree(), { locate: undefined })
    const guest = createGuest(fileSystem)
    expect(guest.device.state()).toEqual({ version: 1 })
    await guest.client.init()
    expect(codeThrownBy(() => guest.device.state())).toBe('ERR_DEVICE_BUSY')
    const { client, device } = restored(mount({ nodes: [node] }), fileSystem)
    expect(await refusal(client.getattr(2))).toBe(FS_ERRNO.ESTALE)
    expect(device.lost).toBe(1)
  })

  it('opens nothing for writing where the file system is read-only by now', async () => {
    const guest = await mounted(items())
    const { id } = await guest.client.lookup(ROOT, 'file')
    const [reading, writing] = [await guest.client.open(id), await guest.client.open(id, O_RDWR)]
    const { client, device } = restored(saved(guest), Object.assign(items(), { readOnly: true }))
    expect((await client.read(id, reading, 0, 8)).toString()).toBe('text')
    expect(await refusal(client.read(id, writing, 0, 8))).toBe(FS_ERRNO.EBADF)
    expect(device.lost).toBe(1)
  })
})

describe('requests to a mount that is being restored', () => {
  const state = mount({ nodes: [node], handles: [handle] })

  it('wait until its files are found', async () => {
    const slow = new SlowTree()
    const { client, device } = restored(state, slow.fileSystem)
    let isIdle = false
    const idle = device.idle().then(() => {
      isIdle = true
    })
    const answer = client.read(2, 1, 0, 8)
    await new Promise((resolve) => setImmediate(resolve))
    expect([isIdle, device.pending]).toEqual([false, 1])
    expect(codeThrownBy(() => device.state())).toBe('ERR_DEVICE_BUSY')
    await slow.release()
    expect((await answer).toString()).toBe('contents')
    await idle
    expect(device.state().mount?.nodes).toEqual([node])
  })

  it('are gone with a reset, and nothing is kept of what is found later', async () => {
    const slow = new SlowTree()
    const forgotten: object[] = []
    const source = { ...slow.source, forget: (item: object) => forgotten.push(item) }
    const { client, device } = restored(state, new UserTree(source))
    client.read(2, 1, 0, 8)
    client.transport.reset()
    await slow.release()
    await device.idle()
    expect([device.nodes, device.handles, device.pending, forgotten.length]).toEqual([0, 0, 0, 1])
    expect(device.state()).toEqual({ version: 1 })
    expect(client.transport.failures).toEqual([])
  })
})

describe('a forged mount', () => {
  it.each<[string, unknown]>([
    ['no object', { version: 1, mount: 7 }],
    ['null', { version: 1, mount: null }],
    ['of another version', { ...mount({}), version: 2 }],
    ['whose numbers are used up', mount({ nextNode: 2 ** 53 })],
    ['whose next number is the root’s', mount({ nextNode: 1 })],
    ['without nodes', mount({ nodes: undefined as never })],
    ['with a node that is none', mount({ nodes: [null as never] })],
    ['with the root', mount({ nodes: [{ ...node, id: 1 }] })],
    ['with a number that comes later', mount({ nodes: [{ ...node, id: 100 }] })],
    ['with a number twice', mount({ nodes: [node, node] })],
    ['with a count of 0', mount({ nodes: [{ ...node, lookups: 0 }] })],
    ['with a count of -1', mount({ nodes: [{ ...node, lookups: -1 }] })],
    ['with a node in itself', mount({ nodes: [{ ...node, directory: 0 }] })],
    [
      'with a directory that comes later',
      mount({
        nodes: [
          { ...node, directory: 1 },
          { ...node, id: 3 },
        ],
      }),
    ],
    ['with a directory before all', mount({ nodes: [{ ...node, directory: -2 }] })],
    ...['', '.', '..', '/', 'a/b', '../x', 'a\0b', 'x'.repeat(256), '\u0100'].map(
      (name): [string, unknown] => [
        `with the name ${JSON.stringify(name)}`,
        mount({ nodes: [{ ...node, name }] }),
      ],
    ),
    ['with a name that is no text', mount({ nodes: [{ ...node, name: ['file'] as never }] })],
    ['with a long identity', mount({ nodes: [{ ...node, identity: 'x'.repeat(129) }] })],
    ['with a handle of no node', mount({ handles: [{ ...handle, node: 0 }] })],
    ['with a handle of a node to come', mount({ handles: [{ ...handle, node: 100 }] })],
    ['with a handle twice', mount({ nodes: [node], handles: [handle, handle] })],
    ['with a handle 0', mount({ nodes: [node], handles: [{ ...handle, id: 0 }] })],
    ['with flags that are none', mount({ nodes: [node], handles: [{ ...handle, access: 0o1002 }] })],
  ])('%s is refused', (_what, state) => {
    const { device } = createGuest(tree())
    expect(codeThrownBy(() => device.restore(state))).toBe('ERR_DEVICE_STATE')
    expect(device.state()).toEqual({ version: 1 })
  })

  it('with more than the device takes is refused', () => {
    const two = mount({
      nodes: [node, { ...node, id: 3, name: 'other' }],
      handles: [handle, { ...handle, id: 2 }],
    })
    const options = { tag: 'x', fileSystem: tree() }
    new Fs({ ...options, maxNodes: 2, maxHandles: 2 }).restore(two)
    for (const limit of [{ maxNodes: 1 }, { maxHandles: 1 }]) {
      expect(codeThrownBy(() => new Fs({ ...options, ...limit }).restore(two))).toBe('ERR_DEVICE_STATE')
    }
  })

  it('gives one file one number', async () => {
    const { client, device } = restored(mount({ nodes: [node, { ...node, id: 3 }] }), tree())
    expect((await client.getattr(2)).size).toBeGreaterThan(0)
    expect(await refusal(client.getattr(3))).toBe(FS_ERRNO.ESTALE)
    expect([device.nodes, device.lost]).toEqual([1, 1])
  })

  it('asks for no name that a guest could not ask for, and gives back all that it found', async () => {
    const some = fc.record({
      id: fc.integer({ min: 0, max: 12 }),
      lookups: fc.integer({ min: 0, max: 3 }),
      directory: fc.integer({ min: -1, max: 4 }),
      name: fc.oneof(
        fc.constantFrom('file', 'dir', 'inner', 'deep', 'link', '..', '.', 'dir/inner', ''),
        fc.string({ maxLength: 300 }),
      ),
      identity: fc.constantFrom(FILE, DIRECTORY, '120000:0', ''),
    })
    const open = fc.record({
      id: fc.integer({ min: 1, max: 9 }),
      node: fc.integer({ min: 0, max: 12 }),
      isDirectory: fc.boolean(),
      access: fc.integer({ min: 0, max: 4 }),
    })
    const property = fc.asyncProperty(
      fc.array(some, { maxLength: 6 }),
      fc.array(open, { maxLength: 4 }),
      async (nodes, handles) => {
        const known = new Set<object>()
        const asked: string[] = []
        const source = memoryTree(contents())
        const fileSystem = new UserTree({
          ...source,
          lookup: (directory, name) => {
            asked.push(name)
            const found = source.lookup(directory, name)
            if (found instanceof Object) known.add(found)
            return found
          },
          forget: (one) => known.delete(one),
        })
        const device = new Fs({ tag: 'x', fileSystem })
        const code = codeOf(() => device.restore(mount({ nextNode: 12, nextHandle: 9, nodes, handles })))
        await device.idle()
        expect([undefined, 'ERR_DEVICE_STATE']).toContain(code)
        expect(asked.filter((name) => name === '' || name.includes('/') || /^\.\.?$/.test(name))).toEqual([])
        expect(known.size).toBe(device.nodes)
        device.reset()
        expect(known.size).toBe(0)
      },
    )
    await fc.assert(property, { numRuns: 300 })
  })
})

function codeOf(call: () => void): unknown {
  try {
    call()
  } catch (error) {
    return (error as { code?: unknown }).code ?? error
  }
  return undefined
}
