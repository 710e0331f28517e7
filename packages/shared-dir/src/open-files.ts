/** The files that a guest has open: what is done with their contents. */
import { FS_ERRNO, type FsRequest } from '@vmm/devices/virtio'
import {
  allocateRange,
  chmodFd,
  closeFd,
  copyRange,
  FileTransfer,
  openBeneath,
  reopenFd,
  seekRange,
  TO_FILE,
  TO_MEMORY,
  truncateFd,
} from '@vmm/sys-util'
import { Handle } from './handles.ts'
import * as linux from './linux.ts'
import type { Node } from './node.ts'
import type { Tree } from './tree.ts'

const { EBADF, EEXIST, EISDIR, ELOOP, ENXIO, EOPNOTSUPP } = FS_ERRNO

export type Request = FsRequest<Node, Handle>

/** What of a guest's flags goes to the host. Files are written where the guest says: see {@link OpenFiles.write}. */
const GUEST_FLAGS = linux.O_ACCMODE | linux.O_TRUNC
/** A lease of somebody's is not waited for. */
const HOST_FLAGS = linux.O_NONBLOCK | linux.O_CLOEXEC
const ALLOCATIONS = [
  0,
  linux.FALLOC_FL_KEEP_SIZE,
  linux.FALLOC_FL_PUNCH_HOLE | linux.FALLOC_FL_KEEP_SIZE,
  linux.FALLOC_FL_ZERO_RANGE,
  linux.FALLOC_FL_ZERO_RANGE | linux.FALLOC_FL_KEEP_SIZE,
]
/** A file that has not changed for so long shows each later change by its time: clocks of file systems tick seldom. In seconds. */
const SETTLED_AFTER = 2

export class OpenFiles {
  readonly #tree: Tree
  readonly #transfer = new FileTransfer()

  constructor(tree: Tree) {
    this.#tree = tree
  }

  open(request: Request): number {
    const { node, flags } = request
    const pinned = this.#tree.fdOf(node)
    if (pinned < 0) return pinned
    const refused = refusedType(node)
    if (refused < 0) return refused
    if (isWriting(flags)) this.#takeSetId(pinned)
    const fd = reopenFd(pinned, (flags & GUEST_FLAGS) | HOST_FLAGS)
    return fd < 0 ? fd : this.#opened(request, node, fd)
  }

  create(request: Request): number {
    const { node: directory, name, flags, mode } = request
    const parent = this.#tree.fdOf(directory)
    if (parent < 0) return parent
    const how = linux.O_CREAT | linux.O_EXCL | linux.O_NOFOLLOW | HOST_FLAGS
    const fd = openBeneath(parent, name.buffer, (flags & linux.O_ACCMODE) | how, {
      mode: mode & linux.PERMISSIONS,
    })
    if (fd === -EEXIST && (flags & linux.O_EXCL) === 0) return this.#openExisting(request)
    if (fd < 0) return fd
    // By the descriptor: whatever has the name by now, this is what was made.
    const pinned = reopenFd(fd, linux.O_PATH)
    const node = pinned < 0 ? pinned : this.#tree.adopt(pinned, directory, name.key)
    if (typeof node !== 'number') {
      request.found = node
      return this.#opened(request, node, fd)
    }
    closeFd(fd)
    return node
  }

  /** {@link Tree.status} is the file's. */
  #openExisting(request: Request): number {
    const { node: directory, name } = request
    const node = this.#tree.find(directory, name.buffer, name.length)
    if (typeof node === 'number') return node
    request.found = node
    request.node = node
    const result = this.open(request)
    request.node = directory
    return result
  }

  #opened(request: Request, node: Node, fd: number): number {
    const { status } = this.#tree
    const failed = status.read(fd)
    if (failed < 0) {
      closeFd(fd)
      return failed
    }
    const { changed, changedNs, size } = status
    request.keepCache =
      node.isSettled &&
      node.openedChanged === changed &&
      node.openedChangedNs === changedNs &&
      node.openedSize === size
    node.openedChanged = changed
    node.openedChangedNs = changedNs
    node.openedSize = size
    node.isSettled = Date.now() / 1000 - changed > SETTLED_AFTER
    request.opened = new Handle(fd, node, (request.flags & linux.O_ACCMODE) !== linux.O_RDONLY)
    return 0
  }

  read({ handle, target, position, length }: Request): number {
    if (handle === undefined) return -EBADF
    return this.#transfer.run(handle.fd, target, TO_MEMORY, position, length)
  }

  /** Appended is where the file ends now. It is not opened so: pages that the guest writes back later have their place. */
  write({ handle, source, position, length, flags }: Request): number {
    if (handle?.isWritable !== true) return -EBADF
    let at = position
    if ((flags & linux.O_APPEND) !== 0) {
      const { status } = this.#tree
      const failed = status.read(handle.fd)
      if (failed < 0) return failed
      at = status.size
    }
    return this.#transfer.run(handle.fd, source, TO_FILE, at, length)
  }

  truncate({ node, handle }: Request, size: number): number {
    if (handle?.isWritable === true) return truncateFd(handle.fd, size)
    const pinned = this.#tree.fdOf(node)
    if (pinned < 0) return pinned
    const refused = refusedType(node)
    if (refused < 0) return refused
    this.#takeSetId(pinned)
    const fd = reopenFd(pinned, linux.O_WRONLY | HOST_FLAGS)
    if (fd < 0) return fd
    const result = truncateFd(fd, size)
    closeFd(fd)
    return result
  }

  fallocate({ handle, flags, position, length }: Request): number {
    if (handle?.isWritable !== true) return -EBADF
    return ALLOCATIONS.includes(flags) ? allocateRange(handle.fd, flags, position, length) : -EOPNOTSUPP
  }

  lseek({ handle, flags, position }: Request): number {
    return handle === undefined ? -EBADF : seekRange(handle.fd, position, flags)
  }

  copyFileRange({ handle, position, otherHandle, otherPosition, length }: Request): number {
    if (handle === undefined || otherHandle?.isWritable !== true) return -EBADF
    return copyRange(
      { fd: handle.fd, offset: position },
      { fd: otherHandle.fd, offset: otherPosition },
      length,
    )
  }

  /** The kernel takes these bits from a file that is written to, but not when root writes. */
  #takeSetId(pinned: number): void {
    const { status } = this.#tree
    if (status.read(pinned) < 0 || (status.mode & linux.SET_ID_BITS) === 0) return
    chmodFd(pinned, status.mode & linux.PERMISSIONS)
  }
}

function isWriting(flags: number): boolean {
  return (flags & linux.O_ACCMODE) !== linux.O_RDONLY || (flags & linux.O_TRUNC) !== 0
}

/** Pipes, sockets and devices are the guest kernel's own matter: on the host they are not opened. */
function refusedType({ type }: Node): number {
  if (type === linux.S_IFREG) return 0
  if (type === linux.S_IFDIR) return -EISDIR
  return type === linux.S_IFLNK ? -ELOOP : -ENXIO
}
