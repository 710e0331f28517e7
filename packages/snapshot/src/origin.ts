/**
 * Which snapshot guest memory is mapped from: what it has not written since is in the snapshot's files.
 */
import type { GuestMemory } from '@vmm/vm-memory'
import type { Identity } from './folder.ts'
import type { Manifest } from './manifest.ts'
import type { Segment } from './runs.ts'

/** A snapshot that memory was mapped from. */
export interface Origin {
  /** Absolute. What is in it may have been replaced since. */
  readonly folder: string
  readonly manifest: Manifest
  /** What is mapped of which layer. */
  readonly segments: readonly Segment[]
  /** Of each layer's file, which stays the one that is mapped. */
  readonly identities: readonly Identity[]
}

const origins = new WeakMap<GuestMemory, Origin>()

/** Notes where memory comes from. */
export function setOrigin(memory: GuestMemory, origin: Origin): void {
  origins.set(memory, origin)
}

/** Notes that memory is of no one snapshot any more. */
export function clearOrigin(memory: GuestMemory): void {
  origins.delete(memory)
}

/** Where memory comes from; undefined where that is no snapshot. */
export function originOf(memory: GuestMemory): Origin | undefined {
  return origins.get(memory)
}
