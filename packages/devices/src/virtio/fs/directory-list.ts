/**
 * The entries of a directory as READDIR and READDIRPLUS want them, written straight to guest memory as far as there is room.
 */
import { INODE_BASE, writeEntry } from './attributes.ts'
import type { FsRequest } from './request.ts'
import type { Session } from './session.ts'
import * as spec from './spec.ts'

const ALIGNMENT = 8
const DOT = 0x2e

/** One answer's part of a directory. A position is 64 bits of the file system's own: what it gave with the entry before. */
export class DirectoryList<N extends object = object, H extends object = object> {
  /** Where to begin: both 0 for the beginning, else the `next` of the entry that the guest had last. */
  positionLow = 0
  positionHigh = 0
  /** Whether the nodes and attributes of entries are wanted, which saves the guest a lookup of each. */
  withNodes = false
  readonly #request: FsRequest<N, H>
  readonly #session: Session
  #left = 0
  #bytes = 0

  /** @internal */
  constructor(request: FsRequest<N, H>, session: Session) {
    this.#request = request
    this.#session = session
  }

  /** @internal */
  begin(limit: number, withNodes: boolean): void {
    this.withNodes = withNodes
    this.#left = limit
    this.#bytes = 0
  }

  /** @internal Bytes that were written. */
  get bytes(): number {
    return this.#bytes
  }

  /** Bytes that are left: an entry takes 24, with a node 128 more, and its name, made up to a multiple of 8. */
  get room(): number {
    return this.#left
  }

  /** Whether an entry whose name has this many bytes can be added: ask before you look at what it is. */
  fits(nameLength: number): boolean {
    return this.#sizeOf(nameLength) <= this.#left && this.#request.isCurrent
  }

  /**
   * Adds an entry.
   * @param name its bytes: 1 to 255, in `buffer` from `start` on
   * @param next where the list goes on after it, two times 32 bits, never both 0
   * @param inode as in `Attributes`
   * @param mode its type, as in `mode` of `Attributes`; 0 where that is not known
   * @param node where there is one, with {@link withNodes}; its attributes are in the request. Not for `.` and `..`
   * @returns false, with nothing added, where there is no room for it
   */
  add(
    name: { readonly buffer: Uint8Array; readonly start: number; readonly length: number },
    next: { readonly low: number; readonly high: number },
    inode: number,
    mode: number,
    node?: N,
  ): boolean {
    const { buffer, start, length } = name
    const size = this.#sizeOf(length)
    if (length === 0 || length > spec.NAME_MAX || !this.fits(length)) return false
    const { target } = this.#request
    const id = this.withNodes ? this.#addNode(isDots(name) ? undefined : node) : 0
    target.writeUint64(inode === 0 ? INODE_BASE + id : inode)
    target.writeUint32(next.low)
    target.writeUint32(next.high)
    target.writeUint32(length)
    // DT_…: the type's bits of the mode, shifted down.
    target.writeUint32((mode & spec.S_IFMT) >>> 12)
    target.write(buffer, start, length)
    target.fill(0, size - this.#headerSize - length)
    this.#left -= size
    this.#bytes += size
    return true
  }

  get #headerSize(): number {
    return this.withNodes ? spec.FUSE_ENTRY_OUT_SIZE + spec.FUSE_NAME_OFFSET : spec.FUSE_NAME_OFFSET
  }

  #sizeOf(nameLength: number): number {
    return Math.ceil((this.#headerSize + nameLength) / ALIGNMENT) * ALIGNMENT
  }

  /** Without a node, as when there is no room for one more, the guest looks the name up when it wants to know. */
  #addNode(node: N | undefined): number {
    const { target, attributes } = this.#request
    const session = this.#session
    const id = node === undefined ? 0 : session.nodes.add(node)
    if (id === 0) target.fill(0, spec.FUSE_ENTRY_OUT_SIZE)
    else writeEntry(target, id, session.time, attributes)
    if (id === 0 && node !== undefined) session.forget(node)
    return id
  }
}

function isDots({ buffer, start, length }: { buffer: Uint8Array; start: number; length: number }): boolean {
  return length <= 2 && buffer[start] === DOT && (length === 1 || buffer[start + 1] === DOT)
}
