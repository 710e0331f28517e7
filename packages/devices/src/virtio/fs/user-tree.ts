/**
 * A file system of the user's own: any object that can find, list and read, and perhaps write, in its own time.
 *
 * The object never sees guest memory. Data goes through buffers of this file system: what a call was given does not change
 * under its hands, and a call that ends after a reset does not reach the guest any more.
 */
import { BufferPool } from '../buffer-pool.ts'
import { FS_ERRNO } from './errno.ts'
import type { FileSystem, FsOutcome, NodeLocation } from './file-system.ts'
import type { FileName } from './name.ts'
import type { FsRequest } from './request.ts'
import * as spec from './spec.ts'
import { addDots, Listing, listingPosition } from './user-listing.ts'
import { UserNodes } from './user-nodes.ts'
import type { UserChanges, UserStat, UserTreeSource } from './user-source.ts'

const { EINVAL, EIO, EISDIR, ENOENT, ENOTDIR, EPERM } = FS_ERRNO

/** The most bytes of one call to `read` or `write`. */
export const USER_TREE_CHUNK_BYTES = 131072
/** The most calls to `read` and `write` at a time: a buffer for each is all the memory that a guest can make this take. */
export const USER_TREE_PARALLEL = 64

const TYPES = { file: spec.S_IFREG, directory: spec.S_IFDIR, symlink: spec.S_IFLNK } as const
const PERMISSIONS = 0o7777
const EXECUTE = 0o111

/** Options of {@link UserTree}. */
export interface UserTreeOptions {
  /**
   * For how long the guest may take names and attributes for right without asking, in seconds; 0 to ask each time, `Infinity` for
   * a tree that nobody else changes. Default 1.
   */
  readonly cacheSeconds?: number | undefined
}

/** Makes a {@link FileSystem} of a {@link UserTreeSource}. */
export class UserTree<N extends object> implements FileSystem<N, Listing> {
  readonly root: N
  readonly readOnly: boolean
  readonly cacheSeconds: number
  readonly #source: UserTreeSource<N>
  readonly #buffers = new BufferPool(USER_TREE_CHUNK_BYTES, USER_TREE_PARALLEL)
  readonly #nodes = new UserNodes<N>()

  constructor(source: UserTreeSource<N>, options: UserTreeOptions = {}) {
    const { write, create, mkdir, symlink, remove, rename, change } = source
    this.#source = source
    this.root = source.root
    this.readOnly = [write, create, mkdir, symlink, remove, rename, change].every((one) => one === undefined)
    this.cacheSeconds = options.cacheSeconds ?? 1
    this.#nodes.describe(source.root, spec.S_IFDIR, 0)
  }

  async lookup(request: FsRequest<N, Listing>): Promise<number> {
    const name = textOf(request.name)
    if (this.#nodes.typeOf(request.node) !== spec.S_IFDIR) return -ENOTDIR
    if (name === undefined) return -ENOENT
    return this.#found(request, name, await this.#source.lookup(request.node, name))
  }

  forget(node: N): void {
    this.#source.forget?.(node)
  }

  locate(node: N): NodeLocation<N> | undefined {
    return this.#nodes.locate(node)
  }

  async getattr(request: FsRequest<N, Listing>): Promise<number> {
    this.#describe(request, request.node, await this.#source.stat(request.node))
    return 0
  }

  async setattr(request: FsRequest<N, Listing>): Promise<number> {
    const { node } = request
    if (this.#source.change === undefined) return -EPERM
    await this.#source.change(node, changesOf(request))
    this.#describe(request, node, await this.#source.stat(node))
    return 0
  }

  async readlink(request: FsRequest<N, Listing>): Promise<number> {
    if (this.#nodes.typeOf(request.node) !== spec.S_IFLNK || this.#source.readlink === undefined)
      return -EINVAL
    const text = Buffer.from(await this.#source.readlink(request.node))
    if (text.length === 0 || text.length > spec.LINK_MAX || text.includes(0)) return -EIO
    return request.isCurrent ? request.target.write(text) : -EIO
  }

  mknod(request: FsRequest<N, Listing>): FsOutcome {
    const { node, mode } = request
    if ((mode & spec.S_IFMT) !== spec.S_IFREG) return -EPERM
    return this.#make(request, (name) => this.#source.create?.(node, name, mode & PERMISSIONS))
  }

  mkdir(request: FsRequest<N, Listing>): FsOutcome {
    const { node, mode } = request
    return this.#make(request, (name) => this.#source.mkdir?.(node, name, mode))
  }

  symlink(request: FsRequest<N, Listing>): FsOutcome {
    const link = textOf(request.link)
    if (link === undefined) return -EINVAL
    return this.#make(request, (name) => this.#source.symlink?.(request.node, name, link))
  }

  unlink(request: FsRequest<N, Listing>): Promise<number> {
    return this.#remove(request, false)
  }

  rmdir(request: FsRequest<N, Listing>): Promise<number> {
    return this.#remove(request, true)
  }

  async rename(request: FsRequest<N, Listing>): Promise<number> {
    const { node, otherNode, flags } = request
    const name = textOf(request.name)
    const otherName = textOf(request.otherName)
    if (this.#source.rename === undefined) return -EPERM
    if (flags !== 0 || name === undefined || otherName === undefined) return -EINVAL
    if (this.#nodes.typeOf(node) !== spec.S_IFDIR || this.#nodes.typeOf(otherNode) !== spec.S_IFDIR)
      return -ENOTDIR
    await this.#source.rename(node, name, otherNode, otherName)
    // What was moved keeps its number: a snapshot has to know where it is.
    await this.#look(request, otherNode, otherName)
    return 0
  }

  async read(request: FsRequest<N, Listing>): Promise<number> {
    const { node, position, target } = request
    return await this.#transfer(request, async (chunk, done) => {
      const count = await this.#source.read(node, chunk, position + done)
      if (!Number.isInteger(count) || count < 0 || count > chunk.length) {
        throw new RangeError(`read: expected 0 to ${chunk.length} bytes, got ${count}`)
      }
      // A reset has taken the memory away.
      return request.isCurrent ? target.write(chunk, 0, count) : 0
    })
  }

  async write(request: FsRequest<N, Listing>): Promise<number> {
    const { node, position, source } = request
    if (this.#source.write === undefined) return -EPERM
    return await this.#transfer(request, async (chunk, done) => {
      source.read(chunk)
      await this.#source.write?.(node, chunk, position + done)
      return chunk.length
    })
  }

  async fsync({ node }: FsRequest<N, Listing>): Promise<number> {
    await this.#source.sync?.(node)
    return 0
  }

  opendir(request: FsRequest<N, Listing>): number {
    if (this.#nodes.typeOf(request.node) !== spec.S_IFDIR) return -ENOTDIR
    request.opened = new Listing()
    return 0
  }

  async readdir(request: FsRequest<N, Listing>): Promise<number> {
    const { node, handle, list } = request
    if (handle === undefined) return -EIO
    let at = listingPosition(list)
    // From the beginning it is listed anew; from there on it does not change.
    if (at === 0 || handle.isEmpty) handle.fill(await this.#source.readdir(node))
    if (!addDots(list, at)) return 0
    for (at = Math.max(at - 2, 0); at < handle.length; at += 1) {
      const name = handle.at(at)
      if (!list.fits(name.length)) break
      const child = list.withNodes ? await this.#look(request, node, name.text) : undefined
      const { inode, mode } = request.attributes
      const type = child === undefined ? 0 : mode
      if (!list.add(name, { low: at + 3, high: 0 }, child === undefined ? 0 : inode, type, child)) {
        if (child !== undefined) request.found = child
        break
      }
    }
    return 0
  }

  async statfs({ space }: FsRequest<N, Listing>): Promise<number> {
    Object.assign(space, await this.#source.statfs?.())
    return 0
  }

  /** A child with its attributes in the request; undefined where it is gone by now, or cannot be looked at. */
  async #look(request: FsRequest<N, Listing>, directory: N, name: string): Promise<N | undefined> {
    try {
      const child = await this.#source.lookup(directory, name)
      if (child === undefined) return undefined
      this.#describe(request, child, await this.#source.stat(child))
      this.#nodes.place(child, directory, name)
      return child
    } catch {
      return undefined
    }
  }

  async #found(request: FsRequest<N, Listing>, name: string, node: N | undefined): Promise<number> {
    if (node === undefined) return -ENOENT
    this.#describe(request, node, await this.#source.stat(node))
    this.#nodes.place(node, request.node, name)
    request.found = node
    return 0
  }

  async #make(
    request: FsRequest<N, Listing>,
    make: (name: string) => N | Promise<N> | undefined,
  ): Promise<number> {
    const name = textOf(request.name)
    if (this.#nodes.typeOf(request.node) !== spec.S_IFDIR) return -ENOTDIR
    if (name === undefined) return -EINVAL
    const made = await make(name)
    return made === undefined ? -EPERM : await this.#found(request, name, made)
  }

  async #remove(request: FsRequest<N, Listing>, isDirectory: boolean): Promise<number> {
    const name = textOf(request.name)
    const { node } = request
    if (this.#source.remove === undefined) return -EPERM
    if (this.#nodes.typeOf(node) !== spec.S_IFDIR) return -ENOTDIR
    const child = name === undefined ? undefined : await this.#source.lookup(node, name)
    if (child === undefined || name === undefined) return -ENOENT
    const { type } = await this.#source.stat(child)
    if ((type === 'directory') !== isDirectory) return isDirectory ? -ENOTDIR : -EISDIR
    await this.#source.remove(node, name)
    return 0
  }

  #describe({ attributes }: FsRequest<N, Listing>, node: N, stat: UserStat): void {
    const type = TYPES[stat.type]
    const fallback = type === spec.S_IFLNK ? 0o777 : this.readOnly ? 0o444 : 0o644
    const { inode = 0, size = 0, mode = type === spec.S_IFDIR ? fallback | EXECUTE : fallback } = stat
    const { modified = 0, links = type === spec.S_IFDIR ? 2 : 1, uid = 0, gid = 0 } = stat
    if (!(Number.isSafeInteger(size) && size >= 0)) throw new RangeError(`stat: a size of ${size} bytes`)
    this.#nodes.describe(node, type, inode)
    attributes.clear()
    attributes.inode = inode
    attributes.size = size
    attributes.blocks = Math.ceil(size / 512)
    attributes.mode = type | (mode & PERMISSIONS)
    attributes.links = links
    attributes.uid = uid
    attributes.gid = gid
    const ms = Math.floor(Number(modified))
    const seconds = Math.floor(ms / 1000)
    attributes.modified = attributes.changed = attributes.accessed = seconds
    attributes.modifiedNs = attributes.changedNs = attributes.accessedNs = (ms - seconds * 1000) * 1_000_000
  }

  /** By one buffer, as often as it takes. A reset ends it between two calls. */
  async #transfer(
    request: FsRequest<N, Listing>,
    move: (chunk: Uint8Array, done: number) => Promise<number>,
  ): Promise<number> {
    const { length, node } = request
    if (this.#nodes.typeOf(node) !== spec.S_IFREG) return -EISDIR
    const taken = this.#buffers.take()
    // In this turn if there is one: the sooner the data is taken, the less a guest can change it.
    const buffer = taken instanceof Uint8Array ? taken : await taken
    let done = 0
    try {
      while (done < length && request.isCurrent) {
        const chunk = buffer.subarray(0, Math.min(length - done, buffer.length))
        const moved = await move(chunk, done)
        done += moved
        if (moved < chunk.length) break
      }
    } finally {
      this.#buffers.give(buffer)
    }
    return done
  }
}

/** A name as text; undefined where it is no UTF-8, as no name of the user's is. */
function textOf(name: FileName): string | undefined {
  const { text, length } = name
  return Buffer.byteLength(text) === length && !text.includes('\ufffd') ? text : undefined
}

function changesOf({ changes }: FsRequest): UserChanges {
  const { hasMode, hasUid, hasGid, hasSize, hasModified } = changes
  const modified = changes.modifiedNow ? Date.now() : changes.modified * 1000 + changes.modifiedNs / 1_000_000
  return {
    ...(hasMode ? { mode: changes.mode & PERMISSIONS } : {}),
    ...(hasUid ? { uid: changes.uid } : {}),
    ...(hasGid ? { gid: changes.gid } : {}),
    ...(hasSize ? { size: changes.size } : {}),
    ...(hasModified ? { modified } : {}),
  }
}
