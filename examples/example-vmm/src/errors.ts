/**
 * Errors that are expected: their message is one sentence that says all.
 */
import { BlockError } from '@vmm/block'
import { DevicesError } from '@vmm/devices'
import { EventManagerError } from '@vmm/event-manager'
import { KvmError } from '@vmm/kvm-ioctls'
import { LoaderError } from '@vmm/linux-loader'
import { MicroVmError } from '@vmm/microvm'
import { NetError } from '@vmm/net'
import { SharedDirectoryError } from '@vmm/shared-dir'
import { SnapshotError } from '@vmm/snapshot'
import { SystemError } from '@vmm/sys-util'
import { MemoryError } from '@vmm/vm-memory'
import { VsockError } from '@vmm/vsock'

/** What the user asked is impossible: exit status 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

/** What was asked for cannot be: an option, or what it names. */
const OF_USAGE = [
  BlockError,
  LoaderError,
  MicroVmError,
  NetError,
  SharedDirectoryError,
  SnapshotError,
  UsageError,
  VsockError,
]
/** The host cannot. */
const OF_HOST = [DevicesError, EventManagerError, KvmError, MemoryError, SystemError]

/** Whether the user can do something about it. */
export function isUsage(error: unknown): boolean {
  return OF_USAGE.some((kind) => error instanceof kind)
}

/** Whether a stack trace would say nothing more. */
export function isExpected(error: unknown): error is Error {
  return isUsage(error) || OF_HOST.some((kind) => error instanceof kind)
}
