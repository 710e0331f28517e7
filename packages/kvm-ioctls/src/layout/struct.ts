/**
 * C structures, declared once: from the declaration come the size, the offsets, copies in and out, objects that read
 * and write the memory in place, and JSON. The tests hold every declaration against a C compiler's.
 */
import { outOfRange } from '../errors.ts'
import { type Field, invalidState, type Json, type LayoutMember } from './field.ts'

const BYTES: unique symbol = Symbol('bytes')

/**
 * A structure in place: the shape of `T`, whose properties read and write the memory. It costs no copy and no object,
 * so it is what hot code keeps and fills again and again. `JSON.stringify` and spreading see a copy by `toJSON()`.
 */
export type StructView<T> = T & {
  /** The memory. */
  readonly [BYTES]: Uint8Array<ArrayBuffer>
  /** The JSON form, as {@link Struct.toJSON} gives it. */
  toJSON(): Json
}

/**
 * The members of `T` in the order of the C structure. Names that begin with `_` are padding: zero, and not in `T`.
 */
export type StructMembers<T> = { readonly [K in keyof T]: Field<T[K]> } & {
  readonly [padding: `_${string}`]: Field<Uint8Array> | Field<number>
}

interface Placed {
  readonly key: string
  readonly offset: number
  readonly field: Field<unknown>
}

function alignUp(offset: number, align: number): number {
  return Math.ceil(offset / align) * align
}

/** A C structure that holds `T`. */
export class Struct<T extends object> implements Field<T> {
  /** Its name in C, without `struct`. */
  readonly name: string
  /** `sizeof` */
  readonly size: number
  /** `_Alignof` */
  readonly align: number
  readonly #members: readonly Placed[]
  readonly #all: readonly Placed[]
  readonly #View: new (
    view: DataView<ArrayBuffer>,
    offset: number,
  ) => StructView<T>

  /**
   * @param name its name in C; for a structure inside another, the path to it
   * @param members in order; each lands at the next multiple of its alignment, as C has it
   */
  constructor(name: string, members: StructMembers<T>) {
    let end = 0
    let align = 1
    this.#all = Object.entries<Field<unknown>>(members as never).map(([key, field]) => {
      const offset = alignUp(end, field.align)
      end = offset + field.size
      align = Math.max(align, field.align)
      return { key, offset, field }
    })
    this.name = name
    this.align = align
    this.size = alignUp(end, align)
    this.#members = this.#all.filter(({ key }) => !key.startsWith('_'))
    this.#View = viewClass(this, this.#members)
  }

  /** A new structure in place, all zero. */
  allocate(): StructView<T> {
    return this.live(new DataView(new ArrayBuffer(this.size)), 0)
  }

  /** The structure in place, over memory. */
  live(view: DataView<ArrayBuffer>, offset: number): StructView<T> {
    return new this.#View(view, offset)
  }

  /** A copy from memory. */
  get(view: DataView, offset: number): T {
    const value: Record<string, unknown> = {}
    for (const { key, offset: at, field } of this.#members) value[key] = field.get(view, offset + at)
    return value as T
  }

  /** A copy to memory; padding is left as it is. */
  set(view: DataView, offset: number, value: T, label: string): void {
    for (const { key, offset: at, field } of this.#members) {
      field.set(view, offset + at, (value as Record<string, unknown>)[key], `${label}.${key}`)
    }
  }

  /** A copy from bytes. */
  decode(bytes: Uint8Array): T {
    return this.get(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), 0)
  }

  /**
   * The memory of a structure in place.
   * @throws KvmError ERR_KVM_OUT_OF_RANGE for a plain object, and for a view of another structure
   */
  bytesOf(value: T): Uint8Array<ArrayBuffer> {
    if (!(value instanceof this.#View)) {
      throw outOfRange(this.name, 'a view that its allocate() or live() made', 'another object')
    }
    return value[BYTES]
  }

  /** The bytes of a value: those of a structure in place, or new ones. */
  encode(value: T): Uint8Array<ArrayBuffer> {
    if (value instanceof this.#View) return value[BYTES]
    const view = new DataView(new ArrayBuffer(this.size))
    this.set(view, 0, value, this.name)
    return new Uint8Array(view.buffer)
  }

  /** Plain JSON: 64-bit values and bytes as hexadecimal strings, everything else as numbers. */
  toJSON(value: T): Json {
    return Object.fromEntries(
      this.#members.map(({ key, field }) => [key, field.toJSON((value as Record<string, unknown>)[key])]),
    )
  }

  /**
   * A value from JSON. Every member must be there and fit; others are ignored.
   * @throws KvmError ERR_KVM_INVALID_STATE, naming the member
   */
  fromJSON(json: unknown, label: string = this.name): T {
    if (typeof json !== 'object' || json === null) throw invalidState(label, 'an object', json)
    return Object.fromEntries(
      this.#members.map(({ key, field }) => {
        const item = Object.hasOwn(json, key) ? (json as Record<string, unknown>)[key] : undefined
        return [key, field.fromJSON(item, `${label}.${key}`)]
      }),
    ) as T
  }

  /** The offset of a member, in bytes. */
  offsetOf(path: string): number {
    const member = this.members('', 0).find((candidate) => candidate.path === path)
    if (member === undefined) throw outOfRange(this.name, 'the name of a member', path)
    return member.offset
  }

  /** Every member and the members of members, padding left out. */
  members(path = '', offset = 0): LayoutMember[] {
    const prefix = path === '' ? '' : `${path}.`
    return this.#members.flatMap(({ key, offset: at, field }) => [
      { path: prefix + key, offset: offset + at, size: field.size },
      ...(field.members?.(prefix + key, offset + at) ?? []),
    ])
  }
}

const VIEW: unique symbol = Symbol('view')
const BASE: unique symbol = Symbol('base')
const PARTS: unique symbol = Symbol('parts')

/** The class of a structure's views. Its members are accessors of the prototype, so that all views have one shape. */
function viewClass<T extends object>(
  owner: Struct<T>,
  members: readonly Placed[],
): new (
  view: DataView<ArrayBuffer>,
  offset: number,
) => StructView<T> {
  const composites = members.filter(({ field }) => field.live !== undefined)
  class View {
    readonly [VIEW]: DataView
    readonly [BASE]: number
    readonly [BYTES]: Uint8Array
    readonly [PARTS]: readonly unknown[]
    constructor(view: DataView, base: number) {
      this[VIEW] = view
      this[BASE] = base
      this[BYTES] = new Uint8Array(view.buffer, view.byteOffset + base, owner.size)
      this[PARTS] = composites.map(({ field, offset }) => field.live?.(view, base + offset))
    }
    toJSON(): Json {
      return owner.toJSON(this as never)
    }
  }
  for (const { key, field, offset } of members) {
    const part = composites.findIndex((composite) => composite.key === key)
    Object.defineProperty(View.prototype, key, {
      enumerable: true,
      get(this: View) {
        return part >= 0 ? this[PARTS][part] : field.get(this[VIEW], this[BASE] + offset)
      },
      set(this: View, value: unknown) {
        field.set(this[VIEW], this[BASE] + offset, value, `${owner.name}.${key}`)
      },
    })
  }
  return View as never
}
