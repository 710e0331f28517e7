/** A tree that exists only in JavaScript: a nested object, to be read. */
import { DevicesError } from '../../error.ts'
import { NAME_MAX } from './spec.ts'
import type { Eventually, UserStat, UserTreeSource } from './user-source.ts'

/** What a file has in it. */
export type MemoryContents = string | Uint8Array

/**
 * One entry of a tree: the contents of a file, as they are or by a function; a {@link MemoryLink}; or a directory. A function is
 * asked when the guest looks at the file's attributes, and what it gave is what the guest reads then.
 */
export type MemoryEntry = MemoryContents | (() => Eventually<MemoryContents>) | MemoryLink | MemoryDirectory

/** Entries by name. */
export interface MemoryDirectory {
  readonly [name: string]: MemoryEntry
}

/** A symbolic link in a tree. */
export class MemoryLink {
  /** The text of the link. */
  readonly target: string

  /** @param target text of the link, which the guest follows */
  constructor(target: string) {
    this.target = target
  }
}

/** A file or directory of such a tree. */
export class MemoryNode {
  readonly type: UserStat['type']
  readonly children: ReadonlyMap<string, MemoryNode>
  readonly target: string
  bytes: Uint8Array
  modified: number
  readonly make: (() => Eventually<MemoryContents>) | undefined

  constructor(entry: MemoryEntry, modified: number) {
    const isFile = typeof entry === 'string' || typeof entry === 'function' || entry instanceof Uint8Array
    const isLink = entry instanceof MemoryLink
    this.type = isFile ? 'file' : isLink ? 'symlink' : 'directory'
    this.target = isLink ? entry.target : ''
    this.make = typeof entry === 'function' ? entry : undefined
    this.bytes = bytesOf(isFile && typeof entry !== 'function' ? entry : this.target)
    this.modified = modified
    this.children = new Map(
      isFile || isLink
        ? []
        : Object.entries(entry).map(([name, one]) => [checkName(name), new MemoryNode(one, modified)]),
    )
  }
}

function bytesOf(contents: MemoryContents): Uint8Array {
  return typeof contents === 'string' ? Buffer.from(contents) : contents
}

function checkName(name: string): string {
  const bytes = Buffer.byteLength(name)
  if (bytes > 0 && bytes <= NAME_MAX && !/[/\0]/.test(name) && name !== '.' && name !== '..') return name
  throw new DevicesError('ERR_DEVICE_OPTION', `a tree: no file can have the name ${JSON.stringify(name)}`)
}

async function refresh(node: MemoryNode, make: () => Eventually<MemoryContents>): Promise<UserStat> {
  const bytes = bytesOf(await make())
  if (Buffer.compare(bytes, node.bytes) !== 0) node.modified = Date.now()
  node.bytes = bytes
  return statOf(node)
}

function statOf({ type, bytes, modified }: MemoryNode): UserStat {
  return { type, size: bytes.length, modified }
}

/**
 * Makes a read-only tree of a nested object, for `UserTree`.
 * @throws DevicesError ERR_DEVICE_OPTION for a name that no file can have
 *
 * @example
 * ```ts
 * const tree = memoryTree({ 'hello.txt': 'hello\n', now: () => `${new Date()}\n`, src: { 'a.js': bytes } })
 * const device = new Fs({ tag: 'docs', fileSystem: new UserTree(tree) })
 * ```
 */
export function memoryTree(contents: MemoryDirectory): UserTreeSource<MemoryNode> {
  return {
    root: new MemoryNode(contents, Date.now()),
    lookup: (directory, name) => directory.children.get(name),
    stat: (node) => (node.make === undefined ? statOf(node) : refresh(node, node.make)),
    readdir: (directory) => directory.children.keys(),
    read: ({ bytes }, target, position) => {
      const piece = bytes.subarray(Math.min(position, bytes.length), position + target.length)
      target.set(piece)
      return piece.length
    },
    readlink: (link) => link.target,
  }
}
