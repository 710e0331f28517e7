import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { fuseArguments } from '@vmm/devices/testing'
import { describe, expect, test } from 'vitest'
import { ERRNO, mount, ROOT, refusal } from './support.ts'

const O_RDWR = 2
const O_WRONLY = 1
const O_TRUNC = 0o1000
const O_APPEND = 0o2000
const O_EXCL = 0o200
const S_IFMT = 0o170000
const S_IFREG = 0o100000
const S_IFDIR = 0o040000
const S_IFIFO = 0o010000
const S_IFLNK = 0o120000
const SYMLINK = 6
const MKNOD = 8
const MKDIR = 9
const UNLINK = 10
const RMDIR = 11
const READLINK = 5
const LINK = 13
const STATFS = 17
const FSYNC = 20
const FSYNCDIR = 30
const OPENDIR = 27
const FALLOCATE = 43
const LSEEK = 46
const COPY_FILE_RANGE = 47
const FATTR_MODE = 1
const FATTR_UID = 2
const FATTR_SIZE = 8
const FATTR_MTIME = 0x20
const FATTR_FH = 0x40
const DT_DIR = 4
const DT_REG = 8
const DT_LNK = 10

describe('files', () => {
  test('are found, described and read', async () => {
    const { path, client } = await mount()
    const data = Buffer.alloc(300_000, 'some text, ')
    writeFileSync(join(path, 'file'), data)
    chmodSync(join(path, 'file'), 0o640)
    const file = await client.lookup(ROOT, 'file')
    const host = statSync(join(path, 'file'))
    expect(file).toMatchObject({
      size: 300_000,
      inode: host.ino,
      mode: S_IFREG | 0o640,
      uid: 0,
      gid: 0,
      links: 1,
    })
    expect(file.valid).toBe(1)
    const handle = await client.open(file.id)
    expect((await client.read(file.id, handle, 0, 0x10_0000)).equals(data)).toBe(true)
    expect((await client.read(file.id, handle, 299_990, 100)).equals(data.subarray(299_990))).toBe(true)
    expect((await client.read(file.id, handle, 400_000, 100)).length).toBe(0)
    await client.release(file.id, handle)
    expect(await refusal(client.read(file.id, handle, 0, 1))).toBe(ERRNO.EBADF)
  })

  test('are made, written, cut and made durable', async () => {
    const { path, client } = await mount()
    const { entry, handle } = await client.create(ROOT, 'new', O_RDWR, 0o600)
    const data = Buffer.alloc(500_000, 'abcdefg')
    expect(await client.write(entry.id, handle, 10, data)).toBe(500_000)
    expect(readFileSync(join(path, 'new')).equals(Buffer.concat([Buffer.alloc(10), data]))).toBe(true)
    expect((await client.setattr(entry.id, { valid: FATTR_SIZE | FATTR_FH, handle, size: 12 })).size).toBe(12)
    expect((await client.setattr(entry.id, { valid: FATTR_SIZE, size: 11 })).size).toBe(11)
    expect(readFileSync(join(path, 'new'), 'latin1')).toBe('\0\0\0\0\0\0\0\0\0\0a')
    await client.call(FSYNC, entry.id, fuseArguments(BigInt(handle), 0, 0))
    await client.call(FSYNC, entry.id, fuseArguments(BigInt(handle), 1, 0))
    expect(await refusal(client.create(ROOT, 'new', O_RDWR | O_EXCL))).toBe(ERRNO.EEXIST)
    const again = await client.create(ROOT, 'new', O_RDWR | O_TRUNC)
    expect([again.entry.id, again.entry.size]).toEqual([entry.id, 0])
    expect(statSync(join(path, 'new')).size).toBe(0)
  })

  test('that are appended to grow at their end, whoever wrote there', async () => {
    const { path, client } = await mount()
    const { entry, handle } = await client.create(ROOT, 'log', O_WRONLY | O_APPEND)
    await client.write(entry.id, handle, 0, Buffer.from('guest\n'), O_WRONLY | O_APPEND)
    writeFileSync(join(path, 'log'), 'host\n', { flag: 'a' })
    await client.write(entry.id, handle, 6, Buffer.from('guest\n'), O_WRONLY | O_APPEND)
    // Pages that come back late have their place all the same.
    await client.write(entry.id, handle, 0, Buffer.from('G'), 0)
    expect(readFileSync(join(path, 'log'), 'utf8')).toBe('Guest\nhost\nguest\n')
  })

  test('are written by handles for writing alone', async () => {
    const { path, client } = await mount()
    writeFileSync(join(path, 'file'), 'text')
    const { id } = await client.lookup(ROOT, 'file')
    const handle = await client.open(id)
    expect(await refusal(client.write(id, handle, 0, Buffer.from('x')))).toBe(ERRNO.EBADF)
    expect(await refusal(client.call(FALLOCATE, id, fuseArguments(BigInt(handle), 0n, 1n, 0, 0)))).toBe(
      ERRNO.EBADF,
    )
    expect(readFileSync(join(path, 'file'), 'utf8')).toBe('text')
  })

  test('that were removed are there while they are open', async () => {
    const { path, client } = await mount()
    const { entry, handle } = await client.create(ROOT, 'file')
    await client.write(entry.id, handle, 0, Buffer.from('text'))
    await client.call(UNLINK, ROOT, fuseArguments('file'))
    expect(existsSync(join(path, 'file'))).toBe(false)
    expect((await client.read(entry.id, handle, 0, 10)).toString()).toBe('text')
    expect((await client.getattr(entry.id)).links).toBe(0)
  })

  test('have holes, are allocated, and copied by the host', async () => {
    const { path, client } = await mount()
    const { entry, handle } = await client.create(ROOT, 'file')
    const fh = BigInt(handle)
    await client.call(FALLOCATE, entry.id, fuseArguments(fh, 0n, 65_536n, 0, 0))
    expect(statSync(join(path, 'file')).size).toBe(65_536)
    await client.write(entry.id, handle, 2 ** 33, Buffer.from('data'))
    const seek = async (offset: bigint, whence: number) =>
      Number((await client.call(LSEEK, entry.id, fuseArguments(fh, offset, whence, 0))).readBigUInt64LE(0))
    expect(await seek(100_000n, 3)).toBe(2 ** 33)
    expect(await refusal(seek(2n ** 34n, 3))).toBe(ERRNO.ENXIO)
    const punch = fuseArguments(fh, 0n, 2n ** 33n, 0b11, 0)
    await client.call(FALLOCATE, entry.id, punch)
    expect(await refusal(client.call(FALLOCATE, entry.id, fuseArguments(fh, 0n, 1n, 0x40, 0)))).toBe(
      ERRNO.EOPNOTSUPP,
    )
    const other = await client.create(ROOT, 'other')
    const copy = fuseArguments(fh, 2n ** 33n, BigInt(other.entry.id), BigInt(other.handle), 3n, 100n, 0n)
    expect((await client.call(COPY_FILE_RANGE, entry.id, copy)).readUInt32LE(0)).toBe(4)
    expect(readFileSync(join(path, 'other'), 'latin1')).toBe('\0\0\0data')
  })

  test('keep what the guest has cached when nobody changed them', async () => {
    const { path, client } = await mount()
    const file = join(path, 'file')
    writeFileSync(file, 'text')
    const { id } = await client.lookup(ROOT, 'file')
    const keeps = async () => (await client.call(14, id, fuseArguments(0, 0))).readUInt32LE(8) === 2
    expect(await keeps()).toBe(false)
    // Changed a moment ago: one more change might not show.
    expect(await keeps()).toBe(false)
    // A change long ago, as far as the device can see. (ctime cannot be set: the clock is.)
    const { now } = Date
    Date.now = () => now() + 10_000
    try {
      expect(await keeps()).toBe(false)
      expect(await keeps()).toBe(true)
      writeFileSync(file, 'TEXT')
      utimesSync(file, 0, 0)
      expect(await keeps()).toBe(false)
    } finally {
      Date.now = now
    }
  })
})

describe('names', () => {
  test('of every kind of file are made', async () => {
    const { path, client } = await mount()
    const directory = await client.make(MKDIR, ROOT, 0o750, 0, 'directory')
    expect(directory.mode).toBe(S_IFDIR | 0o750)
    const pipe = await client.make(MKNOD, ROOT, S_IFIFO | 0o600, 0, 0, 0, 'pipe')
    expect([pipe.mode & S_IFMT, statSync(join(path, 'pipe')).isFIFO()]).toEqual([S_IFIFO, true])
    const plain = await client.make(MKNOD, directory.id, S_IFREG | 0o644, 0, 0, 0, 'plain')
    expect([plain.mode, plain.size]).toEqual([S_IFREG | 0o644, 0])
    const link = await client.make(SYMLINK, directory.id, 'link', '../pipe')
    expect([link.mode & S_IFMT, readlinkSync(join(path, 'directory/link'))]).toEqual([S_IFLNK, '../pipe'])
    expect((await client.call(READLINK, link.id, Buffer.alloc(0))).toString()).toBe('../pipe')
    const hard = await client.make(LINK, ROOT, BigInt(plain.id), 'hard')
    expect([hard.id, hard.links, hard.inode]).toEqual([plain.id, 2, plain.inode])
    expect((await client.lookup(ROOT, 'hard')).id).toBe(plain.id)
    expect(await refusal(client.make(LINK, ROOT, BigInt(directory.id), 'no'))).toBe(ERRNO.EPERM)
    for (const type of [0o020000, 0o060000, 0o140000]) {
      expect(await refusal(client.make(MKNOD, ROOT, type | 0o600, 0x101, 0, 0, 'device'))).toBe(ERRNO.EPERM)
    }
    expect(readdirSync(path).sort()).toEqual(['directory', 'hard', 'pipe'])
  })

  test('are removed, files and directories each in their way', async () => {
    const { path, client } = await mount()
    mkdirSync(join(path, 'full/empty'), { recursive: true })
    writeFileSync(join(path, 'file'), '')
    expect(await refusal(client.call(RMDIR, ROOT, fuseArguments('full')))).toBe(ERRNO.ENOTEMPTY)
    expect(await refusal(client.call(RMDIR, ROOT, fuseArguments('file')))).toBe(ERRNO.ENOTDIR)
    expect(await refusal(client.call(UNLINK, ROOT, fuseArguments('full')))).toBe(ERRNO.EISDIR)
    const full = await client.lookup(ROOT, 'full')
    await client.call(RMDIR, full.id, fuseArguments('empty'))
    await client.call(RMDIR, ROOT, fuseArguments('full'))
    await client.call(UNLINK, ROOT, fuseArguments('file'))
    expect(readdirSync(path)).toEqual([])
  })

  test('are changed: the file stays the same one', async () => {
    const { path, client } = await mount()
    mkdirSync(join(path, 'a'))
    mkdirSync(join(path, 'b'))
    writeFileSync(join(path, 'a/one'), '1')
    writeFileSync(join(path, 'b/two'), '2')
    const a = await client.lookup(ROOT, 'a')
    const b = await client.lookup(ROOT, 'b')
    const one = await client.lookup(a.id, 'one')
    await client.rename(a.id, 'one', b.id, 'moved')
    expect((await client.lookup(b.id, 'moved')).id).toBe(one.id)
    expect(await refusal(client.rename(b.id, 'moved', b.id, 'two', 1))).toBe(ERRNO.EEXIST)
    await client.rename(b.id, 'moved', b.id, 'two', 2)
    expect([readFileSync(join(path, 'b/two'), 'utf8'), readFileSync(join(path, 'b/moved'), 'utf8')]).toEqual([
      '1',
      '2',
    ])
    await client.rename(ROOT, 'a', b.id, 'a')
    expect((await client.walk('b/a')).id).toBe(a.id)
    expect(await refusal(client.rename(ROOT, 'b', a.id, 'x'))).toBe(ERRNO.EINVAL)
    expect(await refusal(client.rename(ROOT, 'b', ROOT, 'x', 4))).toBe(ERRNO.EINVAL)
  })

  test('that are no UTF-8 are names', async () => {
    const { path, client } = await mount()
    const name = Buffer.from([0xff, 0xfe, 0x41])
    writeFileSync(Buffer.concat([Buffer.from(`${path}/`), name]), 'text')
    const { id } = await client.lookup(ROOT, name)
    expect((await client.read(id, await client.open(id), 0, 10)).toString()).toBe('text')
    expect((await client.list(ROOT)).map((one) => one.name)).toContain(name.toString('latin1'))
  })

  test('that are not there are remembered as that, for as long as those that are', async () => {
    const { client } = await mount({ cacheSeconds: 2.5 })
    expect(await client.lookup(ROOT, 'none')).toMatchObject({ id: 0, valid: 2.5 })
    const { client: other } = await mount({ cacheSeconds: 0 })
    expect(await refusal(other.lookup(ROOT, 'none'))).toBe(ERRNO.ENOENT)
  })
})

describe('directories', () => {
  test('are listed, in parts of any size, with and without what the entries are', async () => {
    const { path, client, device } = await mount()
    const names = Array.from({ length: 200 }, (_, i) => `${i}-${'x'.repeat(i)}`)
    for (const name of names) writeFileSync(join(path, name), '')
    mkdirSync(join(path, 'directory'))
    symlinkSync('nowhere', join(path, 'link'))
    const all = [...names, 'directory', 'link', '.', '..'].sort()
    for (const room of [300, 4096, 65_536]) {
      const list = await client.list(ROOT, false, room)
      expect(list.map((one) => one.name).sort()).toEqual(all)
      expect(list.find((one) => one.name === 'directory')?.type).toBe(DT_DIR)
      expect(list.find((one) => one.name === 'link')?.type).toBe(DT_LNK)
      expect(list.find((one) => one.name === names[7])).toMatchObject({
        type: DT_REG,
        inode: lstatSync(join(path, String(names[7]))).ino,
      })
    }
    expect(device.nodes).toBe(0)
    const plus = await client.list(ROOT, true, 2048)
    expect(plus.map((one) => one.name).sort()).toEqual(all)
    expect(device.nodes).toBe(202)
    const link = plus.find((one) => one.name === 'link')
    expect(link?.entry?.id).toBe((await client.lookup(ROOT, 'link')).id)
    expect(plus.find((one) => one.name === '..')?.entry?.id).toBe(0)
  })

  test('are gone through from anywhere', async () => {
    const { path, client } = await mount()
    for (let i = 0; i < 100; i += 1) writeFileSync(join(path, `name-${i}`), '')
    const all = await client.list(ROOT)
    const handle = await client.open(ROOT, 0, OPENDIR)
    const { parseDirents } = await import('@vmm/devices/testing')
    for (const at of [50, 10, 90, 11]) {
      const body = fuseArguments(BigInt(handle), all[at]?.next ?? 0n, 256, 0, 0n, 0, 0)
      const part = parseDirents(await client.call(28, ROOT, body), false)
      expect(part[0]?.name).toBe(all[at + 1]?.name)
    }
    await client.call(FSYNCDIR, ROOT, fuseArguments(BigInt(handle), 0, 0))
  })

  test('that the host changes are seen to change', async () => {
    const { path, client } = await mount()
    writeFileSync(join(path, 'one'), '')
    expect((await client.list(ROOT)).length).toBe(3)
    renameSync(join(path, 'one'), join(path, 'two'))
    writeFileSync(join(path, 'one'), 'another')
    expect((await client.list(ROOT)).map((one) => one.name).sort()).toEqual(['.', '..', 'one', 'two'])
    const two = await client.lookup(ROOT, 'two')
    const one = await client.lookup(ROOT, 'one')
    expect(one.id).not.toBe(two.id)
    rmSync(join(path, 'one'))
    expect((await client.lookup(ROOT, 'one')).id).toBe(0)
  })

  test('have the room that their file system has', async () => {
    const { client } = await mount()
    const space = await client.call(STATFS, ROOT, Buffer.alloc(0))
    expect(space.readBigUInt64LE(0)).toBeGreaterThan(space.readBigUInt64LE(8))
    expect([space.length, space.readUInt32LE(44)]).toEqual([80, 255])
  })
})

describe('attributes', () => {
  test('are changed: permissions and times, of links their times', async () => {
    const { path, client } = await mount()
    writeFileSync(join(path, 'file'), '')
    symlinkSync('file', join(path, 'link'))
    const { id } = await client.lookup(ROOT, 'file')
    const link = await client.lookup(ROOT, 'link')
    expect((await client.setattr(id, { valid: FATTR_MODE, mode: 0o604 })).mode).toBe(S_IFREG | 0o604)
    expect((await client.setattr(id, { valid: FATTR_MTIME, modified: -100n })).modified).toBe(-100n)
    expect(statSync(join(path, 'file')).mtimeMs).toBe(-100_000)
    await client.setattr(link.id, { valid: FATTR_MTIME, modified: 5000n })
    expect(lstatSync(join(path, 'link')).mtimeMs).toBe(5_000_000)
    expect(statSync(join(path, 'file')).mtimeMs).toBe(-100_000)
    expect(await refusal(client.setattr(link.id, { valid: FATTR_MODE, mode: 0 }))).toBe(ERRNO.EOPNOTSUPP)
    expect(await refusal(client.setattr(link.id, { valid: FATTR_SIZE, size: 0 }))).toBe(ERRNO.ELOOP)
    expect(await refusal(client.setattr(ROOT, { valid: FATTR_SIZE, size: 0 }))).toBe(ERRNO.EISDIR)
  })

  test('name one owner, that a file can be given to again', async () => {
    const { path, client } = await mount({ owner: { uid: 1000, gid: 100 } })
    writeFileSync(join(path, 'file'), '')
    const file = await client.lookup(ROOT, 'file')
    expect([file.uid, file.gid]).toEqual([1000, 100])
    expect((await client.setattr(file.id, { valid: FATTR_UID, uid: 1000 })).uid).toBe(1000)
    expect(await refusal(client.setattr(file.id, { valid: FATTR_UID, uid: 0 }))).toBe(ERRNO.EPERM)
    const { entry } = await client.create(ROOT, 'new')
    expect([entry.uid, statSync(join(path, 'new')).uid]).toEqual([1000, process.geteuid?.()])
  })

  test('have no set-user-ID bit, to be seen or to be set', async () => {
    const { path, client } = await mount()
    const file = join(path, 'file')
    writeFileSync(file, 'text')
    chmodSync(file, 0o6755)
    const { id, mode } = await client.lookup(ROOT, 'file')
    expect(mode).toBe(S_IFREG | 0o755)
    await client.open(id)
    expect(statSync(file).mode & 0o7777).toBe(0o6755)
    // Whoever writes to it, it does not run as its owner any more.
    await client.open(id, O_RDWR)
    expect(statSync(file).mode & 0o7777).toBe(0o755)
    await client.setattr(id, { valid: FATTR_MODE, mode: 0o6755 })
    expect(statSync(file).mode & 0o7777).toBe(0o755)
    await client.create(ROOT, 'new', O_RDWR, 0o4755)
    await client.make(MKDIR, ROOT, 0o2755, 0, 'directory')
    expect(statSync(join(path, 'new')).mode & 0o7000).toBe(0)
    expect(statSync(join(path, 'directory')).mode & 0o7000).toBe(0)
  })

  test('of a hard link made by the host are those of one file', async () => {
    const { path, client } = await mount()
    writeFileSync(join(path, 'one'), '')
    linkSync(join(path, 'one'), join(path, 'two'))
    expect((await client.lookup(ROOT, 'one')).id).toBe((await client.lookup(ROOT, 'two')).id)
  })
})
