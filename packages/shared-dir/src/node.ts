/** A file or directory that the guest knows. */
import type { FileStatus } from '@vmm/sys-util'
import type { Handle } from './handles.ts'
import { S_IFMT } from './linux.ts'

const CLOSED = -1

/** Identity of a file: device and inode number. */
export type NodeKey = string

/** What tells a file from all others, as long as it exists. */
export function keyOf(status: FileStatus): NodeKey {
  const { deviceMajor, deviceMinor, inodeHigh, inodeLow } = status
  return `${deviceMajor}:${deviceMinor}:${inodeHigh}:${inodeLow}`
}

/** The device's part of a key, and the inode's. */
function splitKey(key: NodeKey): readonly [device: string, inode: string] {
  const at = key.indexOf(':', key.indexOf(':') + 1)
  return [key.slice(0, at), key.slice(at + 1)]
}

/**
 * A file, whatever it is called. It is known by an O_PATH descriptor, which pins it: no other file gets in its place. Where there
 * are too many of those, by a descriptor that the guest has it open by; and where there is none, by the directory and the name that it had
 * last: then it is itself only where that still leads to it.
 */
export class Node {
  readonly key: NodeKey
  /** Type, as in `mode`; a file never changes that. */
  readonly type: number
  /** When it was made: an inode number may be another file's later. */
  readonly born: number
  readonly bornNs: number
  /** Where it was found last; the root's is itself. */
  parent: Node
  /** Bytes of its name, a character each. */
  name: string
  /** Its O_PATH descriptor; -1 for none. */
  fd: number = CLOSED
  /** Used since the last look for descriptors to be closed. */
  isRecent = false
  /** What the file was like when the guest opened it last, and whether a later change is certain to show. */
  openedChanged = 0
  openedChangedNs = 0
  openedSize = -1
  isSettled = false
  /** Undefined for none, as most have none ever. */
  #handles: Set<Handle> | undefined

  constructor(status: FileStatus, parent?: Node, name = '') {
    this.key = keyOf(status)
    this.type = status.mode & S_IFMT
    this.born = status.born
    this.bornNs = status.bornNs
    this.parent = parent ?? this
    this.name = name
  }

  /** A descriptor that is open on it: its own, or a handle's; -1 for none. */
  get anyFd(): number {
    if (this.fd >= 0 || this.#handles === undefined) return this.fd
    for (const { fd } of this.#handles) return fd
    return CLOSED
  }

  /** A handle tells that the file is open by it, */
  opened(handle: Handle): void {
    this.#handles ??= new Set()
    this.#handles.add(handle)
  }

  /** and that it is not any more. */
  released(handle: Handle): void {
    this.#handles?.delete(handle)
  }

  /**
   * What tells this file from others in another run of the program: type, inode number and time of birth. The device's number may be
   * another one by then, so that only whether it is the root's counts.
   */
  identityIn(root: Node): string {
    const [device, inode] = splitKey(this.key)
    const isRoots = device === splitKey(root.key)[0]
    return `${this.type.toString(8)}:${isRoots ? '' : device}:${inode}:${this.born}.${this.bornNs}`
  }

  /** Whether a status is this file's. @param key of the status */
  isSame(status: FileStatus, key: NodeKey): boolean {
    const { type, born, bornNs } = this
    return (
      key === this.key && (status.mode & S_IFMT) === type && status.bornNs === bornNs && status.born === born
    )
  }
}
