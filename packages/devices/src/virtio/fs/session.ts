/** What the device keeps of a guest's mount: the nodes that it knows and what it has open, both bounded. */
import type { CacheTime } from './attributes.ts'
import { cacheTime } from './attributes.ts'
import type { FileSystem } from './file-system.ts'
import { HandleTable } from './handles.ts'
import { NodeTable } from './nodes.ts'
import type { FsRequest } from './request.ts'

export class Session {
  readonly fileSystem: FileSystem
  readonly nodes: NodeTable<object>
  readonly handles: HandleTable<object, object>
  readonly time: CacheTime
  readonly #failed: (error: unknown) => void
  #generation = 0
  #isMounted = false

  /** @param failed gets what the file system throws where nobody waits for an answer */
  constructor(
    fileSystem: FileSystem,
    limits: { readonly nodes: number; readonly handles: number },
    failed: (error: unknown) => void,
  ) {
    this.fileSystem = fileSystem
    this.nodes = new NodeTable(fileSystem.root, limits.nodes)
    this.handles = new HandleTable(limits.handles)
    this.time = cacheTime(fileSystem.cacheSeconds)
    this.#failed = failed
  }

  /** Whether a guest has introduced itself: INIT came, and no DESTROY since. */
  get isMounted(): boolean {
    return this.#isMounted
  }

  /** A number for this mount, which no other has. */
  get generation(): number {
    return this.#generation
  }

  begin(): void {
    this.end()
    this.#isMounted = true
  }

  /** Closes and forgets everything. What requests under way give later is dropped. */
  end(): void {
    this.#generation += 1
    this.#isMounted = false
    this.handles.clear((handle) => this.release(handle))
    this.nodes.clear((node) => this.forget(node))
  }

  forget(node: object): void {
    try {
      this.fileSystem.forget?.(node)
    } catch (error) {
      this.#failed(error)
    }
  }

  release(handle: object): void {
    try {
      this.fileSystem.release?.(handle)
    } catch (error) {
      this.#failed(error)
    }
  }

  /** Gives back what a request got and the guest does not get to know of. */
  discard(request: FsRequest): void {
    const { opened, found } = request
    request.opened = undefined
    request.found = undefined
    if (opened !== undefined) this.release(opened)
    if (found !== undefined && !this.nodes.has(found)) this.forget(found)
  }
}
