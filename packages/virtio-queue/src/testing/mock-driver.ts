/**
 * The driver's side of a virtqueue, for tests and benches of devices: adds buffers, kicks, reaps, as a guest's driver
 * does, and breaks the rules on request. Written to be read, not to be fast; it shares no code with the device side
 * but the layout's constants.
 */
import type { VirtqueueFeatures } from '../features.ts'
import type { GuestMemory } from '../guest-memory.ts'
import { VirtqueueRegisters } from '../registers.ts'
import {
  VIRTQ_DESC_ADDR_OFFSET,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_FLAGS_OFFSET,
  VIRTQ_DESC_LEN_OFFSET,
  VIRTQ_DESC_NEXT_OFFSET,
  VIRTQ_DESC_SIZE,
} from '../spec.ts'
import type { Virtqueue, VirtqueuePosition } from '../virtqueue.ts'
import { locate } from './mock-memory.ts'

/** A buffer in guest memory. */
export interface MockBuffer {
  /** Guest address. */
  readonly address: number
  /** In bytes. */
  readonly length: number
  /** Whether the device writes to it; default false. */
  readonly writable?: boolean
}

/** A descriptor, any descriptor: nothing is checked. */
export interface RawDescriptor {
  /** 64 bits. */
  readonly address: number | bigint
  /** 32 bits. */
  readonly length: number
  /** As in memory; a packed ring's AVAIL and USED are added. */
  readonly flags: number
  /** Split: the next descriptor; default the one that follows. Packed: the buffer ID; default the driver's. */
  readonly next?: number
}

/** A buffer that the device has returned. */
export interface MockUsed {
  /** What `add` gave for it. */
  readonly token: number
  /** Bytes that the device says it has written. */
  readonly length: number
}

/** Where and how a driver sets up its queue. */
export interface MockDriverOptions {
  /** The guest's memory. */
  readonly memory: GuestMemory
  /** Entries. */
  readonly size: number
  /** Guest address from where on the driver allocates: its areas, tables and buffers; default 0x1000. */
  readonly base?: number
  /** What is negotiated; default nothing: a split queue without EVENT_IDX and indirect descriptors. */
  readonly features?: Partial<VirtqueueFeatures>
}

/** Both kinds of driver. */
export abstract class MockDriver {
  /** The guest's memory. */
  readonly memory: GuestMemory
  /** Entries. */
  readonly size: number
  /** What was negotiated. */
  readonly features: VirtqueueFeatures
  /** Guest address of the descriptor table or ring. */
  readonly descriptorArea: number
  /** Guest address of the available ring or the driver's event suppression. */
  readonly driverArea: number
  /** Guest address of the used ring or the device's event suppression. */
  readonly deviceArea: number
  #top: number
  readonly #tables = new Map<number, { readonly address: number; readonly entries: number }>()

  protected constructor(options: MockDriverOptions, driverBytes: number, deviceBytes: number) {
    const { packed = false, eventIndex = false, indirect = false } = options.features ?? {}
    this.memory = options.memory
    this.size = options.size
    this.features = { packed, eventIndex, indirect }
    this.#top = options.base ?? 0x1000
    this.descriptorArea = this.allocate(VIRTQ_DESC_SIZE * options.size, 16)
    this.driverArea = this.allocate(driverBytes, 4)
    this.deviceArea = this.allocate(deviceBytes, 4)
  }

  /** Descriptors that are free. */
  abstract readonly free: number

  /**
   * Takes guest memory, for good.
   * @param alignment a power of two; default 1
   * @returns its address. Whether there is memory at all shows when it is used.
   */
  allocate(length: number, alignment = 1): number {
    const address = Math.ceil(this.#top / alignment) * alignment
    this.#top = address + length
    return address
  }

  /**
   * Places buffers as one chain, which the device does not see before {@link publish}.
   * @param buffers at least one, in the order given: a wrong one is the test's choice
   * @param options.indirect whether they go into a table of their own; default false
   * @returns a token, or undefined where there are too few free descriptors
   */
  add(buffers: readonly MockBuffer[], options: { readonly indirect?: boolean } = {}): number | undefined {
    const isIndirect = options.indirect === true
    const slots = isIndirect ? 1 : buffers.length
    if (slots === 0 || slots > this.free) return undefined
    const raw = buffers.map(({ address, length, writable }, i) => ({
      address,
      length,
      flags:
        (writable ? VIRTQ_DESC_F_WRITE : 0) | (this.#links(isIndirect, i, buffers) ? VIRTQ_DESC_F_NEXT : 0),
    }))
    if (!isIndirect) return this.addRaw(raw)
    const address = this.#tableFor(buffers.length)
    raw.forEach((descriptor, i) => {
      this.writeDescriptorAt(address + VIRTQ_DESC_SIZE * i, {
        next: this.features.packed ? 0 : i + 1,
        ...descriptor,
      })
    })
    const length = VIRTQ_DESC_SIZE * buffers.length
    const token = this.addRaw([{ address, length, flags: VIRTQ_DESC_F_INDIRECT }])
    if (token !== undefined) this.#tables.set(token, { address, entries: buffers.length })
    return token
  }

  /**
   * Places descriptors as they are: the way to malformed chains.
   * @returns as {@link add}
   */
  abstract addRaw(descriptors: readonly RawDescriptor[]): number | undefined

  /** Makes available what was added since the last call. */
  abstract publish(): void

  /** Whether the device wants to be notified of what was published since the last call. */
  abstract needsKick(): boolean

  /** {@link add}, {@link publish} and {@link needsKick}. Throws where the queue is full. */
  send(buffers: readonly MockBuffer[], options: { readonly indirect?: boolean } = {}): boolean {
    if (this.add(buffers, options) === undefined) throw new Error('the queue has too few free descriptors')
    this.publish()
    return this.needsKick()
  }

  /** Takes a buffer back that the device has returned; undefined where there is none. */
  abstract reap(): MockUsed | undefined

  /** All that the device has returned. */
  reapAll(): MockUsed[] {
    const all: MockUsed[] = []
    for (let used = this.reap(); used !== undefined; used = this.reap()) all.push(used)
    return all
  }

  /**
   * Asks for a notification.
   * @param after how many buffers (split) or descriptors (packed) used from the last reaped on; default 1, and
   * without EVENT_IDX always 1
   * @returns whether something has been used already
   */
  abstract enableInterrupts(after?: number): boolean

  /** Asks for no notifications. */
  abstract disableInterrupts(): void

  /** Writes a descriptor of the table or ring, whoever it belongs to. */
  writeDescriptor(index: number, descriptor: RawDescriptor): void {
    this.writeDescriptorAt(this.descriptorArea + VIRTQ_DESC_SIZE * index, descriptor)
  }

  /** Writes a descriptor anywhere: into indirect tables. Default `next` is 0. */
  writeDescriptorAt(address: number, { address: buffer, length, flags, next = 0 }: RawDescriptor): void {
    const { view } = locate(this.memory, address)
    const [third, fourth] = this.features.packed ? [next, flags] : [flags, next]
    view.setBigUint64(VIRTQ_DESC_ADDR_OFFSET, BigInt(buffer), true)
    view.setUint32(VIRTQ_DESC_LEN_OFFSET, length, true)
    view.setUint16(VIRTQ_DESC_FLAGS_OFFSET, third, true)
    view.setUint16(VIRTQ_DESC_NEXT_OFFSET, fourth, true)
  }

  /** Writes size, addresses and ready, as a driver does through its transport. */
  configure(registers: VirtqueueRegisters): void {
    registers.setSize(this.size)
    registers.descriptorArea.set(this.descriptorArea)
    registers.driverArea.set(this.driverArea)
    registers.deviceArea.set(this.deviceArea)
    registers.ready = true
  }

  /**
   * The device's side of this queue. Throws the error that `VirtqueueRegisters.activate` returns.
   * @param position where it shall stand; default the beginning
   */
  activate(position?: VirtqueuePosition): Virtqueue {
    const registers = new VirtqueueRegisters(2 ** Math.ceil(Math.log2(this.size)))
    this.configure(registers)
    const queue = registers.activate(this.memory, this.features, position)
    if (queue instanceof Error) throw queue
    return queue
  }

  /** Gives an indirect table back. */
  protected freeTable(token: number): void {
    const table = this.#tables.get(token)
    if (table === undefined) return
    this.#tables.delete(token)
    this.#freeTables.push(table)
  }

  readonly #freeTables: { readonly address: number; readonly entries: number }[] = []

  #tableFor(entries: number): number {
    const at = this.#freeTables.findIndex((table) => table.entries === entries)
    const [table] = at < 0 ? [] : this.#freeTables.splice(at, 1)
    return table?.address ?? this.allocate(VIRTQ_DESC_SIZE * entries, 16)
  }

  /** In a packed ring's table nothing but order links. */
  #links(isIndirect: boolean, index: number, buffers: readonly MockBuffer[]): boolean {
    return index < buffers.length - 1 && !(isIndirect && this.features.packed)
  }
}
