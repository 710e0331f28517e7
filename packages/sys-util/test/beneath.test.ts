import {
  chmodSync,
  closeSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import {
  allocateRange,
  chmodFd,
  copyRange,
  DirectoryEntries,
  FileStatus,
  FileSystemStatus,
  linkFd,
  makeDirectoryAt,
  makeNodeAt,
  makeSymlinkAt,
  OwnedFd,
  openBeneath,
  openDescriptorNames,
  openPath,
  readLinkFd,
  renameAt,
  reopenFd,
  seekDirectory,
  seekRange,
  setTimesFd,
  truncateFd,
  unlinkAt,
} from '../src/index.ts'
import { fdFlags, O_CLOEXEC, own, temporaryDirectory } from './resources.ts'

const O_RDONLY = 0
const O_RDWR = 2
const O_CREAT = 0o100
const O_EXCL = 0o200
const O_DIRECTORY = 0o200000
const O_NOFOLLOW = 0o400000
const O_PATH = 0o10000000
const ENOENT = 2
const EBADF = 9
const EEXIST = 17
const EXDEV = 18
const ENOTDIR = 20
const ENOTEMPTY = 39
const ELOOP = 40
const S_IFIFO = 0o010000
const RENAME_EXCHANGE = 2
const FALLOC_FL_KEEP_SIZE = 1
const SEEK_DATA = 3

const bytes = (text: string) => Buffer.from(`${text}\0`)

function ownFd(fd: number): number {
  expect(fd).toBeGreaterThanOrEqual(0)
  return own(new OwnedFd(fd)).fd
}

function directory() {
  const path = temporaryDirectory()
  return { path, fd: ownFd(openPath(path, O_PATH | O_DIRECTORY | O_CLOEXEC)) }
}

test('a name in a directory opens a file, and makes one', () => {
  const { path, fd } = directory()
  writeFileSync(join(path, 'file'), 'text')
  const file = ownFd(openBeneath(fd, bytes('file'), O_RDONLY))
  expect(readFileSync(file, 'utf8')).toBe('text')
  expect(fdFlags(file) & O_CLOEXEC).toBe(O_CLOEXEC)
  ownFd(openBeneath(fd, bytes('new'), O_RDWR | O_CREAT | O_EXCL, { mode: 0o640 }))
  expect(statSync(join(path, 'new')).mode & 0o777).toBe(0o640)
  expect(openBeneath(fd, bytes('new'), O_RDWR | O_CREAT | O_EXCL)).toBe(-EEXIST)
  expect(openBeneath(fd, bytes('none'), O_RDONLY)).toBe(-ENOENT)
})

test('no name leads out of the directory', () => {
  const { path, fd } = directory()
  writeFileSync(join(path, 'secret'), 'secret')
  mkdirSync(join(path, 'inner'))
  const inner = ownFd(openBeneath(fd, bytes('inner'), O_PATH))
  symlinkSync('../secret', join(path, 'inner', 'link'))
  symlinkSync('/proc/self/cwd', join(path, 'inner', 'magic'))
  expect(openBeneath(inner, bytes('..'), O_PATH)).toBe(-EXDEV)
  expect(openBeneath(inner, bytes('../secret'), O_RDONLY)).toBe(-EXDEV)
  expect(openBeneath(inner, bytes(join(path, 'secret')), O_RDONLY)).toBe(-EXDEV)
  expect(openBeneath(inner, bytes('link'), O_RDONLY)).toBe(-ELOOP)
  expect(openBeneath(inner, bytes('magic'), O_PATH)).toBe(-ELOOP)
  const proc = ownFd(openPath('/', O_PATH))
  expect(openBeneath(proc, bytes('proc'), O_PATH)).toBe(-EXDEV)
  ownFd(openBeneath(proc, bytes('proc'), O_PATH, { crossMounts: true }))
})

test('a symbolic link is opened itself, and read', () => {
  const { path, fd } = directory()
  expect(makeSymlinkAt(bytes('some/where'), fd, bytes('link'))).toBe(0)
  expect(readlinkSync(join(path, 'link'))).toBe('some/where')
  const link = ownFd(openBeneath(fd, bytes('link'), O_PATH | O_NOFOLLOW))
  const target = new Uint8Array(64)
  expect(readLinkFd(link, target)).toBe(10)
  expect(Buffer.from(target.subarray(0, 10)).toString()).toBe('some/where')
  expect(setTimesFd(link, undefined, { seconds: 1000, nanoseconds: 0 })).toBe(0)
  expect(lstatSync(join(path, 'link')).mtimeMs).toBe(1_000_000)
})

test('directories and pipes are made, renamed, exchanged and removed', () => {
  const { path, fd } = directory()
  expect(makeDirectoryAt(fd, bytes('one'), 0o750)).toBe(0)
  expect(makeDirectoryAt(fd, bytes('one'), 0o750)).toBe(-EEXIST)
  expect(makeNodeAt(fd, bytes('pipe'), S_IFIFO | 0o600)).toBe(0)
  expect(statSync(join(path, 'pipe')).isFIFO()).toBe(true)
  const name = (text: string) => ({ directory: fd, name: bytes(text) })
  expect(renameAt(name('one'), name('two'), 0)).toBe(0)
  expect(renameAt(name('two'), name('pipe'), RENAME_EXCHANGE)).toBe(0)
  expect(statSync(join(path, 'pipe')).isDirectory()).toBe(true)
  writeFileSync(join(path, 'pipe', 'file'), '')
  expect(unlinkAt(fd, bytes('pipe'), true)).toBe(-ENOTEMPTY)
  expect(unlinkAt(fd, bytes('two'), true)).toBe(-ENOTDIR)
  expect(unlinkAt(fd, bytes('two'), false)).toBe(0)
  expect(existsSync(join(path, 'two'))).toBe(false)
})

test('a file that is only pinned is opened, changed and linked by its descriptor', () => {
  const { path, fd } = directory()
  writeFileSync(join(path, 'file'), 'text')
  expect(openDescriptorNames()).toBe(openDescriptorNames())
  const pinned = ownFd(openBeneath(fd, bytes('file'), O_PATH | O_NOFOLLOW))
  expect(readFileSync(ownFd(reopenFd(pinned, O_RDONLY)), 'utf8')).toBe('text')
  expect(chmodFd(pinned, 0o604)).toBe(0)
  expect(linkFd(pinned, fd, bytes('other'))).toBe(0)
  expect(setTimesFd(pinned, { seconds: -5, nanoseconds: 500_000_000 }, 'now')).toBe(0)
  const { mode, nlink, atimeMs, mtimeMs } = statSync(join(path, 'other'))
  expect([mode & 0o777, nlink, atimeMs]).toEqual([0o604, 2, -4500])
  expect(mtimeMs).toBeGreaterThan(1e12)
  expect(reopenFd(-1, O_RDONLY)).toBe(-ENOENT)
  // Whatever it is called by now.
  linkSync(join(path, 'file'), join(path, 'third'))
  expect(statSync(`/proc/self/fd/${pinned}`).nlink).toBe(3)
})

test('descriptors of any number of digits have names', () => {
  const { path, fd } = directory()
  writeFileSync(join(path, 'file'), 'text')
  const pinned = ownFd(openBeneath(fd, bytes('file'), O_PATH))
  const many = Array.from({ length: 120 }, () => openSync(`/proc/self/fd/${pinned}`, 'r'))
  try {
    expect(Math.max(...many)).toBeGreaterThan(99)
    for (const one of many) closeSync(reopenFd(one, O_RDONLY))
  } finally {
    many.forEach(closeSync)
  }
})

test('the status is what Node says', () => {
  const { path, fd } = directory()
  writeFileSync(join(path, 'file'), 'x'.repeat(10_000))
  chmodSync(join(path, 'file'), 0o640)
  const status = new FileStatus()
  expect(status.read(ownFd(openBeneath(fd, bytes('file'), O_PATH)))).toBe(0)
  const node = statSync(join(path, 'file'), { bigint: true })
  const time = (seconds: number, nanoseconds: number) =>
    BigInt(seconds) * 1_000_000_000n + BigInt(nanoseconds)
  expect({
    mode: BigInt(status.mode),
    nlink: BigInt(status.links),
    uid: BigInt(status.uid),
    gid: BigInt(status.gid),
    size: BigInt(status.size),
    blocks: BigInt(status.blocks),
    blksize: BigInt(status.blockSize),
    ino: (BigInt(status.inodeHigh) << 32n) | BigInt(status.inodeLow),
    atimeNs: time(status.accessed, status.accessedNs),
    mtimeNs: time(status.modified, status.modifiedNs),
    ctimeNs: time(status.changed, status.changedNs),
    birthtimeNs: time(status.born, status.bornNs),
  }).toEqual(
    Object.fromEntries(
      [
        'mode',
        'nlink',
        'uid',
        'gid',
        'size',
        'blocks',
        'blksize',
        'ino',
        'atimeNs',
        'mtimeNs',
        'ctimeNs',
        'birthtimeNs',
      ].map((key) => [key, node[key as keyof typeof node]]),
    ),
  )
  // As makedev(3) puts a device together, for numbers below 256.
  expect(BigInt(status.deviceMajor * 256 + status.deviceMinor)).toBe(node.dev)
  expect(status.read(-1)).toBe(-EBADF)
  const space = new FileSystemStatus()
  expect(space.read(fd)).toBe(0)
  expect(space.availableBlocks).toBeLessThanOrEqual(space.freeBlocks)
  expect(space.freeBlocks).toBeLessThan(space.blocks)
  expect(space.blockSize).toBeGreaterThanOrEqual(512)
})

test('directories are read in parts, from anywhere on', () => {
  const { path, fd } = directory()
  const names = Array.from({ length: 300 }, (_, i) => `name-${i}`)
  for (const name of names) writeFileSync(join(path, name), '')
  const open = ownFd(reopenFd(fd, O_RDONLY | O_DIRECTORY))
  const entries = new DirectoryEntries(4096)
  const all: { name: string; low: number; high: number }[] = []
  while (entries.read(open, 1024) > 0) {
    while (entries.next()) {
      const { nameStart, nameLength, nextLow, nextHigh } = entries
      const name = Buffer.from(entries.buffer.subarray(nameStart, nameStart + nameLength)).toString()
      all.push({ name, low: nextLow, high: nextHigh })
    }
  }
  expect(all.map(({ name }) => name).sort()).toEqual(['.', '..', ...names].sort())
  const { low = 0, high = 0 } = all[150] ?? {}
  expect(seekDirectory(open, low, high)).toBe(0)
  expect(entries.read(open)).toBeGreaterThan(0)
  expect(entries.next()).toBe(true)
  const { nameStart, nameLength } = entries
  expect(Buffer.from(entries.buffer.subarray(nameStart, nameStart + nameLength)).toString()).toBe(
    all[151]?.name,
  )
  expect(entries.read(-1)).toBe(-EBADF)
})

test('ranges are copied, allocated and looked for', () => {
  const { path } = directory()
  writeFileSync(join(path, 'from'), '0123456789')
  const from = ownFd(openSync(join(path, 'from'), 'r'))
  const to = ownFd(openSync(join(path, 'to'), 'w+'))
  expect(copyRange({ fd: from, offset: 3 }, { fd: to, offset: 2 ** 33 }, 4)).toBe(4)
  expect(statSync(join(path, 'to')).size).toBe(2 ** 33 + 4)
  expect(seekRange(to, 0, SEEK_DATA)).toBe(2 ** 33)
  expect(truncateFd(to, 2)).toBe(0)
  expect(allocateRange(to, FALLOC_FL_KEEP_SIZE, 0, 65536)).toBe(0)
  const { size, blocks } = statSync(join(path, 'to'))
  expect([size, blocks >= 128]).toEqual([2, true])
  expect(truncateFd(from, 0)).toBeLessThan(0)
})
