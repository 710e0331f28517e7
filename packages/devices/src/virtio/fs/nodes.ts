/**
 * The nodes that a guest knows: numbers to the objects of a file system, with how often the guest has been given each. The guest
 * says how often it forgets, and is not believed further than the count goes.
 */
import { FUSE_ROOT_ID } from './spec.ts'

/** A node that the guest knows. */
export interface KnownNode<N> {
  readonly node: N
  /** Its number. */
  readonly id: number
  /** How often the guest has been given it. */
  lookups: number
}

export class NodeTable<N extends object> {
  readonly #byId = new Map<number, KnownNode<N>>()
  readonly #byNode = new Map<N, KnownNode<N>>()
  readonly #root: N
  /** The most nodes. */
  readonly capacity: number
  /** Numbers are not given twice. */
  #next = FUSE_ROOT_ID + 1

  constructor(root: N, capacity: number) {
    this.#root = root
    this.capacity = capacity
  }

  /** Without the root. */
  get size(): number {
    return this.#byId.size
  }

  /** The number that a new one gets. */
  get next(): number {
    return this.#next
  }

  /** All but the root, those that the guest has known for longest in front. */
  entries(): IterableIterator<Readonly<KnownNode<N>>> {
    return this.#byId.values()
  }

  /** What the guest knows of a node; undefined for the root, and where it knows nothing. */
  entryOf(node: N): Readonly<KnownNode<N>> | undefined {
    return this.#byNode.get(node)
  }

  /** The number that the guest knows a node by; undefined where it does not. */
  idOf(node: N): number | undefined {
    return node === this.#root ? FUSE_ROOT_ID : this.#byNode.get(node)?.id
  }

  get isFull(): boolean {
    return this.#byId.size >= this.capacity
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
    const id = this.#next
    this.#next += 1
    this.#set({ node, id, lookups: 1 })
    return id
  }

  /** Numbers are given from here on. @param next above all of those that the guest knows */
  continueFrom(next: number): void {
    this.#next = next
  }

  /** The guest knows a node by a number that it was given before. @returns false where it has another already, or is the root */
  restore(node: N, id: number, lookups: number): boolean {
    if (this.has(node)) return false
    this.#set({ node, id, lookups })
    return true
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

  #set(entry: KnownNode<N>): void {
    this.#byId.set(entry.id, entry)
    this.#byNode.set(entry.node, entry)
  }
}
