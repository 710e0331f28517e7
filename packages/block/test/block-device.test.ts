/** Disks that are block devices, which cannot do all that files can. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import {
  DATA,
  DiskGuest,
  openIn,
  own,
  pattern,
  S_OK,
  SECTOR,
  skipWithoutMount,
  T_WRITE_ZEROES,
  temporaryDirectory,
  UNMAP,
  WAYS,
} from './support.ts'

const SECTORS = 64
const SIZE = SECTORS * SECTOR

/** A block device that has such content. It can be given sectors back as far as the file system of its backing file can. */
function loopDevice(directory: string, content: Uint8Array, sectorSize = SECTOR): string {
  const backing = join(directory, 'backing')
  writeFileSync(backing, content)
  const options = ['-b', `${sectorSize}`, '-f', '--show']
  const path = execFileSync('losetup', [...options, backing], { encoding: 'utf8' }).trim()
  own({ close: () => execFileSync('losetup', ['-d', path]) })
  return path
}

/** A directory of a file system that knows no holes. */
function withoutHoles(): string {
  const path = join(temporaryDirectory(), 'mount')
  mkdirSync(path)
  execFileSync('mount', ['-t', 'ramfs', 'ramfs', path])
  own({ close: () => execFileSync('umount', [path]) })
  return path
}

const skip = skipWithoutMount('a block device')

describe.skipIf(skip).each(WAYS.map((way) => [way.name, way] as const))(
  'a block device: %s',
  (_name, way) => {
    test.each([0, UNMAP])('is zeroed where it cannot be given anything back, flags %d', async (flags) => {
      const path = loopDevice(withoutHoles(), pattern(SIZE))
      const guest = new DiskGuest(openIn(way, path))
      expect((await guest.slowRequest(T_WRITE_ZEROES, 0, guest.range(8, 16, flags))).status).toBe(S_OK)
      const zeroed = pattern(SIZE).fill(0, 8 * SECTOR, 24 * SECTOR)
      expect((await guest.read(0, [{ address: DATA, length: SIZE }])).bytes.equals(zeroed)).toBe(true)
      expect(guest.failures).toEqual([])
    })

    // By O_DIRECT the guest is told of the blocks, and asks for whole ones.
    if (way.options.direct === true) return
    test('is zeroed in parts of its blocks', async () => {
      for (const flags of [0, UNMAP]) {
        const path = loopDevice(temporaryDirectory(), pattern(SIZE), 8 * SECTOR)
        const guest = new DiskGuest(openIn(way, path))
        expect((await guest.slowRequest(T_WRITE_ZEROES, 0, guest.range(3, 2, flags))).status).toBe(S_OK)
        const zeroed = pattern(SIZE).fill(0, 3 * SECTOR, 5 * SECTOR)
        expect((await guest.read(0, [{ address: DATA, length: SIZE }])).bytes.equals(zeroed)).toBe(true)
        expect(guest.failures).toEqual([])
      }
    })
  },
)
