/** The files and directories that a guest has open: numbers to what the file system gave for each. */

interface Open<N, H> {
  readonly node: N
  readonly handle: H
  readonly isDirectory: boolean
}

export class HandleTable<N extends object, H extends object> {
  readonly #open = new Map<number, Open<N, H>>()
  readonly #capacity: number
  #next = 1

  constructor(capacity: number) {
    this.#capacity = capacity
  }

  get size(): number {
    return this.#open.size
  }

  get isFull(): boolean {
    return this.#open.size >= this.#capacity
  }

  /** @returns the number of the handle, 0 where there is no room */
  add(handle: H, node: N, isDirectory: boolean): number {
    if (this.isFull) return 0
    const id = this.#next
    this.#next += 1
    this.#open.set(id, { node, handle, isDirectory })
    return id
  }

  /** @returns undefined unless it is of that node and kind */
  get(id: number, node: N, isDirectory: boolean): H | undefined {
    const open = this.#open.get(id)
    return open?.node === node && open.isDirectory === isDirectory ? open.handle : undefined
  }

  /** Takes a handle out, of whatever node. @returns undefined unless it is of that kind */
  take(id: number, isDirectory: boolean): H | undefined {
    const open = this.#open.get(id)
    if (open?.isDirectory !== isDirectory) return undefined
    this.#open.delete(id)
    return open.handle
  }

  clear(release: (handle: H) => void): void {
    const handles = [...this.#open.values()]
    this.#open.clear()
    for (const { handle } of handles) release(handle)
  }
}
