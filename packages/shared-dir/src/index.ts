/**
 * A directory of the host for virtio-fs, that the guest cannot leave.
 * @packageDocumentation
 */
export { SharedDirectoryError, type SharedDirectoryErrorCode } from './error.ts'
export type { GuestOwner, SharedDirectoryOptions } from './options.ts'
export { SharedDirectory } from './shared-directory.ts'
