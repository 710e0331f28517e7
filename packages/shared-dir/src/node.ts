/** A file or directory that the guest knows. */
import type { FileStatus } from '@vmm/sys-util'
import { S_IFMT } from './linux.ts'

const CLOSED = -1

/** Identity of a file: device and inode number. */
export type NodeKey = string

/** What tells a file from all others, as long as it exists. */
export function keyOf(status: FileStatus): NodeKey {
  const { deviceMajor, deviceMinor, inodeHigh, inodeLow } = status
  return `${deviceMajor}:${deviceMinor}:${inodeHigh}:${inodeLow}`
}

/**
 * A file, whatever it is called. It is known by an O_PATH descriptor, which pins it: no other file gets in its place. Where there
 * are too many of those, by the directory and the name that it had last; and is itself only where that still leads to it.
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

  constructor(status: FileStatus, parent?: Node, name = '') {
    this.key = keyOf(status)
    this.type = status.mode & S_IFMT
    this.born = status.born
    this.bornNs = status.bornNs
    this.parent = parent ?? this
    this.name = name
  }

  /** Whether a status is this file's. @param key of the status */
  isSame(status: FileStatus, key: NodeKey): boolean {
    const { type, born, bornNs } = this
    return (
      key === this.key && (status.mode & S_IFMT) === type && status.bornNs === bornNs && status.born === born
    )
  }
}
