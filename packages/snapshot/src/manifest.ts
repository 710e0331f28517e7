/**
 * The manifest of a snapshot: what a person reads first, and the one file whose replacement makes a snapshot the
 * current one. It names the files of that snapshot, so that those of another are never taken for them.
 */
import { createHash } from 'node:crypto'
import { SnapshotError } from './error.ts'
import { PAGE_SIZE, totalSize } from './runs.ts'

/** In the folder. */
export const MANIFEST_NAME = 'manifest.json'
const FORMAT = 'vmm-snapshot'
const VERSION = 1

/** The most layers that a snapshot has: one over these is a whole one again. */
export const LAYERS_MAX = 8
/** The most runs that a layer has. */
export const RUNS_MAX = 1024

/** A range of guest memory. */
export interface SnapshotRange {
  /** Guest address. */
  readonly start: number
  /** In bytes, whole pages. */
  readonly size: number
}

/** A file of JSON, with what shows that it is whole. */
export interface CheckedFile {
  /** In the folder. */
  readonly file: string
  /** In bytes. */
  readonly size: number
  /** In hexadecimal. */
  readonly sha256: string
}

/** Guest memory, or what of it is different from the layers before. */
export interface SnapshotLayer {
  /** In the folder. */
  readonly file: string
  /** In bytes. */
  readonly size: number
  /**
   * What the file has, one run after another: `[[position, size], …]` in bytes, the ranges of memory counted one after
   * another from 0. Of the first layer, which has everything, there is none.
   */
  readonly runs?: CheckedFile
}

/** What a snapshot consists of. */
export interface Manifest {
  /** That it is a manifest of this package. */
  readonly format: typeof FORMAT
  /** Of the format. */
  readonly version: typeof VERSION
  /** When it was taken, ISO 8601. */
  readonly created: string
  /** The state of the VM, JSON. */
  readonly state: CheckedFile
  /** Where guest memory is, of the guest and in the folder. */
  readonly memory: {
    /** In the order of the layers' bytes. */
    readonly ranges: readonly SnapshotRange[]
    /** The first has all of memory, and holes are zeros; each of the others is laid over those before. */
    readonly layers: readonly SnapshotLayer[]
  }
}

/** A manifest with its checksum, as text. */
export function formatManifest(manifest: Omit<Manifest, 'format' | 'version'>): string {
  const body = { format: FORMAT, version: VERSION, ...manifest }
  return `${JSON.stringify({ ...body, sha256: digest(JSON.stringify(body)) }, null, 2)}\n`
}

/** The names of all files but the manifest. */
export function fileNames({ state, memory }: Manifest): string[] {
  const layers = memory.layers.flatMap(({ file, runs }) => (runs === undefined ? [file] : [file, runs.file]))
  return [state.file, ...layers]
}

/** All of guest memory, in bytes. */
export function memorySize({ memory }: Manifest): number {
  return totalSize(memory.ranges)
}

/** Above what any x86-64 CPU addresses. */
const ADDRESS_MAX = 2 ** 52

/**
 * Reads a manifest, as if from an enemy: nothing of it is more than a name in the same folder or a number.
 * @param where for messages
 * @throws SnapshotError
 */
export function parseManifest(text: string, where: string): Manifest {
  const damaged = (what: string) => new SnapshotError('ERR_SNAPSHOT_DAMAGED', `${where}: ${what}`)
  let json: Record<string, unknown>
  try {
    json = JSON.parse(text)
  } catch {
    throw damaged('the manifest is no JSON')
  }
  if (typeof json !== 'object' || json === null || json['format'] !== FORMAT) {
    throw damaged('the manifest is not one of a snapshot')
  }
  if (json['version'] !== VERSION) {
    throw new SnapshotError(
      'ERR_SNAPSHOT_VERSION',
      `${where}: version ${JSON.stringify(json['version'])} of the format is not known, ${VERSION} is`,
    )
  }
  const { sha256, ...body } = json
  if (sha256 !== digest(JSON.stringify(body))) throw damaged('the manifest is not as it was written')
  const manifest = body as unknown as Manifest
  const { state, memory } = manifest
  const isWhole =
    isCheckedFile(state) &&
    isList(memory?.ranges) &&
    memory.ranges.every(isRange) &&
    isList(memory.layers) &&
    memory.layers.length <= LAYERS_MAX &&
    memory.layers.every(isLayer)
  if (!isWhole) throw damaged('the manifest names no files and ranges')
  if (memory.layers[0]?.size !== memorySize(manifest)) {
    throw damaged('the manifest has a first layer that is not as long as memory')
  }
  return manifest
}

function isList(value: unknown): value is unknown[] {
  return Array.isArray(value) && value.length > 0
}

function isFileName(name: unknown): name is string {
  return typeof name === 'string' && /^[a-z]+-[0-9a-f-]+\.(json|bin)$/.test(name)
}

function isSize(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0
}

function isCheckedFile(value: unknown): boolean {
  const { file, size } = (value ?? {}) as Partial<CheckedFile>
  return isFileName(file) && isSize(size)
}

function isLayer(value: unknown, index: number): boolean {
  const { file, size, runs } = (value ?? {}) as Partial<SnapshotLayer>
  return isFileName(file) && isSize(size) && (index === 0 ? runs === undefined : isCheckedFile(runs))
}

function isRange(range: unknown): boolean {
  const { start, size } = (range ?? {}) as Partial<SnapshotRange>
  return (
    isSize(start) &&
    isSize(size) &&
    size > 0 &&
    start % PAGE_SIZE === 0 &&
    size % PAGE_SIZE === 0 &&
    start + size <= ADDRESS_MAX
  )
}

/** The SHA-256 of a text or bytes, in hexadecimal. */
export function digest(content: string | Uint8Array): string {
  return createHash('sha256').update(content).digest('hex')
}
