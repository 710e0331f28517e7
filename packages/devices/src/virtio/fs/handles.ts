/** The files and directories that a guest has open: numbers to what the file system gave for each. */

/** What it was opened as. */
export interface OpenMode {
  readonly isDirectory: boolean
  /** O_RDONLY, O_WRONLY or O_RDWR. */
  readonly access: number
}

/** Something that the guest has open. */
export interface OpenHandle<N, H> extends OpenMode {
  readonly node: N
  readonly handle: H
}

export class HandleTable<N extends object, H extends object> {
  readonly #open = new Map<number, OpenHandle<N, H>>()
  /** The most handles. */
  readonly capacity: number
  #next = 1

  constructor(capacity: number) {
    this.capacity = capacity
  }

  get size(): number {
    return this.#open.size
  }

  /** The number that a new one gets. */
  get next(): number {
    return this.#next
  }

  /** All, by number. */
  entries(): IterableIterator<[number, OpenHandle<N, H>]> {
    return this.#open.entries()
  }

  get isFull(): boolean {
    return this.#open.size >= this.capacity
  }

  /** @returns the number of the handle, 0 where there is no room */
  add(handle: H, node: N, { isDirectory, access }: OpenMode): number {
    if (this.isFull) return 0
    const id = this.#next
    this.#next += 1
    this.#open.set(id, { node, handle, isDirectory, access })
    return id
  }

  /** Numbers are given from here on. @param next above all of those that the guest has */
  continueFrom(next: number): void {
    this.#next = next
  }

  /** A number that the guest was given before is a handle again. */
  restore(id: number, open: OpenHandle<N, H>): void {
    this.#open.set(id, open)
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
