/** What the device has to know of each kind of request: how its arguments are read, and how its answer is written. */
import type { FsOutcome } from './file-system.ts'
import type { FsRequest } from './request.ts'
import type { Session } from './session.ts'

/** One opcode. */
export interface Operation {
  /** Bytes that an answer has after its header, at least: without room for them nothing is done. */
  readonly replyBytes: number
  /** Whether it changes the file system: EROFS where that is read-only. */
  readonly changes?: boolean
  /** Whether its answer may be a node that the guest does not know. */
  readonly givesNode?: boolean
  /** Whether its answer is a handle. */
  readonly givesHandle?: boolean
  /** Whether the guest may have forgotten the node by the time this comes: by another queue. */
  readonly mayBeForgotten?: boolean
  /** Whether ENOENT is an answer to remember. */
  readonly mayMiss?: boolean

  /** Takes the arguments from `request.source`, and begins. `node` is set; nothing else is. */
  begin(session: Session, request: FsRequest): FsOutcome

  /**
   * Writes what follows the header.
   * @param outcome 0 or more
   * @returns bytes written, or a negative errno
   */
  reply(session: Session, request: FsRequest, outcome: number): number
}
