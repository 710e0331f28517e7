/**
 * `@vmm/snapshot`: the state and the memory of a VM in a folder, written so that a crash loses neither the old one nor the
 * new one, and read as input from a stranger.
 * @packageDocumentation
 */
export { SnapshotError, type SnapshotErrorCode } from './error.ts'
export type { CheckedFile, Manifest, SnapshotLayer, SnapshotRange } from './manifest.ts'
export { Snapshot } from './snapshot.ts'
export { type SnapshotContent, type WrittenSnapshot, writeSnapshot } from './write.ts'
