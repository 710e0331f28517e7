/** What is known of the objects of a user's tree: what each is, and by which name it was found. For as long as they exist. */
import type { NodeLocation } from './file-system.ts'

interface Place<N extends object> {
  readonly directory: N
  readonly name: string
}

export class UserNodes<N extends object> {
  /** What each is, as far as that was told: a guest may take a file for a directory. */
  readonly #types = new WeakMap<N, number>()
  /** Only those that have one. */
  readonly #inodes = new WeakMap<N, number>()
  readonly #places = new WeakMap<N, Place<N>>()

  /** @returns undefined for a node that was never described */
  typeOf(node: N): number | undefined {
    return this.#types.get(node)
  }

  /** @param type S_IFREG, S_IFDIR or S_IFLNK. @param inode 0 for none */
  describe(node: N, type: number, inode: number): void {
    this.#types.set(node, type)
    if (inode !== 0) this.#inodes.set(node, inode)
  }

  /** @param name as text, which has been checked */
  place(node: N, directory: N, name: string): void {
    this.#places.set(node, { directory, name })
  }

  /** As `FileSystem.locate`. Objects are others in each run: their type and the inode number that they say tell them apart. */
  locate(node: N): NodeLocation<N> | undefined {
    const place = this.#places.get(node)
    if (place === undefined) return undefined
    const type = this.#types.get(node) ?? 0
    return {
      directory: place.directory,
      name: Buffer.from(place.name).toString('latin1'),
      identity: `${type.toString(8)}:${this.#inodes.get(node) ?? 0}`,
    }
  }
}
