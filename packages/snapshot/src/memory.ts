/**
 * Guest memory into files: what of it has to be looked at, and how it is written.
 */
import { closeSync, fstatSync } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { seekData, seekHole } from '@vmm/sys-util'
import type { GuestMemory, GuestRegion } from '@vmm/vm-memory'
import { type PageRun, privateRuns, touchedRuns } from '@vmm/vm-memory/mmap'
import { openIn } from './folder.ts'
import { type Origin, originOf } from './origin.ts'
import { PAGE_SIZE, type Run, totalSize, union } from './runs.ts'

/** Bytes to write at once: 1 MiB. */
const CHUNK_SIZE = 2 ** 20
const ZEROS = new Uint8Array(PAGE_SIZE)

/** What was written since memory was mapped from its snapshot. */
export function changedRuns(memory: GuestMemory): Run[] {
  return runsOf(memory, privateRuns)
}

/** Where there may be anything but zeros. */
export function possibleRuns(memory: GuestMemory): Run[] {
  const origin = originOf(memory)
  if (origin !== undefined) return union(changedRuns(memory), savedRuns(origin))
  return runsOf(memory, (region) => {
    // Pages of a file may be in the file alone, those on demand anywhere, and those of plain memory are nowhere to be asked for.
    const isAnonymous = region.hostAddress !== undefined && region.file === undefined && !region.onDemand
    return isAnonymous ? touchedRuns(region) : [{ offset: 0, size: region.size }]
  })
}

function runsOf(memory: GuestMemory, find: (region: GuestRegion) => readonly PageRun[]): Run[] {
  const runs: Run[] = []
  let base = 0
  for (const region of memory.regions) {
    for (const { offset, size } of find(region)) runs.push({ position: base + offset, size })
    base += region.size
  }
  return union(runs, [])
}

/** What the files that memory is mapped from have. */
function savedRuns({ folder, manifest, segments, identities }: Origin): Run[] {
  const everything = segments.map(({ position, size }) => ({ position, size }))
  const name = manifest.memory.layers[0]?.file ?? ''
  let fd: number
  try {
    fd = openIn(folder, name, 'ERR_SNAPSHOT_DAMAGED')
  } catch {
    return everything
  }
  try {
    const { dev, ino } = fstatSync(fd)
    if (dev !== identities[0]?.dev || ino !== identities[0].ino) return everything
    const upper = segments.filter(({ layer }) => layer > 0)
    return union(dataRuns(fd), upper)
  } finally {
    closeSync(fd)
  }
}

/** The whole pages of a file that are no holes. */
function dataRuns(fd: number): Run[] {
  const runs: Run[] = []
  for (let at = seekData(fd, 0); at !== undefined; ) {
    const hole = seekHole(fd, at) ?? at
    const position = Math.floor(at / PAGE_SIZE) * PAGE_SIZE
    const end = Math.ceil(hole / PAGE_SIZE) * PAGE_SIZE
    if (end > position) runs.push({ position, size: end - position })
    at = hole > at ? seekData(fd, hole) : undefined
  }
  return runs
}

/**
 * Writes runs to their places; zeros become holes, and the file has its full size.
 * @returns bytes that were written
 */
export async function writeSparse(
  file: FileHandle,
  memory: GuestMemory,
  runs: readonly Run[],
): Promise<number> {
  let written = 0
  await eachChunk(memory, runs, async (bytes, position) => {
    for (let from = 0; from < bytes.length; ) {
      while (from < bytes.length && isZero(bytes, from)) from += PAGE_SIZE
      let to = from
      while (to < bytes.length && !isZero(bytes, to)) to += PAGE_SIZE
      if (to > from) await writeAll(file, bytes.subarray(from, to), position + from)
      written += to - from
      from = to
    }
  })
  await file.truncate(totalSize(memory.regions))
  return written
}

/** Writes runs one after another. */
export async function writePacked(
  file: FileHandle,
  memory: GuestMemory,
  runs: readonly Run[],
): Promise<void> {
  let at = 0
  await eachChunk(memory, runs, async (bytes) => {
    await writeAll(file, bytes, at)
    at += bytes.length
  })
}

/** @param runs in order */
async function eachChunk(
  memory: GuestMemory,
  runs: readonly Run[],
  write: (bytes: Uint8Array, position: number) => Promise<void>,
): Promise<void> {
  let base = 0
  for (const { bytes, size } of memory.regions) {
    for (const run of runs) {
      const end = Math.min(run.position + run.size, base + size)
      for (let at = Math.max(run.position, base); at < end; at += CHUNK_SIZE) {
        const chunk = bytes.subarray(at - base, Math.min(at + CHUNK_SIZE, end) - base)
        await write(chunk, at)
      }
    }
    base += size
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
