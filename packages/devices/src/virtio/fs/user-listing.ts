/** The names of a user's directory while it is open: they stay as they are while a guest goes through them. */
import type { DirectoryList } from './directory-list.ts'
import { NAME_MAX, S_IFDIR } from './spec.ts'

/** A name as it goes to the guest. */
interface ListedName {
  readonly text: string
  readonly buffer: Uint8Array
  readonly start: 0
  readonly length: number
}

const DOTS = ['.', '..'].map(listed)

function listed(text: string): ListedName {
  const buffer = Buffer.from(text)
  return { text, buffer, start: 0, length: buffer.length }
}

function isName({ text, length }: ListedName): boolean {
  return length > 0 && length <= NAME_MAX && !/[/\0]/.test(text) && text !== '.' && text !== '..'
}

export class Listing {
  #names: readonly ListedName[] = []
  #isEmpty = true

  /** Whether it was never filled. */
  get isEmpty(): boolean {
    return this.#isEmpty
  }

  get length(): number {
    return this.#names.length
  }

  fill(names: Iterable<string>): void {
    this.#isEmpty = false
    this.#names = Array.from(names, listed).filter(isName)
  }

  at(index: number): ListedName {
    return this.#names[index] as ListedName
  }
}

/** Where a list is to begin: 0 and 1 are the dots, then come the names. */
export function listingPosition({ positionLow, positionHigh }: DirectoryList): number {
  return positionHigh * 2 ** 32 + positionLow
}

/** Adds what of the two dots comes from a position on. @returns false where there was no room */
export function addDots(list: DirectoryList, position: number): boolean {
  for (let at = position; at < DOTS.length; at += 1) {
    if (!list.add(DOTS[at] as ListedName, { low: at + 1, high: 0 }, 0, S_IFDIR)) return false
  }
  return true
}
