/** What a guest can use up, and what it cannot do at all. */
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { fuseArguments } from '@vmm/devices/testing'
import { describe, expect, test } from 'vitest'
import { SharedDirectory, SharedDirectoryError } from '../src/index.ts'
import { countFds, ERRNO, mount, ROOT, refusal, temporaryDirectory } from './support.ts'

const O_RDWR = 2
const O_WRONLY = 1
const O_TRUNC = 0o1000
const FATTR_MODE = 1
const FATTR_SIZE = 8
const MKDIR = 9
const MKNOD = 8
const SYMLINK = 6
const LINK = 13
const UNLINK = 10
const RMDIR = 11
const OPENDIR = 27
const FALLOCATE = 43
const FSYNC = 20
const DESTROY = 38
const S_IFIFO = 0o010000

describe('a read-only share', () => {
  test('is not changed, whatever is asked', async () => {
    const path = temporaryDirectory()
    writeFileSync(join(path, 'file'), 'text')
    mkdirSync(join(path, 'directory'))
    utimesSync(path, 1000, 1000)
    const before = statSync(path)
    const { client } = await mount({ path, readOnly: true })
    const { id } = await client.lookup(ROOT, 'file')
    const refused = [
      client.open(id, O_WRONLY),
      client.open(id, O_RDWR),
      client.open(id, 3),
      client.open(id, O_TRUNC),
      client.create(ROOT, 'file', 0),
      client.create(ROOT, 'new'),
      client.make(MKDIR, ROOT, 0o755, 0, 'new'),
      client.make(MKNOD, ROOT, 0o100644, 0, 0, 0, 'new'),
      client.make(SYMLINK, ROOT, 'new', 'text'),
      client.make(LINK, ROOT, BigInt(id), 'new'),
      client.call(UNLINK, ROOT, fuseArguments('file')),
      client.call(RMDIR, ROOT, fuseArguments('directory')),
      client.rename(ROOT, 'file', ROOT, 'new'),
      client.setattr(id, { valid: FATTR_MODE, mode: 0o777 }),
      client.setattr(id, { valid: FATTR_SIZE, size: 0 }),
    ]
    for (const request of refused) expect(await refusal(request)).toBe(ERRNO.EROFS)
    const handle = await client.open(id)
    expect(await refusal(client.write(id, handle, 0, Buffer.from('x')))).toBe(ERRNO.EROFS)
    expect(await refusal(client.call(FALLOCATE, id, fuseArguments(BigInt(handle), 0n, 1n, 0, 0)))).toBe(
      ERRNO.EROFS,
    )
    expect((await client.read(id, handle, 0, 10)).toString()).toBe('text')
    expect(readdirSync(path).sort()).toEqual(['directory', 'file'])
    expect(statSync(path).mtimeMs).toBe(before.mtimeMs)
  })

  test('has descriptors for reading alone', async () => {
    const { client, path, share } = await mount({ readOnly: true })
    writeFileSync(join(path, 'file'), 'text')
    const { id } = await client.lookup(ROOT, 'file')
    await client.open(id)
    await client.open(ROOT, 0, OPENDIR)
    expect(share.descriptors).toBe(3)
    const flags = readdirSync('/proc/self/fd')
      .map((fd) => {
        try {
          return [
            readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'),
            execFileSync('readlink', [`/proc/${process.pid}/fd/${fd}`]).toString(),
          ]
        } catch {
          return ['', '']
        }
      })
      .filter(([, target]) => target?.startsWith(path))
      .map(([info]) => Number.parseInt(/flags:\s+(\d+)/.exec(info ?? '')?.[1] ?? '3', 8) & 3)
    expect(flags).toEqual([0, 0, 0, 0])
  })
})

describe('descriptors', () => {
  test('of files that are known are bounded; the files are found again', async () => {
    const { client, path, share, device } = await mount({ maxDescriptors: 16 })
    const ids: number[] = []
    for (let i = 0; i < 50; i += 1) {
      mkdirSync(join(path, `${i}/a/b`), { recursive: true })
      writeFileSync(join(path, `${i}/a/b/file`), `text ${i}`)
      ids.push((await client.walk(`${i}/a/b/file`)).id)
      // One over the limit is not closed before the next request.
      expect(share.descriptors).toBeLessThanOrEqual(17)
    }
    expect([device.nodes, share.nodes]).toEqual([200, 200])
    for (const [i, id] of ids.entries()) {
      const handle = await client.open(id)
      expect((await client.read(id, handle, 0, 100)).toString()).toBe(`text ${i}`)
      await client.release(id, handle)
      expect(share.descriptors).toBeLessThanOrEqual(16 + 4)
    }
  })

  test('that were closed lead to the same file or to none', async () => {
    const { client, path } = await mount({ maxDescriptors: 16 })
    for (const name of ['moved', 'removed', 'replaced', 'followed']) writeFileSync(join(path, name), name)
    const [moved, removed, replaced, followed] = await Promise.all(
      ['moved', 'removed', 'replaced', 'followed'].map(async (name) => (await client.lookup(ROOT, name)).id),
    )
    for (let i = 0; i < 40; i += 1) await client.create(ROOT, `other-${i}`)
    for (let i = 0; i < 40; i += 1) await client.lookup(ROOT, `other-${i}`)
    renameSync(join(path, 'moved'), join(path, 'elsewhere'))
    rmSync(join(path, 'removed'))
    rmSync(join(path, 'replaced'))
    writeFileSync(join(path, 'replaced'), 'another')
    await client.rename(ROOT, 'followed', ROOT, 'renamed')
    expect(await refusal(client.getattr(moved ?? 0))).toBe(ERRNO.ESTALE)
    expect(await refusal(client.getattr(removed ?? 0))).toBe(ERRNO.ESTALE)
    expect(await refusal(client.open(replaced ?? 0))).toBe(ERRNO.ESTALE)
    expect((await client.getattr(followed ?? 0)).size).toBe('followed'.length)
    // Where file systems give inode numbers again at once, this one has that of the file before.
    expect((await client.lookup(ROOT, 'replaced')).id).not.toBe(replaced)
    // Found by its new name it is the file that it was.
    expect((await client.lookup(ROOT, 'elsewhere')).id).toBe(moved)
    expect((await client.getattr(moved ?? 0)).size).toBe('moved'.length)
  })

  test('that were closed are not missed of what is open, whatever has become of its name', async () => {
    const { client, path, share } = await mount({ maxDescriptors: 16 })
    const { entry, handle } = await client.create(ROOT, 'file', O_RDWR)
    const { id } = await client.make(MKDIR, ROOT, 0o755, 0, 'directory')
    writeFileSync(join(path, 'directory/inside'), 'text')
    const inside = await client.lookup(id, 'inside')
    await client.open(id, 0, OPENDIR)
    for (let i = 0; i < 40; i += 1) writeFileSync(join(path, `other-${i}`), '')
    for (let i = 0; i < 80; i += 1) await client.lookup(ROOT, `other-${i % 40}`)
    await client.call(UNLINK, ROOT, fuseArguments('file'))
    renameSync(join(path, 'directory'), join(path, 'elsewhere'))

    expect(await client.getattr(entry.id)).toMatchObject({ inode: entry.inode, links: 0 })
    expect((await client.setattr(entry.id, { valid: FATTR_SIZE, size: 7 })).size).toBe(7)
    expect((await client.setattr(entry.id, { valid: FATTR_MODE, mode: 0o600 })).mode & 0o777).toBe(0o600)
    expect(await client.read(entry.id, await client.open(entry.id), 0, 100)).toEqual(Buffer.alloc(7))
    expect((await client.getattr(inside.id)).size).toBe('text'.length)
    expect(share.descriptors).toBeLessThanOrEqual(16 + 4)

    await client.release(entry.id, handle)
    expect((await client.getattr(entry.id)).links).toBe(0)
  })

  test('are all given back: when files are forgotten, closed, unmounted, and with the share', async () => {
    const before = countFds()
    const { client, path, share, device } = await mount()
    const empty = countFds()
    for (let i = 0; i < 10; i += 1) writeFileSync(join(path, `file-${i}`), '')
    const list = await client.list(ROOT, true)
    expect(share.descriptors).toBe(10)
    for (const { entry } of list) if (entry !== undefined && entry.id !== 0) await client.forget(entry.id)
    expect([share.descriptors, device.nodes, share.nodes]).toEqual([0, 0, 0])
    const { entry, handle } = await client.create(ROOT, 'file')
    await client.forget(entry.id)
    expect((await client.getattr(ROOT)).links).toBeGreaterThan(0)
    expect(share.descriptors).toBe(1)
    // Forgetting goes by another queue, and may come first.
    await client.release(entry.id, handle)
    expect(share.descriptors).toBe(0)
    await client.open((await client.lookup(ROOT, 'file')).id)
    await client.call(DESTROY, ROOT, Buffer.alloc(0))
    expect([share.descriptors, device.handles, countFds()]).toEqual([0, 0, empty])
    await client.init()
    await client.open((await client.lookup(ROOT, 'file')).id)
    await client.list(ROOT, true)
    share.close()
    share.close()
    client.transport.reset()
    expect(countFds()).toBeLessThanOrEqual(before + 1)
  })

  test('of a closed share are nobody else’s', async () => {
    const { client, path, share } = await mount()
    writeFileSync(join(path, 'file'), 'text')
    const { id } = await client.lookup(ROOT, 'file')
    const handle = await client.open(id, O_RDWR)
    const descriptors = readdirSync('/proc/self/fd').map(Number)
    share.close()
    // Of the host's, in the place of those that were closed.
    const others = descriptors.map(() => openSync(import.meta.filename, 'r'))
    for (const request of [
      client.lookup(ROOT, 'file'),
      client.getattr(id),
      client.getattr(ROOT),
      client.open(id),
      client.create(ROOT, 'new'),
      client.list(ROOT),
      client.make(MKDIR, ROOT, 0o755, 0, 'new'),
      client.read(id, handle, 0, 10),
      client.write(id, handle, 0, Buffer.from('x')),
      client.call(FSYNC, id, fuseArguments(BigInt(handle), 0, 0)),
    ]) {
      expect([ERRNO.EBADF, ERRNO.ESTALE]).toContain(await refusal(request))
    }
    for (const fd of others) closeSync(fd)
    expect(readdirSync(path)).toEqual(['file'])
  })
})

describe('bounds', () => {
  test('of nodes: one more is ENFILE, and nothing is made that could not be told of', async () => {
    const { client, path, device, share } = await mount({ limits: { maxNodes: 3 } })
    for (let i = 0; i < 5; i += 1) writeFileSync(join(path, `file-${i}`), '')
    for (let i = 0; i < 3; i += 1) await client.lookup(ROOT, `file-${i}`)
    expect(await refusal(client.lookup(ROOT, 'file-3'))).toBe(ERRNO.ENFILE)
    expect((await client.lookup(ROOT, 'file-2')).id).toBeGreaterThan(0)
    expect(await refusal(client.create(ROOT, 'new'))).toBe(ERRNO.ENFILE)
    expect(await refusal(client.make(MKDIR, ROOT, 0o755, 0, 'new'))).toBe(ERRNO.ENFILE)
    expect(existsSync(join(path, 'new'))).toBe(false)
    const list = await client.list(ROOT, true)
    expect(list.filter(({ entry }) => entry !== undefined && entry.id !== 0).length).toBe(3)
    expect([device.nodes, share.nodes]).toEqual([3, 3])
  })

  test('of handles: one more is ENFILE', async () => {
    const { client, path, share, device } = await mount({ limits: { maxHandles: 3 } })
    writeFileSync(join(path, 'file'), '')
    const { id } = await client.lookup(ROOT, 'file')
    const handles = [await client.open(id), await client.open(id), await client.open(ROOT, 0, OPENDIR)]
    expect(await refusal(client.open(id))).toBe(ERRNO.ENFILE)
    expect(await refusal(client.create(ROOT, 'new'))).toBe(ERRNO.ENFILE)
    expect(existsSync(join(path, 'new'))).toBe(false)
    expect([share.descriptors, device.handles]).toEqual([4, 3])
    await client.release(id, handles[0] ?? 0)
    await client.open(id)
  })

  test('of depth: a file too far below is lost, and no more than that', async () => {
    const { client } = await mount({ maxDescriptors: 16 })
    let id = ROOT
    for (let i = 0; i < 400; i += 1) id = (await client.make(MKDIR, id, 0o755, 0, 'd')).id
    await client.getattr(id)
    for (let i = 0; i < 20; i += 1) await client.create(ROOT, `other-${i}`)
    for (let i = 0; i < 20; i += 1) await client.lookup(ROOT, `other-${i}`)
    expect(await refusal(client.getattr(id))).toBe(ERRNO.ESTALE)
    expect((await client.getattr(ROOT)).links).toBe(3)
  })
})

describe('what is no file', () => {
  test('is looked at and never opened', async () => {
    const { client, path } = await mount()
    execFileSync('mkfifo', [join(path, 'pipe')])
    const { id, mode } = await client.lookup(ROOT, 'pipe')
    expect(mode & 0o170000).toBe(S_IFIFO)
    // Opening it for reading would wait for a writer.
    expect(await refusal(client.open(id))).toBe(ERRNO.ENXIO)
    expect(await refusal(client.open(id, O_WRONLY))).toBe(ERRNO.ENXIO)
    expect(await refusal(client.create(ROOT, 'pipe', O_RDWR))).toBe(ERRNO.ENXIO)
    expect(await refusal(client.setattr(id, { valid: FATTR_SIZE, size: 0 }))).toBe(ERRNO.ENXIO)
    expect((await client.setattr(id, { valid: FATTR_MODE, mode: 0o666 })).mode & 0o777).toBe(0o666)
  })

  test('devices neither', async () => {
    const { client } = await mount({ path: '/dev', crossMounts: true })
    const { id } = await client.lookup(ROOT, 'null')
    expect(await refusal(client.open(id))).toBe(ERRNO.ENXIO)
    expect(await refusal(client.open(id, O_RDWR))).toBe(ERRNO.ENXIO)
  })
})

describe('opening a share', () => {
  const codeAndMessage = (path: string, options = {}) => {
    try {
      new SharedDirectory(path, options).close()
    } catch (error) {
      expect(error).toBeInstanceOf(SharedDirectoryError)
      const { code, message } = error as SharedDirectoryError
      return [code, message]
    }
    throw new Error('it did not fail')
  }

  test('fails with a sentence that says why', () => {
    const path = temporaryDirectory()
    const before = countFds()
    writeFileSync(join(path, 'file'), '')
    expect(codeAndMessage(join(path, 'none'))).toEqual([
      'ERR_SHARED_DIR_MISSING',
      `share ${path}/none does not exist`,
    ])
    expect(codeAndMessage(join(path, 'file'))).toEqual([
      'ERR_SHARED_DIR_TYPE',
      `share ${path}/file is no directory`,
    ])
    expect(codeAndMessage(join(path, 'file/x'))[0]).toBe('ERR_SHARED_DIR_MISSING')
    expect(codeAndMessage(path, { cacheSeconds: -1 })[0]).toBe('ERR_SHARED_DIR_OPTION')
    expect(codeAndMessage(path, { maxDescriptors: 15 })[0]).toBe('ERR_SHARED_DIR_OPTION')
    expect(codeAndMessage(path, { owner: { uid: -1, gid: 0 } })[0]).toBe('ERR_SHARED_DIR_OPTION')
    expect(countFds()).toBeLessThanOrEqual(before + 1)
  })

  test.skipIf(process.geteuid?.() === 0)('needs the right to read it (which root always has)', () => {
    const path = temporaryDirectory()
    chmodSync(path, 0o300)
    expect(codeAndMessage(path)).toEqual(['ERR_SHARED_DIR_OPEN', `share ${path} cannot be read: EACCES`])
    chmodSync(path, 0o700)
  })
})
