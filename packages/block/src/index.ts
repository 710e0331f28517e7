/**
 * Disks in files, for the virtio-blk of `@vmm/devices/virtio`.
 * @packageDocumentation
 */
export { DiskFile, type DiskFileOptions } from './disk-file.ts'
export type { DiskEngine, FileDiskOptions } from './engine.ts'
export { BlockError, type BlockErrorCode, type BlockErrorDetails } from './error.ts'
export { FileDisk, openDisk } from './file-disk.ts'
