/**
 * Guest writes that KVM has kept back: the ring behind KVM_REGISTER_COALESCED_MMIO. It belongs to the VM; each vCPU's
 * mapping shows it, so that of one vCPU is enough.
 */
import { size64 } from './layout/field.ts'
import { kvm_coalesced_mmio, kvm_coalesced_mmio_ring } from './structs/run.ts'

const PAGE_SIZE = 4096
const ENTRY_SIZE = kvm_coalesced_mmio.size
const HEADER_SIZE = kvm_coalesced_mmio_ring.size
/** `KVM_COALESCED_MMIO_MAX` */
const CAPACITY = Math.floor((PAGE_SIZE - HEADER_SIZE) / ENTRY_SIZE)
const FIRST = kvm_coalesced_mmio_ring.offsetOf('first') / Uint32Array.BYTES_PER_ELEMENT
const LAST = kvm_coalesced_mmio_ring.offsetOf('last') / Uint32Array.BYTES_PER_ELEMENT
const ADDRESS = kvm_coalesced_mmio.offsetOf('phys_addr')
const LENGTH = kvm_coalesced_mmio.offsetOf('len')
const PIO = kvm_coalesced_mmio.offsetOf('pio')
const DATA = kvm_coalesced_mmio.offsetOf('data')
const DATA_SIZE = 8

/**
 * The writes, oldest first. Take them before each exit is handled: they came before it.
 *
 *     while (ring.next()) bus.write(ring.space, ring.address, ring.data)
 *
 * One thread at a time.
 */
export class CoalescedRing {
  readonly #indices: Uint32Array
  readonly #page: DataView<ArrayBuffer>
  readonly #copy = new DataView(new ArrayBuffer(DATA_SIZE))
  /** Views of the copy, by length. */
  readonly #data: readonly DataView[]

  /** Where the write that {@link next} took went: to a port or to memory. */
  space: 'pio' | 'mmio' = 'mmio'
  /** The port, or the guest-physical address. */
  address = 0
  /** What was written, 1 to 8 bytes; a copy, good until {@link next} is called again. */
  data: DataView

  /** @param page the ring's page */
  constructor(page: DataView<ArrayBuffer>) {
    this.#page = page
    this.#indices = new Uint32Array(page.buffer, page.byteOffset, HEADER_SIZE / Uint32Array.BYTES_PER_ELEMENT)
    this.#data = Array.from({ length: DATA_SIZE + 1 }, (_, length) => {
      return new DataView(this.#copy.buffer, 0, length)
    })
    this.data = this.#copy
  }

  /** Takes the oldest write out of the ring into this object; false where there is none. */
  next(): boolean {
    const first = this.#indices[FIRST] ?? 0
    // KVM writes the entry before it moves `last` on.
    if (first === Atomics.load(this.#indices, LAST) || first >= CAPACITY) return false

    const page = this.#page
    const entry = HEADER_SIZE + first * ENTRY_SIZE
    this.space = page.getUint32(entry + PIO, true) === 1 ? 'pio' : 'mmio'
    this.address = size64.get(page, entry + ADDRESS)
    this.data = this.#data[page.getUint32(entry + LENGTH, true)] ?? this.#copy
    this.#copy.setUint32(0, page.getUint32(entry + DATA, true), true)
    this.#copy.setUint32(4, page.getUint32(entry + DATA + 4, true), true)

    Atomics.store(this.#indices, FIRST, (first + 1) % CAPACITY)
    return true
  }
}
