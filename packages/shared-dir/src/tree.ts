/**
 * The files that a guest knows, and the descriptors that pin them. Every file is reached by one name in a directory that is open, or
 * by its own descriptor: there is no path that somebody could change on the way.
 */
import { closeFd, FileStatus, openBeneath } from '@vmm/sys-util'
import { NAME_SIZE, O_NOFOLLOW, O_PATH } from './linux.ts'
import { keyOf, Node, type NodeKey } from './node.ts'

const ENOENT = 2
const ENOTDIR = 20
const ESTALE = 116
/** The longest way down to a file whose descriptors were closed: longer ones cost too much to be gone for one request. */
const MAX_STEPS = 256

export class Tree {
  readonly root: Node
  /** Of the file that was looked at last. */
  readonly status: FileStatus = new FileStatus()
  readonly #known = new Map<NodeKey, Node>()
  /** All with a descriptor but the root, those that were opened first in front. */
  readonly #open = new Set<Node>()
  readonly #maxDescriptors: number
  readonly #crossMounts: { readonly crossMounts: boolean }
  readonly #name = Buffer.alloc(NAME_SIZE)
  readonly #way: Node[] = []

  /** @param fd of the directory to share: O_PATH, the tree's own from now on */
  constructor(fd: number, options: { readonly maxDescriptors: number; readonly crossMounts: boolean }) {
    this.#maxDescriptors = options.maxDescriptors
    this.#crossMounts = { crossMounts: options.crossMounts }
    this.status.read(fd)
    this.root = new Node(this.status)
    this.root.fd = fd
    this.#known.set(this.root.key, this.root)
  }

  /** Descriptors in use, without the root's. */
  get descriptors(): number {
    return this.#open.size
  }

  /** Files that are known, without the root. */
  get size(): number {
    return this.#known.size - 1
  }

  /**
   * Closes descriptors of files that were not used lately, down to the limit. Call it before a request, never in one: what
   * {@link fdOf} has given is good until then.
   */
  trim(): void {
    if (this.#open.size <= this.#maxDescriptors) return
    for (const node of this.#open) {
      if (this.#open.size <= this.#maxDescriptors) return
      this.#open.delete(node)
      if (node.isRecent) {
        // A second chance, behind all others.
        node.isRecent = false
        this.#open.add(node)
      } else {
        this.#unpin(node)
      }
    }
  }

  /**
   * A file's O_PATH descriptor, the tree's own. Where it was closed, that of a handle; where there is none, the way is gone again that led
   * to the file last, name by name.
   * @returns a negative errno where there is none: -ESTALE where that does not lead to the file any more
   */
  fdOf(node: Node): number {
    node.isRecent = true
    const fd = node.anyFd
    return fd >= 0 ? fd : this.#walkTo(node)
  }

  /**
   * Looks a name up; {@link status} is that of the file.
   * @param name with a NUL behind it
   * @returns the file, or a negative errno
   */
  find(directory: Node, name: Buffer, nameLength: number): Node | number {
    const parent = this.fdOf(directory)
    if (parent < 0) return parent
    const fd = openBeneath(parent, name, O_PATH | O_NOFOLLOW, this.#crossMounts)
    return fd < 0 ? fd : this.adopt(fd, directory, name.toString('latin1', 0, nameLength))
  }

  /**
   * The file of an O_PATH descriptor, which is the tree's own from now on; {@link status} is that of the file.
   * @returns a negative errno where it has none
   */
  adopt(fd: number, parent: Node, name: string): Node | number {
    const failed = this.status.read(fd)
    if (failed < 0) {
      closeFd(fd)
      return failed
    }
    const node = this.#lookUp() ?? this.#add(new Node(this.status, parent, name))
    if (node === this.root || node.fd >= 0) closeFd(fd)
    else this.#pin(node, fd)
    this.#moved(node, parent, name)
    return node
  }

  /** A name leads to another file now than it did: notes where that is, if it is known. */
  noteMove(directory: Node, name: Buffer, nameLength: number): void {
    const parent = this.fdOf(directory)
    if (parent < 0) return
    const fd = openBeneath(parent, name, O_PATH | O_NOFOLLOW, this.#crossMounts)
    if (fd < 0) return
    const node = this.status.read(fd) < 0 ? undefined : this.#lookUp()
    closeFd(fd)
    if (node !== undefined) this.#moved(node, directory, name.toString('latin1', 0, nameLength))
  }

  /** The guest does not know a file any more. It may be the way to others all the same. */
  forget(node: Node): void {
    if (node === this.root) return
    if (this.#known.get(node.key) === node) this.#known.delete(node.key)
    if (this.#open.delete(node)) this.#unpin(node)
  }

  /** Closes all descriptors, the root's too. What is asked for afterwards is refused. Idempotent. */
  close(): void {
    for (const node of this.#open) this.#unpin(node)
    this.#open.clear()
    this.#known.clear()
    if (this.root.fd >= 0) this.#unpin(this.root)
  }

  /** The known file that {@link status} is of. */
  #lookUp(): Node | undefined {
    const key = keyOf(this.status)
    const known = this.#known.get(key)
    // A file that was made later with the same number is another one.
    return known?.isSame(this.status, key) === true ? known : undefined
  }

  #add(node: Node): Node {
    this.#known.set(node.key, node)
    return node
  }

  #moved(node: Node, parent: Node, name: string): void {
    if (node === this.root) return
    node.parent = parent
    node.name = name
  }

  #pin(node: Node, fd: number): void {
    node.fd = fd
    node.isRecent = true
    this.#open.add(node)
  }

  #unpin(node: Node): void {
    const { fd } = node
    node.fd = -1
    closeFd(fd)
  }

  #walkTo(node: Node): number {
    const way = this.#way
    way.length = 0
    let at = node
    let fd = at.anyFd
    for (; fd < 0; fd = at.anyFd) {
      if (way.length === MAX_STEPS) return -ESTALE
      way.push(at)
      at = at.parent
    }
    for (let next = way.pop(); next !== undefined; next = way.pop()) {
      fd = this.#step(fd, next)
      if (fd < 0) return fd
    }
    return fd
  }

  /** Opens a file by the name that it had last, if it is still that one. */
  #step(directory: number, node: Node): number {
    const length = this.#name.write(node.name, 'latin1')
    this.#name[length] = 0
    const fd = openBeneath(directory, this.#name, O_PATH | O_NOFOLLOW, this.#crossMounts)
    // Out of descriptors, or not allowed to look: that says nothing of the file.
    if (fd < 0) return fd === -ENOENT || fd === -ENOTDIR ? -ESTALE : fd
    if (this.status.read(fd) < 0 || !node.isSame(this.status, keyOf(this.status))) {
      closeFd(fd)
      return -ESTALE
    }
    this.#pin(node, fd)
    return fd
  }
}
