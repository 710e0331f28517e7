/** Guests with a FUSE driver over file systems of this test's making. */
import { MockMemory } from '@vmm/virtio-queue/testing'
import { FuseClient, FuseError } from '../../src/testing/index.ts'
import type { FileSystem, FsOptions, FsRequest, UserTreeSource } from '../../src/virtio/index.ts'
import { FS_ERRNO, Fs, UserTree } from '../../src/virtio/index.ts'

export const MEMORY_SIZE = 0x40_0000
export const ROOT = 1
export const S_IFREG = 0o100000
export const S_IFDIR = 0o040000

/** A guest, its device, its memory. */
export interface FsGuest {
  readonly device: Fs
  readonly client: FuseClient
  readonly memory: MockMemory
}

export function createGuest(fileSystem: FileSystem, options: Partial<FsOptions> = {}): FsGuest {
  const memory = new MockMemory([{ start: 0, size: MEMORY_SIZE }])
  const device = new Fs({ tag: 'test', fileSystem, ...options })
  return { device, memory, client: new FuseClient(device, memory) }
}

/** A guest that has mounted. */
export async function mounted(fileSystem: FileSystem, options: Partial<FsOptions> = {}): Promise<FsGuest> {
  const guest = createGuest(fileSystem, options)
  await guest.client.init()
  return guest
}

/** What a request is refused with. */
export async function refusal(request: Promise<unknown>): Promise<number> {
  try {
    await request
  } catch (error) {
    if (error instanceof FuseError) return -error.errno
    throw error
  }
  throw new Error('it was not refused')
}

/** A file in memory, or a directory of such. */
export interface Item {
  readonly children?: Map<string, Item>
  data: Uint8Array
}

export const fileItem = (text = ''): Item => ({ data: Buffer.from(text) })
export const directoryItem = (...entries: [string, Item][]): Item => ({
  children: new Map(entries),
  data: new Uint8Array(0),
})

/** Does everything that a `FileSystem` can, at once, as little as is needed for it; counts what it has given out. */
export class TestFileSystem implements FileSystem<Item, { readonly item: Item }> {
  readonly root: Item
  readOnly = false
  cacheSeconds = 1
  /** Nodes that were forgotten, and handles that are open. */
  readonly forgotten: Item[] = []
  readonly open_: Set<object> = new Set()

  constructor(root: Item = directoryItem()) {
    this.root = root
  }

  #describe(request: FsRequest<Item>, item: Item): number {
    request.attributes.clear()
    request.attributes.mode = item.children === undefined ? S_IFREG | 0o644 : S_IFDIR | 0o755
    request.attributes.size = item.data.length
    return 0
  }

  lookup(request: FsRequest<Item>): number {
    const item = request.node.children?.get(request.name.text)
    if (item === undefined) return request.node.children === undefined ? -FS_ERRNO.ENOTDIR : -FS_ERRNO.ENOENT
    request.found = item
    return this.#describe(request, item)
  }

  forget(node: Item): void {
    this.forgotten.push(node)
  }

  getattr(request: FsRequest<Item>): number {
    return this.#describe(request, request.node)
  }

  open(request: FsRequest<Item, { readonly item: Item }>): number {
    request.opened = { item: request.node }
    this.open_.add(request.opened)
    return 0
  }

  opendir(request: FsRequest<Item, { readonly item: Item }>): number {
    return this.open(request)
  }

  create(request: FsRequest<Item, { readonly item: Item }>): number {
    const item = fileItem()
    if (request.node.children === undefined) return -FS_ERRNO.ENOTDIR
    request.node.children.set(request.name.text, item)
    request.found = item
    request.opened = { item }
    this.open_.add(request.opened)
    return this.#describe(request, item)
  }

  read({ node, position, length, target }: FsRequest<Item>): number {
    return target.write(node.data.subarray(position, position + length))
  }

  write({ node, position, length, source }: FsRequest<Item>): number {
    if (position > 0x1_0000) return -FS_ERRNO.EFBIG
    const data = new Uint8Array(Math.max(node.data.length, position + length))
    data.set(node.data)
    source.read(data, position, length)
    node.data = data
    return length
  }

  readdir({ node, list, attributes }: FsRequest<Item>): number {
    const entries = [...(node.children ?? [])]
    for (let at = list.positionLow; at < entries.length; at += 1) {
      const [name, item] = entries[at] as [string, Item]
      const buffer = Buffer.from(name)
      attributes.mode = S_IFREG
      if (!list.add({ buffer, start: 0, length: buffer.length }, { low: at + 1, high: 0 }, 7, S_IFREG, item))
        break
    }
    return 0
  }

  release(handle: object): void {
    this.open_.delete(handle)
  }
}

/** A user's tree whose calls wait until the test lets them go on. */
export class SlowTree {
  readonly waiting: (() => void)[] = []
  readonly root: Item = directoryItem(['file', fileItem('contents')])
  readonly source: UserTreeSource<Item>

  constructor() {
    const turn = () => new Promise<void>((resolve) => this.waiting.push(resolve))
    this.source = {
      root: this.root,
      lookup: async (directory, name) => {
        await turn()
        return directory.children?.get(name)
      },
      stat: ({ children, data }) => ({
        type: children === undefined ? 'file' : 'directory',
        size: data.length,
      }),
      readdir: ({ children }) => children?.keys() ?? [],
      read: async ({ data }, target, position) => {
        await turn()
        return Buffer.from(data).copy(target, 0, position)
      },
      write: async (file, source, position) => {
        const before = Buffer.from(source)
        await turn()
        if (!before.equals(source)) throw new Error('a buffer changed under way')
        file.data = Buffer.concat([file.data.subarray(0, position), before])
      },
    }
  }

  get fileSystem(): UserTree<Item> {
    return new UserTree(this.source)
  }

  /** Lets all calls go on, and those that come of it. */
  async release(): Promise<void> {
    for (let turns = 0; turns < 20; turns += 1) {
      for (const resolve of this.waiting.splice(0)) resolve()
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
}
