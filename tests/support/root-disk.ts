/**
 * An ext4 disk that Linux boots from: what programs.cpio has, in an image file.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { guestFile } from './example-vmm.ts'

/** For the kernel's command line. The init of the test guest is not where distributions have it. */
export const ROOT_DISK_WORDS: readonly string[] = ['root=/dev/vda', 'rw', 'init=/init']

const SIZE = '24m'
/** mke2fs has no journal this small by itself: what fsck replays. */
const JOURNAL = 'size=4'

/**
 * Makes the image.
 * @param path where there is none yet; a folder of that name with `.tree` behind is made and removed
 */
export function makeRootDisk(path: string): void {
  const tree = `${path}.tree`
  mkdirSync(tree)
  try {
    execFileSync('cpio', ['--extract', '--quiet', '--file', guestFile('programs.cpio')], {
      cwd: tree,
      stdio: 'ignore',
    })
    execFileSync('mke2fs', ['-q', '-t', 'ext4', '-J', JOURNAL, '-d', tree, join(path), SIZE])
  } finally {
    rmSync(tree, { recursive: true })
  }
}

/** A file of the image, as the host reads it; the image must not be in use. */
export function readFromDisk(image: string, path: string): Buffer {
  return execFileSync('debugfs', ['-R', `cat ${path}`, image], {
    stdio: ['ignore', 'pipe', 'ignore'],
    maxBuffer: 2 ** 26,
  })
}
