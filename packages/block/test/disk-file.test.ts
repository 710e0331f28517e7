import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, readdirSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { runInChild } from '../../sys-util/test/child.ts'
import { BlockError, DiskFile, type DiskFileOptions, openDisk } from '../src/index.ts'
import { diskFile, own, SECTOR, skipWithoutMount, smallFileSystem, temporaryDirectory } from './support.ts'

const NOBODY = 65534

/** What opening a disk ends in. */
function refusal(path: string, options: DiskFileOptions = {}): BlockError {
  try {
    own(openDisk(path, options))
  } catch (error) {
    expect(error).toBeInstanceOf(BlockError)
    const refused = error as BlockError
    expect(refused.path).toBe(path)
    expect(refused.message.startsWith(`disk ${path} `)).toBe(true)
    expect(refused.message).not.toContain('\n')
    return refused
  }
  throw new Error(`${path} was opened`)
}

function openFds(): number {
  return readdirSync('/proc/self/fd').length
}

test('a file of whole sectors is a disk', () => {
  const path = diskFile(3 * SECTOR)
  const disk = own(openDisk(path))
  expect(disk).toMatchObject({ path, size: 3 * SECTOR, readOnly: false, closed: false })
  const file = own(new DiskFile(diskFile(SECTOR), { readOnly: true }))
  expect(file).toMatchObject({ size: SECTOR, readOnly: true, canDiscard: false })
})

test('looking whether holes can be made changes nothing', () => {
  const path = diskFile(Uint8Array.from({ length: SECTOR }, () => 7))
  own(openDisk(path))
  expect(execFileSync('sha256sum', [path], { encoding: 'utf8' }).slice(0, 64)).toBe(
    execFileSync('sha256sum', [diskFile(new Uint8Array(SECTOR).fill(7))], { encoding: 'utf8' }).slice(0, 64),
  )
})

test('symbolic links are followed', () => {
  const path = diskFile(SECTOR)
  const link = join(dirname(path), 'link')
  symlinkSync(path, link)
  expect(own(openDisk(link)).size).toBe(SECTOR)
  expect(refusal(path).code).toBe('ERR_BLOCK_LOCKED')
})

describe('one sentence says what is wrong with', () => {
  const before = openFds()

  test('a file that is not there, nor where its link points', () => {
    const directory = temporaryDirectory()
    const path = join(directory, 'none.img')
    const error = refusal(path)
    expect([error.code, error.message]).toEqual(['ERR_BLOCK_MISSING', `disk ${path} does not exist`])
    const link = join(directory, 'link')
    symlinkSync(path, link)
    expect(refusal(link).code).toBe('ERR_BLOCK_MISSING')
    expect(refusal(join(diskFile(SECTOR), 'below')).code).toBe('ERR_BLOCK_MISSING')
  })

  test('a directory', () => {
    const path = temporaryDirectory()
    const error = refusal(path, { readOnly: true })
    expect([error.code, error.message]).toEqual(['ERR_BLOCK_DIRECTORY', `disk ${path} is a directory`])
    expect(refusal(path).code).toBe('ERR_BLOCK_DIRECTORY')
  })

  test('a character device, and a pipe that nobody writes to', () => {
    const message = 'disk /dev/null is neither a regular file nor a block device'
    expect(refusal('/dev/null')).toMatchObject({ code: 'ERR_BLOCK_TYPE', message })
    const path = join(temporaryDirectory(), 'pipe')
    execFileSync('mkfifo', [path])
    expect(refusal(path, { readOnly: true }).code).toBe('ERR_BLOCK_TYPE')
  })

  test('an empty file', () => {
    const path = diskFile(0)
    expect(refusal(path)).toMatchObject({
      code: 'ERR_BLOCK_EMPTY',
      message: `disk ${path} is empty`,
      size: 0,
    })
  })

  test('a file with a part of a sector', () => {
    const path = diskFile(2 * SECTOR + 1)
    const message = `disk ${path} has 1025 bytes, which is no multiple of 512`
    expect(refusal(path)).toMatchObject({ code: 'ERR_BLOCK_SIZE', message, size: 1025 })
  })

  test('a path that is none', () => {
    const loop = join(temporaryDirectory(), 'loop')
    symlinkSync(loop, loop)
    expect(refusal(loop)).toMatchObject({ code: 'ERR_BLOCK_OPEN', cause: { code: 'ELOOP' } })
    expect(refusal('with\0zero').code).toBe('ERR_BLOCK_OPEN')
    expect(refusal('').code).toBe('ERR_BLOCK_MISSING')
  })

  test.skipIf(skipWithoutMount('a disk on a file system that is read-only'))(
    'a file that can only be read here',
    () => {
      const directory = smallFileSystem(0x1_0000)
      const path = join(directory, 'disk.img')
      writeFileSync(path, new Uint8Array(SECTOR))
      execFileSync('mount', ['-o', 'remount,ro', directory])
      const message = `disk ${path} cannot be written on this host (EROFS): attach it as read-only`
      expect(refusal(path)).toMatchObject({ code: 'ERR_BLOCK_READ_ONLY', message })
      expect(own(openDisk(path, { readOnly: true })).readOnly).toBe(true)
    },
  )

  test('a file without the permissions', () => {
    const path = diskFile(SECTOR)
    chmodSync(dirname(path), 0o755)
    // Root has all permissions.
    const root = process.geteuid?.() === 0
    chmodSync(path, 0o444)
    if (root) process.seteuid?.(NOBODY)
    try {
      expect(refusal(path)).toMatchObject({ code: 'ERR_BLOCK_READ_ONLY', cause: { code: 'EACCES' } })
      own(openDisk(path, { readOnly: true })).close()
      if (root) process.seteuid?.(0)
      chmodSync(path, 0)
      if (root) process.seteuid?.(NOBODY)
      for (const readOnly of [false, true]) {
        const message = `disk ${path} cannot be opened: EACCES`
        expect(refusal(path, { readOnly })).toMatchObject({ code: 'ERR_BLOCK_OPEN', message })
      }
    } finally {
      if (root) process.seteuid?.(0)
    }
  })

  test('and none of them is left open', () => {
    expect(openFds()).toBe(before)
  })
})

describe('a disk that is open for writing', () => {
  test('is refused to everybody else in this process', () => {
    const path = diskFile(SECTOR)
    const disk = own(openDisk(path))
    const message = `disk ${path} is in use: another VM has locked it`
    expect(refusal(path)).toMatchObject({ code: 'ERR_BLOCK_LOCKED', message })
    expect(refusal(path, { readOnly: true }).code).toBe('ERR_BLOCK_LOCKED')
    disk.close()
    own(openDisk(path)).close()
  })

  test('is locked for other processes', () => {
    const path = diskFile(SECTOR)
    const lock = `console.log(lockFile(openPath(${JSON.stringify(path)}, 2), false))`
    const disk = own(openDisk(path))
    expect(runInChild(lock)).toBe('false\n')
    disk.close()
    expect(runInChild(lock)).toBe('true\n')
  })

  test('is opened again where no lock is wanted', () => {
    const path = diskFile(SECTOR)
    own(openDisk(path))
    expect(own(openDisk(path, { lock: false })).size).toBe(SECTOR)
  })
})

test('readers share a disk, and keep writers out', () => {
  const path = diskFile(SECTOR)
  const readers = [0, 1].map(() => own(openDisk(path, { readOnly: true })))
  expect(refusal(path).code).toBe('ERR_BLOCK_LOCKED')
  for (const reader of readers) reader.close()
  own(openDisk(path))
})

test('closing twice closes once', () => {
  const disk = openDisk(diskFile(SECTOR))
  disk.close()
  const other = own(new DiskFile(diskFile(SECTOR)))
  disk.close()
  disk[Symbol.dispose]()
  expect(disk.closed).toBe(true)
  expect([other.closed, other.fd >= 0]).toEqual([false, true])
  expect(() => readdirSync(`/proc/self/fd/${other.fd}`)).toThrow(expect.objectContaining({ code: 'ENOTDIR' }))
  other[Symbol.dispose]()
  expect([other.closed, other.fd]).toEqual([true, -1])
})

function loopDevice(bytes: number): string {
  const directory = temporaryDirectory()
  const backing = join(directory, 'backing')
  mkdirSync(directory, { recursive: true })
  writeFileSync(backing, '')
  truncateSync(backing, bytes)
  const path = execFileSync('losetup', ['-f', '--show', backing], { encoding: 'utf8' }).trim()
  own({ close: () => execFileSync('losetup', ['-d', path]) })
  return path
}

test.skipIf(skipWithoutMount('a block device'))('a block device has the size that it says', () => {
  const path = loopDevice(2 ** 20)
  const disk = own(openDisk(path))
  expect([disk.size, disk.canDiscard]).toEqual([2 ** 20, false])
  expect(refusal(path).code).toBe('ERR_BLOCK_LOCKED')
})
