/**
 * The nodes that a guest knows: numbers to the objects of a file system, with how often the guest has been given each. The guest
 * says how often it forgets, and is not believed further than the count goes.
 */
import { FUSE_ROOT_ID } from './spec.ts'

interface Entry<N> {
  readonly node: N
  readonly id: number
  lookups: number
}

export class NodeTable<N extends object> {
  readonly #byId = new Map<number, Entry<N>>()
  readonly #byNode = new Map<N, Entry<N>>()
  readonly #root: N
  readonly #capacity: number
  /** Numbers are not given twice. */
  #next = FUSE_ROOT_ID + 1

  constructor(root: N, capacity: number) {
    this.#root = root
    this.#capacity = capacity
  }

  /** Without the root. */
  get size(): number {
    return this.#byId.size
  }

  get isFull(): boolean {
    return this.#byId.size >= this.#capacity
  }

  get(id: number): N | undefined {
    return id === FUSE_ROOT_ID ? this.#root : this.#byId.get(id)?.node
  }

  has(node: N): boolean {
    return node === this.#root || this.#byNode.has(node)
  }

  /** The guest is given a node once more. @returns its number, 0 where there is no room for a new one */
  add(node: N): number {
    if (node === this.#root) return FUSE_ROOT_ID
    const known = this.#byNode.get(node)
    if (known !== undefined) {
      known.lookups += 1
      return known.id
    }
    if (this.isFull) return 0
    const entry = { node, id: this.#next, lookups: 1 }
    this.#next += 1
    this.#byId.set(entry.id, entry)
    this.#byNode.set(node, entry)
    return entry.id
  }

  /** The guest forgets a node some times. @returns the node, where it does not know it any more */
  forget(id: number, count: number): N | undefined {
    const entry = this.#byId.get(id)
    if (entry === undefined) return undefined
    entry.lookups -= count
    if (entry.lookups > 0) return undefined
    this.#byId.delete(id)
    this.#byNode.delete(entry.node)
    return entry.node
  }

  /** The guest forgets everything. */
  clear(forget: (node: N) => void): void {
    const nodes = [...this.#byNode.keys()]
    this.#byId.clear()
    this.#byNode.clear()
    for (const node of nodes) forget(node)
  }
}
