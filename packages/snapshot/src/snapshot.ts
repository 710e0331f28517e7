/**
 * A snapshot in a folder, open: checked as input from a stranger before anything of it is used.
 */
import { closeSync } from 'node:fs'
import { resolve } from 'node:path'
import { MappedMemory } from '@vmm/vm-memory/mmap'
import { SnapshotError } from './error.ts'
import { type Identity, openSized, readChecked, readText } from './folder.ts'
import { MANIFEST_NAME, type Manifest, memorySize, parseManifest, RUNS_MAX } from './manifest.ts'
import { clearOrigin, type Origin, setOrigin } from './origin.ts'
import { PAGE_SIZE, type Run, type Segment, totalSize, visibleSegments } from './runs.ts'

/** How often a folder is looked at whose snapshot is replaced under way. */
const ATTEMPTS = 4

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
  /** Which files there are, when it was taken, and where memory was. */
  readonly manifest: Manifest
  /** The state as it was given to `writeSnapshot`. Its form is not checked, but that it is what was written. */
  readonly state: unknown
  /** Of each layer. */
  readonly #files: readonly number[]
  readonly #origin: Origin
  #isClosed = false

  /**
   * Opens the snapshot of a folder, and checks all of it but the bytes of guest memory.
   * @throws SnapshotError ERR_SNAPSHOT_MISSING, ERR_SNAPSHOT_DAMAGED, ERR_SNAPSHOT_VERSION, ERR_SNAPSHOT_IO
   */
  static open(folder: string): Snapshot {
    let text = readText(folder, MANIFEST_NAME, 'ERR_SNAPSHOT_MISSING')
    for (let attempt = 1; ; attempt++) {
      try {
        return Snapshot.#open(folder, parseManifest(text, folder))
      } catch (error) {
        // Another may have taken its place, and its files with it.
        const now = readText(folder, MANIFEST_NAME, 'ERR_SNAPSHOT_MISSING')
        if (now === text || attempt === ATTEMPTS) throw error
        text = now
      }
    }
  }

  static #open(folder: string, manifest: Manifest): Snapshot {
    const state = readChecked(folder, manifest.state)
    const { layers } = manifest.memory
    const size = memorySize(manifest)
    const upper = layers.flatMap(({ runs, size: fileSize }) => {
      if (runs === undefined) return []
      return [parseRuns(readChecked(folder, runs), { size, fileSize, where: `${folder}: ${runs.file}` })]
    })
    const files: number[] = []
    const identities: Identity[] = []
    try {
      for (const layer of layers) {
        const { fd, identity } = openSized(folder, layer.file, layer.size)
        files.push(fd)
        identities.push(identity)
      }
    } catch (error) {
      for (const fd of files) closeSync(fd)
      throw error
    }
    const segments = visibleSegments(size, upper)
    return new Snapshot(state, files, { folder: resolve(folder), manifest, segments, identities })
  }

  private constructor(state: unknown, files: readonly number[], origin: Origin) {
    this.manifest = origin.manifest
    this.state = state
    this.#files = files
    this.#origin = origin
  }

  /**
   * Guest memory as it was, private to whoever has the mapping: pages are read when they are touched, and copied when they are
   * written. It takes no longer for more memory. As often as there are VMs to make.
   * @throws MemoryError, and SnapshotError ERR_SNAPSHOT_MISSING after {@link close}
   */
  mapMemory(): MappedMemory {
    const { ranges } = this.manifest.memory
    const mapped = MappedMemory.file(ranges, { fd: this.#file(0), shared: false })
    try {
      for (const segment of this.#origin.segments) if (segment.layer > 0) this.#lay(segment, mapped)
    } catch (error) {
      mapped.close()
      throw error
    }
    setOrigin(mapped.memory, this.#origin)
    return mapped
  }

  /**
   * Has memory that is as it is in this snapshot be mapped from it: the memory of a VM that is paused since the snapshot was
   * written. What it took from the host goes back, as far as it is not written again, and the next snapshot of it can be
   * differential to this one.
   * @throws MemoryError, and SnapshotError ERR_SNAPSHOT_MISSING after {@link close}, ERR_SNAPSHOT_MEMORY for memory of other ranges;
   *   what is in memory is the same then, and the next snapshot of it is a whole one
   */
  rebase(mapped: MappedMemory): void {
    if (!mapped.memory.isMadeOf(this.manifest.memory.ranges)) {
      const message = `${this.#origin.folder}: the memory is not where the snapshot has it`
      throw new SnapshotError('ERR_SNAPSHOT_MEMORY', message)
    }
    clearOrigin(mapped.memory)
    for (const segment of this.#origin.segments) this.#lay(segment, mapped)
    setOrigin(mapped.memory, this.#origin)
  }

  /** Lets go of the files; what is mapped stays. Idempotent. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    for (const fd of this.#files) closeSync(fd)
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #file(layer: number): number {
    const fd = this.#files[layer]
    if (!this.#isClosed && fd !== undefined) return fd
    throw new SnapshotError('ERR_SNAPSHOT_MISSING', `${this.#origin.folder}: the snapshot was closed`)
  }

  #lay({ position, size, layer, offset }: Segment, mapped: MappedMemory): void {
    const fd = this.#file(layer)
    let base = 0
    for (const range of this.manifest.memory.ranges) {
      const from = Math.max(position, base)
      const to = Math.min(position + size, base + range.size)
      if (from < to) {
        mapped.overlay(range.start + from - base, to - from, { fd, offset: offset + from - position })
      }
      base += range.size
    }
  }
}

/** @throws SnapshotError ERR_SNAPSHOT_DAMAGED for what is no table of runs in memory of a size */
function parseRuns(
  json: unknown,
  { size, fileSize, where }: { size: number; fileSize: number; where: string },
): Run[] {
  const pairs = Array.isArray(json) && json.length <= RUNS_MAX ? (json as unknown[]) : undefined
  let end = 0
  const runs = pairs?.map((pair): Run | undefined => {
    const [position, length] = Array.isArray(pair) ? (pair as unknown[]) : []
    if (!isPages(position) || !isPages(length) || length === 0) return undefined
    if (position < end || position + length > size) return undefined
    end = position + length
    return { position, size: length }
  })
  if (runs?.every((run) => run !== undefined) && totalSize(runs) === fileSize) return runs
  throw new SnapshotError('ERR_SNAPSHOT_DAMAGED', `${where} does not say what the file beside it has`)
}

function isPages(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0 && Number(value) % PAGE_SIZE === 0
}
