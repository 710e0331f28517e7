/**
 * Writes snapshots: files of new names first, synced, then the manifest that names them, renamed over the old one. A host
 * that dies at any moment leaves the old snapshot or the new one.
 */
import { randomUUID } from 'node:crypto'
import { type FileHandle, mkdir, open, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { GuestMemory } from '@vmm/vm-memory'
import { baseLayers } from './base.ts'
import { SnapshotError } from './error.ts'
import {
  digest,
  fileNames,
  formatManifest,
  MANIFEST_NAME,
  type Manifest,
  RUNS_MAX,
  type SnapshotLayer,
} from './manifest.ts'
import { changedRuns, possibleRuns, writePacked, writeSparse } from './memory.ts'
import { joinNearest, totalSize } from './runs.ts'

/** What to save. */
export interface SnapshotContent {
  /** Plain data that survives JSON. */
  readonly state: unknown
  /** It must not change until {@link copied} is called, or else until the snapshot is written. */
  readonly memory: GuestMemory
  /**
   * Whether to write just what is different from the snapshot that memory was mapped from (`Snapshot.mapMemory`) or rebased to
   * (`Snapshot.rebase`): the files of that one become files of this one, by hard links. A whole snapshot is written where there is
   * none, where its files have gone or are on another file system, and after eight layers. Default false.
   */
  readonly differential?: boolean | undefined
  /** Called when state and memory have been read: the VM can go on while the files get to the disk. Default nobody is told. */
  readonly copied?: (() => void) | undefined
}

/** What was written. */
export interface WrittenSnapshot {
  /** All of memory, or what is different from the snapshot before. */
  readonly kind: 'full' | 'differential'
  /** Bytes of guest memory that were written. */
  readonly memoryBytes: number
}

/**
 * Writes a snapshot into a folder, which is made where it is not there. One that is in the folder is replaced, in one step.
 * @throws SnapshotError ERR_SNAPSHOT_IO; the old snapshot is still there then, and nothing of the new one, unless that could not be
 *   synced when it had taken the old one's place
 */
export async function writeSnapshot(folder: string, content: SnapshotContent): Promise<WrittenSnapshot> {
  const id = randomUUID()
  const files: FileHandle[] = []
  /** What is in the folder for this snapshot alone. */
  const added = new Set<string>()
  let isCurrent = false
  const create = async (name: string): Promise<FileHandle> => {
    // Readable by its owner alone: it has a guest's memory.
    const handle = await open(join(folder, name), 'wx', 0o600)
    added.add(name)
    files.push(handle)
    return handle
  }
  const writeText = async (name: string, text: string) => {
    await (await create(name)).writeFile(text)
    return { file: name, size: Buffer.byteLength(text), sha256: digest(text) }
  }
  const { memory } = content
  try {
    await mkdir(folder, { recursive: true })
    const state = await writeText(`state-${id}.json`, JSON.stringify(content.state))
    const below = content.differential ? await baseLayers(folder, memory, added) : []
    const written = await (below.length > 0 ? writeChanges() : writeWhole())
    content.copied?.()
    const manifest: Omit<Manifest, 'format' | 'version'> = {
      created: new Date().toISOString(),
      state,
      memory: {
        ranges: memory.regions.map(({ start, size }) => ({ start, size })),
        layers: [...below, written.layer],
      },
    }
    const name = `${MANIFEST_NAME}.${id}`
    await writeText(name, formatManifest(manifest))
    for (const file of files) await file.sync()
    // Late: a page that cannot be had is told to this thread in a later turn.
    for (const region of memory.regions) throwIf(region.failure?.())
    const entries = await open(folder, 'r')
    files.push(entries)
    await entries.sync()
    await rename(join(folder, name), join(folder, MANIFEST_NAME))
    isCurrent = true
    await entries.sync()
    // The last descriptors, perhaps: to look at the folder takes one.
    await closeAll(files)
    // Those of the one before, and of attempts that did not come to an end. Who has them mapped keeps them.
    const named = new Set(fileNames(manifest as Manifest))
    const found = await readdir(folder).catch(() => [])
    await removeFiles(
      folder,
      found.filter((file) => FILE_NAME.test(file) && !named.has(file)),
    )
    return { kind: below.length > 0 ? 'differential' : 'full', memoryBytes: written.bytes }
  } catch (cause) {
    // The disk may have either manifest if the host dies now: the files of both stay.
    if (!isCurrent) await removeFiles(folder, added)
    throw new SnapshotError(
      'ERR_SNAPSHOT_IO',
      `${folder}: the snapshot cannot be written: ${(cause as Error).message}`,
      cause,
    )
  } finally {
    // What is to be on the disk has been synced.
    await closeAll(files)
  }

  async function writeWhole(): Promise<{ layer: SnapshotLayer; bytes: number }> {
    const name = `memory-${id}.bin`
    const bytes = await writeSparse(await create(name), memory, possibleRuns(memory))
    return { layer: { file: name, size: totalSize(memory.regions) }, bytes }
  }

  async function writeChanges(): Promise<{ layer: SnapshotLayer; bytes: number }> {
    const runs = joinNearest(changedRuns(memory), RUNS_MAX)
    const table = JSON.stringify(runs.map(({ position, size }) => [position, size]))
    const checked = await writeText(`runs-${id}.json`, table)
    const name = `pages-${id}.bin`
    await writePacked(await create(name), memory, runs)
    const bytes = totalSize(runs)
    return { layer: { file: name, size: bytes, runs: checked }, bytes }
  }
}

/** What this writes beside the manifest. */
const FILE_NAME =
  /^(?:(?:state|runs)-[0-9a-f-]{36}\.json|(?:memory|pages)-[0-9a-f-]{36}\.bin|manifest\.json\.[0-9a-f-]{36})$/

function throwIf(failure: Error | undefined): void {
  if (failure !== undefined) throw failure
}

/** Whatever one of them fails with, and no more than once. */
async function closeAll(files: FileHandle[]): Promise<void> {
  await Promise.allSettled(files.splice(0).map((file) => file.close()))
}

/** What cannot be removed stays. */
async function removeFiles(folder: string, names: Iterable<string>): Promise<void> {
  for (const name of names) await rm(join(folder, name), { force: true }).catch(() => {})
}
