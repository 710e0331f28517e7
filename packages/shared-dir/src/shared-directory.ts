/**
 * A directory of the host as a file system of virtio-fs. All calls are made at once, on the event loop's thread, but for fsync(2): what
 * the kernel has cached takes it a microsecond or two, where a thread of a pool, which has vCPUs that wait in it as well, would
 * take ten times that. What a medium has to be waited for holds up the event loop.
 */
import type { FileSystem, NodeLocation } from '@vmm/devices/virtio'
import { FS_ERRNO } from '@vmm/devices/virtio'
import {
  chmodFd,
  FileSystemStatus,
  linkFd,
  makeDirectoryAt,
  makeNodeAt,
  makeSymlinkAt,
  readLinkFd,
  renameAt,
  setTimesFd,
  unlinkAt,
} from '@vmm/sys-util'
import type { Handle } from './handles.ts'
import * as linux from './linux.ts'
import type { Node } from './node.ts'
import { OpenDirectories } from './open-directories.ts'
import { OpenFiles, type Request } from './open-files.ts'
import { openRoot } from './open-root.ts'
import { type SharedDirectoryOptions, sharedDirectorySettings } from './options.ts'
import { Ownership } from './ownership.ts'
import { Tree } from './tree.ts'

const { EINVAL, EOPNOTSUPP, EPERM } = FS_ERRNO
const LINK_BYTES = 4096

/**
 * A directory of the host. Give it to one `Fs`, and close it after that one's transport.
 *
 * The guest cannot leave it, whatever it asks, and whatever the host does meanwhile. What the host moves out of the directory stays
 * within the guest's reach for as long as the guest knows it.
 */
export class SharedDirectory implements FileSystem<Node, Handle>, Disposable {
  /** As it was given. */
  readonly path: string
  readonly readOnly: boolean
  readonly cacheSeconds: number
  readonly root: Node
  readonly #tree: Tree
  readonly #ownership: Ownership
  readonly #files: OpenFiles
  readonly #directories: OpenDirectories
  readonly #handles = new Set<Handle>()
  readonly #space = new FileSystemStatus()
  readonly #link = Buffer.alloc(LINK_BYTES)

  /**
   * @param path of the directory; symbolic links to it are followed, now and never again
   * @throws SharedDirectoryError, see `SharedDirectoryErrorCode`
   */
  constructor(path: string, options: SharedDirectoryOptions = {}) {
    const settings = sharedDirectorySettings(path, options)
    this.path = path
    this.readOnly = settings.readOnly
    this.cacheSeconds = settings.cacheSeconds
    this.#tree = new Tree(openRoot(path), settings)
    this.root = this.#tree.root
    this.#ownership = new Ownership(settings.owner, this.#tree.status)
    this.#files = new OpenFiles(this.#tree)
    this.#directories = new OpenDirectories(this.#tree, this.#ownership)
  }

  /** Descriptors that it has, of files that are known and of those that are open. */
  get descriptors(): number {
    return this.#tree.descriptors + this.#handles.size
  }

  /** Files that are known, without the directory itself. */
  get nodes(): number {
    return this.#tree.size
  }

  /** Closes the directory and everything in it. What is asked for afterwards fails. Idempotent. */
  close(): void {
    for (const handle of this.#handles) handle.release()
    this.#handles.clear()
    this.#tree.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  lookup(request: Request): number {
    this.#tree.trim()
    return this.#answer(request, request.node)
  }

  forget(node: Node): void {
    this.#tree.forget(node)
  }

  locate(node: Node): NodeLocation<Node> {
    return { directory: node.parent, name: node.name, identity: node.identityIn(this.root) }
  }

  getattr({ node, handle, attributes }: Request): number {
    this.#tree.trim()
    const fd = handle?.fd ?? this.#tree.fdOf(node)
    const failed = fd < 0 ? fd : this.#tree.status.read(fd)
    if (failed < 0) return failed
    this.#ownership.describe(this.#tree.status, attributes)
    return 0
  }

  setattr(request: Request): number {
    const { node, changes } = request
    this.#tree.trim()
    const pinned = this.#tree.fdOf(node)
    if (pinned < 0) return pinned
    let failed = this.#checkOwner(request, pinned)
    if (failed === 0 && changes.hasSize) failed = this.#files.truncate(request, changes.size)
    if (failed === 0 && changes.hasMode) failed = this.#chmod(request, pinned)
    if (failed === 0 && (changes.hasAccessed || changes.hasModified)) failed = this.#setTimes(request, pinned)
    return failed < 0 ? failed : this.getattr(request)
  }

  readlink({ node, target }: Request): number {
    this.#tree.trim()
    if (node.type !== linux.S_IFLNK) return -EINVAL
    const pinned = this.#tree.fdOf(node)
    const length = pinned < 0 ? pinned : readLinkFd(pinned, this.#link)
    return length < 0 ? length : target.write(this.#link, 0, length)
  }

  symlink(request: Request): number {
    const { node, link, name } = request
    return this.#make(request, node, (directory) => makeSymlinkAt(link.buffer, directory, name.buffer))
  }

  mknod(request: Request): number {
    const { node, name, mode } = request
    const how = mode & (linux.S_IFMT | linux.PERMISSIONS)
    return this.#make(request, node, (directory) => makeNodeAt(directory, name.buffer, how))
  }

  mkdir(request: Request): number {
    const { node, name, mode } = request
    return this.#make(request, node, (directory) =>
      makeDirectoryAt(directory, name.buffer, mode & linux.PERMISSIONS),
    )
  }

  link(request: Request): number {
    const { node, otherNode, otherName, attributes } = request
    this.#tree.trim()
    const pinned = this.#tree.fdOf(node)
    if (pinned < 0) return pinned
    const directory = this.#tree.fdOf(otherNode)
    const failed = directory < 0 ? directory : linkFd(pinned, directory, otherName.buffer)
    if (failed < 0) return failed
    const unknown = this.#tree.status.read(pinned)
    if (unknown < 0) return unknown
    this.#ownership.describe(this.#tree.status, attributes)
    request.found = node
    return 0
  }

  unlink(request: Request): number {
    return this.#remove(request, false)
  }

  rmdir(request: Request): number {
    return this.#remove(request, true)
  }

  rename({ node, name, otherNode, otherName, flags }: Request): number {
    this.#tree.trim()
    const from = this.#tree.fdOf(node)
    if (from < 0) return from
    const to = this.#tree.fdOf(otherNode)
    if (to < 0) return to
    const failed = renameAt(
      { directory: from, name: name.buffer },
      { directory: to, name: otherName.buffer },
      flags,
    )
    if (failed < 0) return failed
    this.#tree.noteMove(otherNode, otherName.buffer, otherName.length)
    if ((flags & linux.RENAME_EXCHANGE) !== 0) this.#tree.noteMove(node, name.buffer, name.length)
    return 0
  }

  open(request: Request): number {
    this.#tree.trim()
    return this.#noteOpened(request, this.#files.open(request))
  }

  create(request: Request): number {
    this.#tree.trim()
    const result = this.#noteOpened(request, this.#files.create(request))
    if (result === 0) this.#ownership.describe(this.#tree.status, request.attributes)
    return result
  }

  read(request: Request): number {
    return this.#files.read(request)
  }

  write(request: Request): number {
    return this.#files.write(request)
  }

  fsync({ handle, dataOnly }: Request): number | Promise<number> {
    return handle === undefined ? -EINVAL : handle.sync(dataOnly)
  }

  release(handle: Handle): void {
    this.#handles.delete(handle)
    handle.release()
  }

  fallocate(request: Request): number {
    return this.#files.fallocate(request)
  }

  lseek(request: Request): number {
    return this.#files.lseek(request)
  }

  copyFileRange(request: Request): number {
    return this.#files.copyFileRange(request)
  }

  opendir(request: Request): number {
    this.#tree.trim()
    return this.#noteOpened(request, this.#directories.open(request))
  }

  readdir(request: Request): number {
    this.#tree.trim()
    return this.#directories.read(request)
  }

  fsyncdir(request: Request): number | Promise<number> {
    return this.fsync(request)
  }

  statfs({ space }: Request): number {
    const failed = this.#space.read(this.root.fd)
    if (failed < 0) return failed
    space.blockSize = this.#space.blockSize
    space.blocks = this.#space.blocks
    space.freeBlocks = this.#space.freeBlocks
    space.availableBlocks = this.#space.availableBlocks
    space.files = this.#space.files
    space.freeFiles = this.#space.freeFiles
    return 0
  }

  /** What `name` is now. */
  #answer(request: Request, directory: Node): number {
    const { name, attributes } = request
    const node = this.#tree.find(directory, name.buffer, name.length)
    if (typeof node === 'number') return node
    this.#ownership.describe(this.#tree.status, attributes)
    request.found = node
    return 0
  }

  #make(request: Request, directory: Node, make: (fd: number) => number): number {
    this.#tree.trim()
    const fd = this.#tree.fdOf(directory)
    const failed = fd < 0 ? fd : make(fd)
    return failed < 0 ? failed : this.#answer(request, directory)
  }

  #remove({ node, name }: Request, isDirectory: boolean): number {
    this.#tree.trim()
    const fd = this.#tree.fdOf(node)
    return fd < 0 ? fd : unlinkAt(fd, name.buffer, isDirectory)
  }

  #noteOpened({ opened }: Request, result: number): number {
    if (opened !== undefined) this.#handles.add(opened)
    return result
  }

  /** There is one owner to be had: the one there is. */
  #checkOwner({ changes }: Request, pinned: number): number {
    if (!changes.hasUid && !changes.hasGid) return 0
    const { status } = this.#tree
    const failed = status.read(pinned)
    if (failed < 0) return failed
    const isUser = !changes.hasUid || changes.uid === this.#ownership.userOf(status)
    const isGroup = !changes.hasGid || changes.gid === this.#ownership.groupOf(status)
    return isUser && isGroup ? 0 : -EPERM
  }

  #chmod({ node, changes }: Request, pinned: number): number {
    if (node.type === linux.S_IFLNK) return -EOPNOTSUPP
    return chmodFd(pinned, changes.mode & linux.PERMISSIONS)
  }

  #setTimes({ changes }: Request, pinned: number): number {
    const { hasAccessed, accessedNow, accessed, accessedNs } = changes
    const { hasModified, modifiedNow, modified, modifiedNs } = changes
    return setTimesFd(
      pinned,
      accessedNow ? 'now' : hasAccessed ? { seconds: accessed, nanoseconds: accessedNs } : undefined,
      modifiedNow ? 'now' : hasModified ? { seconds: modified, nanoseconds: modifiedNs } : undefined,
    )
  }
}
