/**
 * The manifest of a snapshot: what a person reads first, and the one file whose replacement makes a snapshot the
 * current one. It names the files of that snapshot, so that those of another are never taken for them.
 */
import { createHash } from 'node:crypto'
import { SnapshotError } from './error.ts'

/** In the folder. */
export const MANIFEST_NAME = 'manifest.json'
const FORMAT = 'vmm-snapshot'
const VERSION = 1

/** A range of guest memory. */
export interface SnapshotRange {
  /** Guest address. */
  readonly start: number
  /** In bytes, whole pages. */
  readonly size: number
}

/** What a snapshot consists of. */
export interface Manifest {
  readonly format: typeof FORMAT
  readonly version: typeof VERSION
  /** When it was taken, ISO 8601. */
  readonly created: string
  /** The state of the VM, JSON. */
  readonly state: {
    /** In the folder. */
    readonly file: string
    /** In bytes. */
    readonly size: number
    /** In hexadecimal. */
    readonly sha256: string
  }
  /** Guest memory, one range after another; holes are zeros. */
  readonly memory: {
    /** In the folder. */
    readonly file: string
    readonly ranges: readonly SnapshotRange[]
  }
}

/** A manifest with its checksum, as text. */
export function formatManifest(manifest: Omit<Manifest, 'format' | 'version'>): string {
  const body = { format: FORMAT, version: VERSION, ...manifest }
  return `${JSON.stringify({ ...body, sha256: digest(JSON.stringify(body)) }, null, 2)}\n`
}

const PAGE_SIZE = 4096
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
    isFileName(state?.file) &&
    isFileName(memory?.file) &&
    Array.isArray(memory.ranges) &&
    memory.ranges.length > 0 &&
    memory.ranges.every(isRange)
  if (!isWhole) throw damaged('the manifest names no files and ranges')
  return manifest
}

function isFileName(name: unknown): name is string {
  return typeof name === 'string' && /^[a-z]+-[0-9a-f-]+\.(json|bin)$/.test(name)
}

function isRange(range: unknown): boolean {
  const { start, size } = (range ?? {}) as Partial<SnapshotRange>
  return (
    Number.isSafeInteger(start) &&
    Number.isSafeInteger(size) &&
    Number(start) >= 0 &&
    Number(size) > 0 &&
    Number(start) % PAGE_SIZE === 0 &&
    Number(size) % PAGE_SIZE === 0 &&
    Number(start) + Number(size) <= ADDRESS_MAX
  )
}

/** The SHA-256 of a text or bytes, in hexadecimal. */
export function digest(content: string | Uint8Array): string {
  return createHash('sha256').update(content).digest('hex')
}
