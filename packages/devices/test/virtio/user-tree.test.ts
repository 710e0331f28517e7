import { describe, expect, it } from 'vitest'
import { fuseArguments } from '../../src/testing/index.ts'
import * as spec from '../../src/virtio/fs/spec.ts'
import type { UserTreeSource } from '../../src/virtio/index.ts'
import {
  FS_ERRNO,
  MemoryLink,
  memoryTree,
  USER_TREE_CHUNK_BYTES,
  USER_TREE_PARALLEL,
  UserTree,
} from '../../src/virtio/index.ts'
import { codeThrownBy } from '../support.ts'
import { directoryItem, fileItem, type Item, mounted, ROOT, refusal, SlowTree } from './fs-support.ts'

const error = (code: string) => Object.assign(new Error(code), { code })

/** A tree of objects that can be changed. */
function writable(root: Item = directoryItem()): UserTreeSource<Item> {
  const make = (directory: Item, name: string, item: Item): Item => {
    if (directory.children?.has(name)) throw error('EEXIST')
    directory.children?.set(name, item)
    return item
  }
  return {
    root,
    lookup: (directory, name) => directory.children?.get(name),
    stat: ({ children, data }) => ({
      type: children === undefined ? 'file' : 'directory',
      size: data.length,
    }),
    readdir: ({ children }) => children?.keys() ?? [],
    read: ({ data }, target, position) => Buffer.from(data).copy(target, 0, position),
    write: (file, source, position) => {
      const data = new Uint8Array(Math.max(file.data.length, position + source.length))
      data.set(file.data)
      data.set(source, position)
      file.data = data
    },
    change: (file, { size = file.data.length }) => {
      file.data = Buffer.concat([file.data.subarray(0, size)], size)
    },
    create: (directory, name) => make(directory, name, fileItem()),
    mkdir: (directory, name) => make(directory, name, directoryItem()),
    remove: (directory, name) => {
      if ((directory.children?.get(name)?.children?.size ?? 0) > 0) throw error('ENOTEMPTY')
      directory.children?.delete(name)
    },
    rename: (from, name, to, newName) => {
      const item = from.children?.get(name)
      if (item === undefined) throw error('ENOENT')
      from.children?.delete(name)
      to.children?.set(newName, item)
    },
  }
}

describe('a tree of a nested object', () => {
  it('is found, listed and read', async () => {
    const big = Buffer.alloc(400_000, 'abc')
    const contents = {
      'hello.txt': 'hëllo\n',
      empty: '',
      link: new MemoryLink('dir/big'),
      dir: { big, inner: {} },
    }
    const { client, device } = await mounted(new UserTree(memoryTree(contents)))
    const hello = await client.lookup(ROOT, 'hello.txt')
    expect(hello).toMatchObject({ size: 7, mode: 0o100444, uid: 0, links: 1, valid: 1 })
    expect((await client.read(hello.id, 0, 0, 100)).toString()).toBe('hëllo\n')
    const { id, size } = await client.walk('dir/big')
    expect(size).toBe(400_000)
    expect((await client.read(id, 0, 1, 0x10_0000)).equals(big.subarray(1))).toBe(true)
    expect((await client.read(id, 0, 500_000, 10)).length).toBe(0)
    const link = await client.lookup(ROOT, 'link')
    expect([link.mode, link.size]).toEqual([0o120777, 7])
    expect((await client.call(spec.FUSE_READLINK, link.id, Buffer.alloc(0))).toString()).toBe('dir/big')
    const names = ['.', '..', 'hello.txt', 'empty', 'link', 'dir']
    for (const room of [64, 200, 4096]) {
      expect((await client.list(ROOT, false, room)).map(({ name }) => name)).toEqual(names)
      if (room >= 200) expect((await client.list(ROOT, true, room)).map(({ name }) => name)).toEqual(names)
    }
    expect((await client.list(ROOT, true)).find(({ name }) => name === 'hello.txt')?.entry?.id).toBe(hello.id)
    expect((await client.walk('dir/inner')).mode).toBe(0o040555)
    expect(await client.lookup(ROOT, 'none')).toMatchObject({ id: 0, valid: 1 })
    expect([client.transport.failures, device.pending]).toEqual([[], 0])
  })

  it('has files that are made when they are looked at', async () => {
    let text = 'one'
    const { client } = await mounted(new UserTree(memoryTree({ now: async () => text })))
    const { id, modified } = await client.lookup(ROOT, 'now')
    text = 'other'
    // What was described is what is read.
    expect((await client.read(id, 0, 0, 100)).toString()).toBe('one')
    const later = await client.getattr(id)
    expect([later.size, later.modified >= modified]).toEqual([5, true])
    expect((await client.read(id, 0, 0, 100)).toString()).toBe('other')
  })

  it('is not changed', async () => {
    const { client } = await mounted(new UserTree(memoryTree({ file: 'text' })))
    const { id } = await client.lookup(ROOT, 'file')
    expect(await refusal(client.write(id, 0, 0, Buffer.from('x')))).toBe(FS_ERRNO.EROFS)
    expect(await refusal(client.make(spec.FUSE_MKDIR, ROOT, 0o755, 0, 'new'))).toBe(FS_ERRNO.EROFS)
    expect(await refusal(client.setattr(id, { valid: spec.FATTR_SIZE }))).toBe(FS_ERRNO.EROFS)
    expect(await refusal(client.open(id, 1))).toBe(FS_ERRNO.EROFS)
  })

  it.each(['', '.', '..', 'a/b', 'a\0', 'x'.repeat(256)])('refuses the name %j', (name) => {
    expect(codeThrownBy(() => memoryTree({ dir: { [name]: '' } }))).toBe('ERR_DEVICE_OPTION')
  })

  it('has names of objects that mean nothing else', async () => {
    const { client } = await mounted(
      new UserTree(memoryTree(JSON.parse('{"__proto__":"x","constructor":"y"}'))),
    )
    expect((await client.lookup(ROOT, '__proto__')).size).toBe(1)
    expect((await client.lookup(ROOT, 'toString')).id).toBe(0)
  })
})

describe('a tree of the user’s own', () => {
  it('is written: files, directories, names', async () => {
    const root = directoryItem()
    const { client } = await mounted(new UserTree(writable(root)))
    // As Linux does where there is no CREATE.
    expect(await refusal(client.create(ROOT, 'file'))).toBe(FS_ERRNO.ENOSYS)
    const file = await client.make(spec.FUSE_MKNOD, ROOT, 0o100644, 0, 0, 0, 'file')
    const data = Buffer.alloc(3 * USER_TREE_CHUNK_BYTES + 5, 'xyz')
    expect(await client.write(file.id, 0, 2, data)).toBe(data.length)
    expect(
      Buffer.from(root.children?.get('file')?.data ?? []).equals(Buffer.concat([Buffer.alloc(2), data])),
    ).toBe(true)
    expect((await client.setattr(file.id, { valid: spec.FATTR_SIZE, size: 3 })).size).toBe(3)
    const dir = await client.make(spec.FUSE_MKDIR, ROOT, 0o755, 0, 'dir')
    await client.rename(ROOT, 'file', dir.id, 'moved')
    expect((await client.walk('dir/moved')).id).toBe(file.id)
    expect(await refusal(client.make(spec.FUSE_MKDIR, ROOT, 0o755, 0, 'dir'))).toBe(FS_ERRNO.EEXIST)
    expect(await refusal(client.call(spec.FUSE_RMDIR, ROOT, fuseArguments('dir')))).toBe(FS_ERRNO.ENOTEMPTY)
    expect(await refusal(client.call(spec.FUSE_UNLINK, ROOT, fuseArguments('dir')))).toBe(FS_ERRNO.EISDIR)
    expect(await refusal(client.call(spec.FUSE_RMDIR, dir.id, fuseArguments('moved')))).toBe(FS_ERRNO.ENOTDIR)
    await client.call(spec.FUSE_UNLINK, dir.id, fuseArguments('moved'))
    await client.call(spec.FUSE_RMDIR, ROOT, fuseArguments('dir'))
    expect(root.children?.size).toBe(0)
    expect(await refusal(client.make(spec.FUSE_SYMLINK, ROOT, 'link', 'x'))).toBe(FS_ERRNO.EPERM)
    expect(await refusal(client.make(spec.FUSE_MKNOD, ROOT, 0o010644, 0, 0, 0, 'pipe'))).toBe(FS_ERRNO.EPERM)
    expect(client.transport.failures).toEqual([])
  })

  it('is asked for nothing that a node is not', async () => {
    const root = directoryItem(['file', fileItem('text')], ['dir', directoryItem()])
    const source = writable(root)
    const asked: string[] = []
    for (const name of ['lookup', 'read', 'write', 'create', 'readdir'] as const) {
      const call = source[name] as (...values: unknown[]) => unknown
      Object.assign(source, {
        [name]: (node: Item, ...rest: unknown[]) => {
          asked.push(`${name} ${node.children === undefined ? 'file' : 'directory'}`)
          return call(node, ...rest)
        },
      })
    }
    const { client } = await mounted(new UserTree(source))
    const { id } = await client.lookup(ROOT, 'file')
    const dir = await client.lookup(ROOT, 'dir')
    expect(await refusal(client.lookup(id, 'x'))).toBe(FS_ERRNO.ENOTDIR)
    expect(await refusal(client.open(id, 0, spec.FUSE_OPENDIR))).toBe(FS_ERRNO.ENOTDIR)
    expect(await refusal(client.read(dir.id, 0, 0, 1))).toBe(FS_ERRNO.EISDIR)
    expect(await refusal(client.write(dir.id, 0, 0, Buffer.from('x')))).toBe(FS_ERRNO.EISDIR)
    expect(await refusal(client.make(spec.FUSE_MKNOD, id, 0o100644, 0, 0, 0, 'x'))).toBe(FS_ERRNO.ENOTDIR)
    expect(await refusal(client.call(spec.FUSE_READLINK, id, Buffer.alloc(0)))).toBe(FS_ERRNO.EINVAL)
    expect(asked).toEqual(['lookup directory', 'lookup directory'])
  })

  it('has names of text: bytes that are none are not there', async () => {
    const { client } = await mounted(new UserTree(writable()))
    expect((await client.lookup(ROOT, Buffer.from([0xff]))).id).toBe(0)
    expect(
      await refusal(client.call(spec.FUSE_MKDIR, ROOT, Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0]))),
    ).toBe(FS_ERRNO.EINVAL)
  })

  it('that lists what is no name, or gives what is no answer, harms nobody', async () => {
    const source = writable(directoryItem(['file', fileItem('text')]))
    source.readdir = () => ['', '.', '..', 'a/b', 'a\0b', 'x'.repeat(300), 'gone', 'file']
    const { client } = await mounted(new UserTree(source))
    const list = await client.list(ROOT, true)
    expect(list.map(({ name }) => name)).toEqual(['.', '..', 'gone', 'file'])
    expect(list.map(({ entry }) => entry?.id !== 0)).toEqual([false, false, false, true])
    const { id } = await client.lookup(ROOT, 'file')
    for (const count of [-1, 1.5, 11, Number.NaN]) {
      source.read = () => count
      expect(await refusal(client.read(id, 0, 0, 10))).toBe(FS_ERRNO.EIO)
    }
    source.stat = () => ({ type: 'file', size: -1 })
    expect(await refusal(client.getattr(id))).toBe(FS_ERRNO.EIO)
    expect(client.transport.failures.length).toBe(5)
  })

  it('gets no more buffers than there are, and what it has does not change under its hands', async () => {
    const slow = new SlowTree()
    const { client, memory, device } = await mounted(slow.fileSystem)
    const lookup = client.lookup(ROOT, 'file')
    await slow.release()
    const { id } = await lookup
    const writes = Array.from({ length: USER_TREE_PARALLEL + 20 }, (_, i) =>
      client.write(id, 0, 0, Buffer.alloc(4, i)),
    )
    await new Promise((resolve) => setImmediate(resolve))
    expect(slow.waiting.length).toBe(USER_TREE_PARALLEL)
    memory.write(0x8_0000, new Uint8Array(0x1_0000).fill(0xee))
    await slow.release()
    expect(await Promise.all(writes)).toEqual(writes.map(() => 4))
    expect([client.transport.failures, device.pending]).toEqual([[], 0])
  })

  it('that answers after a reset is not heard', async () => {
    const slow = new SlowTree()
    const { client, memory, device } = await mounted(slow.fileSystem)
    const lookup = client.lookup(ROOT, 'file')
    await slow.release()
    const { id } = await lookup
    void client.read(id, 0, 0, 100)
    void client.list(ROOT, true)
    await new Promise((resolve) => setImmediate(resolve))
    expect(device.pending).toBe(2)
    memory.clearDirty()
    client.transport.reset()
    await slow.release()
    await device.idle()
    expect(memory.regions.every(({ start, size }) => !dirtyAnywhere(memory, start, size))).toBe(true)
    expect([device.nodes, device.handles]).toEqual([0, 0])
  })
})

function dirtyAnywhere(
  memory: { isDirty(address: number, length: number): boolean },
  start: number,
  size: number,
): boolean {
  for (let at = start; at < start + Math.min(size, 0x10_0000); at += 1) if (memory.isDirty(at, 1)) return true
  return false
}
