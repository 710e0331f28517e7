/**
 * A snapshot in a folder, open: checked as input from a stranger before anything of it is used.
 */
import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { MappedMemory } from '@vmm/vm-memory/mmap'
import { SnapshotError } from './error.ts'
import { digest, MANIFEST_NAME, type Manifest, parseManifest } from './manifest.ts'

/** The most that a manifest or a state can be long: no VM has more to tell. */
const TEXT_BYTES_MAX = 2 ** 28

/**
 * An open snapshot: it stays what it is, whatever becomes of the folder.
 *
 * @example
 * ```ts
 * const snapshot = Snapshot.open('snapshots/web')
 * const vm = await MicroVm.restore(stateFromJson(snapshot.state), snapshot.mapMemory(), { devices })
 * ```
 */
export class Snapshot {
  readonly manifest: Manifest
  /** The state as it was given to `writeSnapshot`. Its form is not checked, but that it is what was written. */
  readonly state: unknown
  readonly #memory: number
  #isClosed = false

  /** @throws SnapshotError */
  static open(folder: string): Snapshot {
    const manifest = parseManifest(readText(folder, MANIFEST_NAME, 'ERR_SNAPSHOT_MISSING'), folder)
    const text = readText(folder, manifest.state.file, 'ERR_SNAPSHOT_DAMAGED')
    if (digest(text) !== manifest.state.sha256) {
      throw new SnapshotError(
        'ERR_SNAPSHOT_DAMAGED',
        `${folder}: ${manifest.state.file} is not as it was written`,
      )
    }
    const state: unknown = JSON.parse(text)
    const { file, ranges } = manifest.memory
    const memory = openIn(folder, file, 'ERR_SNAPSHOT_DAMAGED')
    const size = ranges.reduce((sum, range) => sum + range.size, 0)
    const found = fstatSync(memory)
    if (!found.isFile() || found.size !== size) {
      closeSync(memory)
      throw new SnapshotError(
        'ERR_SNAPSHOT_DAMAGED',
        `${folder}: ${file} has ${found.size} bytes, and the manifest says ${size}`,
      )
    }
    return new Snapshot(manifest, state, memory)
  }

  private constructor(manifest: Manifest, state: unknown, memory: number) {
    this.manifest = manifest
    this.state = state
    this.#memory = memory
  }

  /**
   * Guest memory as it was, private to whoever has the mapping: pages are read when they are touched, and copied when they are
   * written. It takes no longer for more memory. As often as there are VMs to make.
   * @throws MemoryError, and SnapshotError ERR_SNAPSHOT_MISSING after {@link close}
   */
  mapMemory(): MappedMemory {
    if (this.#isClosed) throw new SnapshotError('ERR_SNAPSHOT_MISSING', 'the snapshot was closed')
    return MappedMemory.file(this.manifest.memory.ranges, { fd: this.#memory, shared: false })
  }

  /** Lets go of the files; what is mapped stays. Idempotent. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    closeSync(this.#memory)
  }

  [Symbol.dispose](): void {
    this.close()
  }
}

type OpenCode = 'ERR_SNAPSHOT_DAMAGED' | 'ERR_SNAPSHOT_MISSING'

/** Opens a file of the folder, and no other: no link is followed, and nobody is waited for at a FIFO. */
function openIn(folder: string, name: string, missing: OpenCode): number {
  try {
    return openSync(join(folder, name), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    const isMissing = code === 'ENOENT' || code === 'ENOTDIR' || code === 'ELOOP'
    const what = isMissing ? `there is no ${name}` : `${name} cannot be read: ${code}`
    throw new SnapshotError(isMissing ? missing : 'ERR_SNAPSHOT_IO', `${folder}: ${what}`, cause)
  }
}

function readText(folder: string, name: string, missing: OpenCode): string {
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
