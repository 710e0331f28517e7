/**
 * Writes snapshots: files of new names first, synced, then the manifest that names them, renamed over the old one. A host
 * that dies at any moment leaves the old snapshot or the new one.
 */
import { randomUUID } from 'node:crypto'
import { type FileHandle, mkdir, open, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { GuestMemory, GuestRegion } from '@vmm/vm-memory'
import { type PageRun, touchedRuns } from '@vmm/vm-memory/mmap'
import { SnapshotError } from './error.ts'
import { digest, formatManifest, MANIFEST_NAME } from './manifest.ts'

const PAGE_SIZE = 4096
/** Bytes to write at once: 1 MiB. */
const CHUNK_SIZE = 2 ** 20
const ZEROS = new Uint8Array(PAGE_SIZE)

/** What to save. It must not change until the snapshot is written. */
export interface SnapshotContent {
  /** Plain data that survives JSON. */
  readonly state: unknown
  readonly memory: GuestMemory
}

/**
 * Writes a snapshot into a folder, which is made where it is not there. One that is in the folder is replaced, in one step.
 * @throws SnapshotError ERR_SNAPSHOT_IO; the old snapshot is still there then
 */
export async function writeSnapshot(folder: string, { state, memory }: SnapshotContent): Promise<void> {
  const id = randomUUID()
  const names = { state: `state-${id}.json`, memory: `memory-${id}.bin` }
  try {
    await mkdir(folder, { recursive: true })
    const text = JSON.stringify(state)
    await writeSynced(join(folder, names.state), (file) => file.writeFile(text))
    await writeSynced(join(folder, names.memory), (file) => writeMemory(file, memory))
    const manifest = formatManifest({
      created: new Date().toISOString(),
      state: { file: names.state, size: Buffer.byteLength(text), sha256: digest(text) },
      memory: {
        file: names.memory,
        ranges: memory.regions.map(({ start, size }) => ({ start, size })),
      },
    })
    const temporary = join(folder, `${MANIFEST_NAME}.${id}`)
    await writeSynced(temporary, (file) => file.writeFile(manifest))
    await syncFolder(folder)
    await rename(temporary, join(folder, MANIFEST_NAME))
    await syncFolder(folder)
  } catch (cause) {
    await removeFiles(folder, (name) => name.includes(id)).catch(() => {})
    throw new SnapshotError(
      'ERR_SNAPSHOT_IO',
      `${folder}: the snapshot cannot be written: ${(cause as Error).message}`,
      cause,
    )
  }
  // Those of the one before, and of attempts that did not come to an end. Who has them mapped keeps them.
  await removeFiles(folder, (name) => FILE_NAME.test(name) && !name.includes(id)).catch(() => {})
}

/** What this writes beside the manifest. */
const FILE_NAME = /^(?:state-[0-9a-f-]{36}\.json|memory-[0-9a-f-]{36}\.bin|manifest\.json\.[0-9a-f-]{36})$/

async function writeSynced(path: string, write: (file: FileHandle) => Promise<void>): Promise<void> {
  // Readable by its owner alone: it has a guest's memory.
  const file = await open(path, 'wx', 0o600)
  try {
    await write(file)
    await file.sync()
  } finally {
    await file.close()
  }
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

async function removeFiles(folder: string, isMeant: (name: string) => boolean): Promise<void> {
  for (const name of await readdir(folder)) {
    if (isMeant(name)) await rm(join(folder, name), { force: true })
  }
}

/** Zeros become holes; the file has its full size. */
async function writeMemory(file: FileHandle, memory: GuestMemory): Promise<void> {
  let base = 0
  for (const region of memory.regions) {
    for (const run of runsOf(region)) await writeRun(file, region, run, base)
    base += region.size
  }
  await file.truncate(base)
}

/** Where there may be anything but zeros. */
function runsOf(region: GuestRegion): readonly PageRun[] {
  // Pages of a file may be in the file alone.
  const isAnonymous = region.hostAddress !== undefined && region.file === undefined
  return isAnonymous ? touchedRuns(region) : [{ offset: 0, size: region.size }]
}

async function writeRun(file: FileHandle, { bytes }: GuestRegion, run: PageRun, base: number): Promise<void> {
  const end = run.offset + run.size
  for (let at = run.offset; at < end; at += CHUNK_SIZE) {
    const stop = Math.min(at + CHUNK_SIZE, end)
    let from = at
    while (from < stop) {
      while (from < stop && isZero(bytes, from)) from += PAGE_SIZE
      let to = from
      while (to < stop && !isZero(bytes, to)) to += PAGE_SIZE
      if (to > from) await writeAll(file, bytes.subarray(from, to), base + from)
      from = to
    }
  }
}

async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done)
    done += bytesWritten
  }
}

function isZero(bytes: Uint8Array, offset: number): boolean {
  return Buffer.compare(bytes.subarray(offset, offset + PAGE_SIZE), ZEROS) === 0
}
