/**
 * The folder of a snapshot, and the files in it as input from a stranger.
 */
import { closeSync, constants, fstatSync, openSync, readFileSync, type Stats } from 'node:fs'
import { join } from 'node:path'
import { SnapshotError } from './error.ts'
import { type CheckedFile, digest } from './manifest.ts'

/** The most that a manifest, a state or a table of runs can be long: no VM has more to tell. */
const TEXT_BYTES_MAX = 2 ** 28

/** What it is when a file is not there. */
export type MissingCode = 'ERR_SNAPSHOT_DAMAGED' | 'ERR_SNAPSHOT_MISSING'

/**
 * Opens a file of the folder, and no other: no link is followed, and nobody is waited for at a FIFO.
 * @throws SnapshotError
 */
export function openIn(folder: string, name: string, missing: MissingCode): number {
  try {
    return openSync(join(folder, name), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    const isMissing = code === 'ENOENT' || code === 'ENOTDIR' || code === 'ELOOP'
    const soWhat = missing === 'ERR_SNAPSHOT_MISSING' ? ', and so no snapshot' : ''
    const what = isMissing ? `there is no ${name}${soWhat}` : `${name} cannot be read: ${code}`
    throw new SnapshotError(isMissing ? missing : 'ERR_SNAPSHOT_IO', `${folder}: ${what}`, cause)
  }
}

/** Reads a file of text. @throws SnapshotError */
export function readText(folder: string, name: string, missing: MissingCode): string {
  const fd = openIn(folder, name, missing)
  try {
    const found = fstatSync(fd)
    if (!found.isFile() || found.size > TEXT_BYTES_MAX) {
      throw new SnapshotError('ERR_SNAPSHOT_DAMAGED', `${folder}: ${name} is no file of a snapshot`)
    }
    return readFileSync(fd, 'utf8')
  } catch (cause) {
    if (cause instanceof SnapshotError) throw cause
    throw new SnapshotError('ERR_SNAPSHOT_IO', `${folder}: ${name} cannot be read`, cause)
  } finally {
    closeSync(fd)
  }
}

/** Reads JSON that must be what was written. @throws SnapshotError */
export function readChecked(folder: string, { file, sha256 }: CheckedFile): unknown {
  const text = readText(folder, file, 'ERR_SNAPSHOT_DAMAGED')
  if (digest(text) === sha256) return JSON.parse(text)
  throw new SnapshotError('ERR_SNAPSHOT_DAMAGED', `${folder}: ${file} is not as it was written`)
}

/** A file, whatever it is called. */
export interface Identity {
  readonly dev: number
  readonly ino: number
}

/** Opens a file that must have a size. @throws SnapshotError */
export function openSized(folder: string, name: string, size: number): { fd: number; identity: Identity } {
  const fd = openIn(folder, name, 'ERR_SNAPSHOT_DAMAGED')
  let found: Stats | undefined
  try {
    found = fstatSync(fd)
    if (found.isFile() && found.size === size) return { fd, identity: { dev: found.dev, ino: found.ino } }
  } catch (cause) {
    closeSync(fd)
    throw new SnapshotError('ERR_SNAPSHOT_IO', `${folder}: ${name} cannot be read`, cause)
  }
  closeSync(fd)
  throw new SnapshotError(
    'ERR_SNAPSHOT_DAMAGED',
    `${folder}: ${name} has ${found.size} bytes, and the manifest says ${size}`,
  )
}
