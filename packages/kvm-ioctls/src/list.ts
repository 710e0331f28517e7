/**
 * Arguments that are a count and an array behind it ("flexible array members"): CPUID, MSRs, routes, registers.
 */
import { outOfRange } from './errors.ts'
import type { Field } from './layout/field.ts'

/** A list as the kernel takes it, with room for `capacity` elements behind a header of `headerSize` bytes. */
export class List<T> {
  /** All of it: the request's argument. */
  readonly bytes: Uint8Array<ArrayBuffer>
  readonly #view: DataView<ArrayBuffer>
  readonly #headerSize: number
  readonly #element: Field<T>

  constructor(headerSize: number, element: Field<T>, capacity: number) {
    this.#view = new DataView(new ArrayBuffer(headerSize + capacity * element.size))
    this.bytes = new Uint8Array(this.#view.buffer)
    this.#headerSize = headerSize
    this.#element = element
    this.count = capacity
  }

  /** The list of `elements`. `label` names them in errors. */
  static of<T>(headerSize: number, element: Field<T>, elements: readonly T[], label: string): List<T> {
    const list = new List(headerSize, element, elements.length)
    elements.forEach((value, index) => {
      element.set(list.#view, headerSize + index * element.size, value, `${label}[${index}]`)
    })
    return list
  }

  /** The header's first word: how many elements count. */
  get count(): number {
    return this.#view.getUint32(0, true)
  }

  set count(count: number) {
    this.#view.setUint32(0, count, true)
  }

  /** Copies of the first `count` elements. */
  elements(count: number = this.count): T[] {
    return Array.from({ length: count }, (_, index) => {
      return this.#element.get(this.#view, this.#headerSize + index * this.#element.size)
    })
  }
}

/** Refuses a list that is longer than the kernel takes, before it is built. */
export function checkCount(label: string, count: number, max: number, min = 0): void {
  if (!(Number.isInteger(count) && count >= min && count <= max)) {
    throw outOfRange(label, `${min} to ${max} entries`, count)
  }
}
