/**
 * A mount that is saved, and one that is found again: by the same lookups and opens that a guest could ask for itself, so that a
 * state, wherever it comes from, reaches nothing else. What is not there any more, or is another file, is left out: to the guest its
 * number is one that nobody gave out.
 */
import type { FileSystem, FsOutcome, NodeLocation } from './file-system.ts'
import { FsRequest } from './request.ts'
import type { Session } from './session.ts'
import { FUSE_ROOT_ID, O_RDONLY } from './spec.ts'
import { type FsMountState, ROOT_INDEX, type SavedHandle, type SavedNode } from './state.ts'

/** The longest way to a file by directories that the guest has forgotten. Two that a host moved into each other have none. */
const WAY_MAX = 256

/** Files in an order in which each stands behind its directory. */
class NodeList {
  readonly nodes: SavedNode[] = []
  readonly #session: Session
  readonly #indices: Map<object, number>

  constructor(session: Session) {
    this.#session = session
    this.#indices = new Map([[session.fileSystem.root, ROOT_INDEX]])
  }

  /** Adds a file, and what of the way to it is not there yet; nothing where it cannot be found again. */
  add(node: object): void {
    const { fileSystem, nodes: known } = this.#session
    const way: { readonly node: object; readonly location: NodeLocation }[] = []
    let at = node
    let index = this.#indices.get(at)
    while (index === undefined) {
      const hasRoom = way.length < WAY_MAX && this.nodes.length + way.length < 2 * known.capacity
      const location = hasRoom ? fileSystem.locate?.(at) : undefined
      if (location === undefined) return
      way.push({ node: at, location })
      at = location.directory
      index = this.#indices.get(at)
    }
    for (const { node, location } of way.reverse()) {
      const { id = 0, lookups = 0 } = known.entryOf(node) ?? {}
      const { name, identity } = location
      this.#indices.set(node, this.nodes.length)
      index = this.nodes.push({ id, lookups, directory: index, name, identity }) - 1
    }
  }
}

/** What a guest knows of its mount. Files that cannot be found again are left out. */
export function saveMount(session: Session): FsMountState {
  const { nodes, handles } = session
  const list = new NodeList(session)
  for (const { node } of nodes.entries()) list.add(node)
  const open: SavedHandle[] = []
  for (const [id, { node, isDirectory, access }] of handles.entries()) {
    const number = nodes.idOf(node)
    // Of a file that is forgotten a handle can only be closed.
    if (number !== undefined) open.push({ id, node: number, isDirectory, access })
  }
  return { nextNode: nodes.next, nextHandle: handles.next, nodes: list.nodes, handles: open }
}

/** Finds files and opens them. Ends early when the guest has unmounted meanwhile. */
class Finder {
  readonly #session: Session
  readonly #generation: number
  readonly #request: FsRequest
  /** Nodes that the file system gave, and the guest may not know. */
  readonly #spare = new Set<object>()

  constructor(session: Session) {
    this.#session = session
    this.#generation = session.generation
    this.#request = new FsRequest(session)
  }

  get isCurrent(): boolean {
    return this.#generation === this.#session.generation
  }

  /** The file of that name, if it is the one that it was. */
  async find(directory: object, { name, identity }: SavedNode): Promise<object | undefined> {
    const { fileSystem } = this.#session
    const request = this.#request
    request.clear()
    request.node = directory
    request.name.set(Buffer.from(name, 'latin1'))
    await this.#settled(() => fileSystem.lookup(request))
    const { found } = request
    if (found === undefined) return undefined
    this.#spare.add(found)
    return fileSystem.locate?.(found)?.identity === identity ? found : undefined
  }

  /** What a handle is of, open again. */
  async open(node: object, { isDirectory, access }: SavedHandle): Promise<object | undefined> {
    const { fileSystem } = this.#session
    if (!isDirectory && access !== O_RDONLY && fileSystem.readOnly) return undefined
    const request = this.#request
    request.clear()
    request.node = node
    request.flags = isDirectory ? O_RDONLY : access
    const outcome = await this.#settled(
      () => openOf(fileSystem, isDirectory)?.call(fileSystem, request) ?? -1,
    )
    const { opened } = request
    if (opened === undefined || (outcome === 0 && this.isCurrent)) return opened
    this.#session.release(opened)
    return undefined
  }

  /** Gives back what the guest does not know. */
  end(): void {
    for (const node of this.#spare) if (!this.#session.nodes.has(node)) this.#session.forget(node)
  }

  /** @returns -1 for whatever is thrown: it is not there */
  async #settled(call: () => FsOutcome): Promise<number> {
    try {
      return await call()
    } catch {
      return -1
    }
  }
}

function openOf(fileSystem: FileSystem, isDirectory: boolean): FileSystem['open'] {
  return isDirectory ? fileSystem.opendir : fileSystem.open
}

/** Files to look for in one turn of the event loop: some milliseconds. */
const BATCH = 512

/**
 * Gives a session what a guest knew, as far as that is found. The session has begun, and takes no requests meanwhile.
 * @param turn lets others have a turn of the event loop
 * @returns how many files and handles were not found
 */
export async function restoreMount(
  session: Session,
  state: FsMountState,
  turn: () => Promise<void>,
): Promise<number> {
  const finder = new Finder(session)
  const { nodes, handles } = session
  nodes.continueFrom(state.nextNode)
  handles.continueFrom(state.nextHandle)
  const found: (object | undefined)[] = []
  let lost = 0
  for (const [i, saved] of state.nodes.entries()) {
    if (i % BATCH === BATCH - 1) await turn()
    const { id, lookups, directory: index } = saved
    const directory = index === ROOT_INDEX ? session.fileSystem.root : found[index]
    const node = directory === undefined ? undefined : await finder.find(directory, saved)
    if (!finder.isCurrent) break
    found.push(node)
    if (id !== 0 && (node === undefined || !nodes.restore(node, id, lookups))) lost += 1
  }
  for (const saved of state.handles) {
    if (!finder.isCurrent) break
    const node = saved.node === FUSE_ROOT_ID ? session.fileSystem.root : nodes.get(saved.node)
    const handle = node === undefined ? undefined : await finder.open(node, saved)
    if (node === undefined || handle === undefined) lost += 1
    else handles.restore(saved.id, { ...saved, node, handle })
  }
  finder.end()
  return lost
}
