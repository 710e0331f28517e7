/** The directories that a guest has open: what is in them. */
import { FS_ERRNO } from '@vmm/devices/virtio'
import { DirectoryEntries, reopenFd, seekDirectory } from '@vmm/sys-util'
import { Handle } from './handles.ts'
import * as linux from './linux.ts'
import type { Node } from './node.ts'
import type { Request } from './open-files.ts'
import type { Ownership } from './ownership.ts'
import type { Tree } from './tree.ts'

const { EBADF } = FS_ERRNO
const BUFFER_BYTES = 32768
/** Room for the longest entry. */
const LEAST_BYTES = 512
/** With nodes an entry is so much longer than it was on the host. */
const NODE_RATIO = 4
const DOT = 0x2e
/** After a part of what was read: where the descriptor stands is not where the guest goes on. */
const NOWHERE = -1
const MODE_SHIFT = 12

export class OpenDirectories {
  readonly #tree: Tree
  readonly #ownership: Ownership
  readonly #entries = new DirectoryEntries(BUFFER_BYTES)
  /** What `DirectoryList.add` is given, again and again. */
  readonly #name = { buffer: this.#entries.buffer, start: 0, length: 0 }
  readonly #next = { low: 0, high: 0 }
  readonly #text = Buffer.alloc(linux.NAME_SIZE)

  constructor(tree: Tree, ownership: Ownership) {
    this.#tree = tree
    this.#ownership = ownership
  }

  open(request: Request): number {
    const pinned = this.#tree.fdOf(request.node)
    if (pinned < 0) return pinned
    const fd = reopenFd(pinned, linux.O_RDONLY | linux.O_DIRECTORY | linux.O_NONBLOCK)
    if (fd < 0) return fd
    request.opened = new Handle(fd, request.node, false)
    return 0
  }

  /** As many entries as fit. The descriptor stands after the last that was read, which need not be the last that fitted. */
  read(request: Request): number {
    const { handle, list } = request
    if (handle === undefined) return -EBADF
    const { positionLow, positionHigh } = list
    if (positionLow !== handle.positionLow || positionHigh !== handle.positionHigh) {
      const failed = seekDirectory(handle.fd, positionLow, positionHigh)
      if (failed < 0) return failed
    }
    const entries = this.#entries
    for (;;) {
      const wanted = list.withNodes ? Math.ceil(list.room / NODE_RATIO) : list.room
      const bytes = entries.read(handle.fd, Math.max(wanted, LEAST_BYTES))
      if (bytes <= 0) return bytes
      while (entries.next()) {
        if (this.#add(request)) continue
        handle.positionLow = NOWHERE
        return 0
      }
      handle.positionLow = entries.nextLow
      handle.positionHigh = entries.nextHigh
    }
  }

  /** Adds the entry at hand. @returns false where it does not fit */
  #add(request: Request): boolean {
    const { list, attributes } = request
    const { nameStart, nameLength, inodeLow, inodeHigh, nextLow, nextHigh, type } = this.#entries
    if (!list.fits(nameLength)) return false
    const node = list.withNodes && !this.#isDots() ? this.#look(request) : undefined
    const inode = node === undefined ? inodeHigh * 2 ** 32 + inodeLow : attributes.inode
    this.#name.start = nameStart
    this.#name.length = nameLength
    this.#next.low = nextLow
    this.#next.high = nextHigh
    return list.add(this.#name, this.#next, Number.isSafeInteger(inode) ? inode : 0, type << MODE_SHIFT, node)
  }

  /** The file of the entry at hand, its attributes in the request; undefined where it is gone, or cannot be looked at. */
  #look({ node: directory, attributes }: Request): Node | undefined {
    const { buffer, nameStart, nameLength } = this.#entries
    this.#text.set(buffer.subarray(nameStart, nameStart + nameLength + 1))
    const node = this.#tree.find(directory, this.#text, nameLength)
    if (typeof node === 'number') return undefined
    this.#ownership.describe(this.#tree.status, attributes)
    return node
  }

  #isDots(): boolean {
    const { buffer, nameStart, nameLength } = this.#entries
    return (
      buffer[nameStart] === DOT && (nameLength === 1 || (nameLength === 2 && buffer[nameStart + 1] === DOT))
    )
  }
}
