/**
 * Pages that one vCPU has written: the ring of KVM_CAP_DIRTY_LOG_RING. Documentation/virt/kvm/api.rst, 8.29.
 */
import type { Mapping } from '@vmm/sys-util'
import { KVM_DIRTY_GFN_F_DIRTY, KVM_DIRTY_GFN_F_RESET } from './constants/exits.ts'
import { size64 } from './layout/field.ts'
import { kvm_dirty_gfn } from './structs/run.ts'

const ENTRY_SIZE = kvm_dirty_gfn.size
const ENTRY_WORDS = ENTRY_SIZE / Uint32Array.BYTES_PER_ELEMENT
const SLOT = kvm_dirty_gfn.offsetOf('slot')
const OFFSET = kvm_dirty_gfn.offsetOf('offset')

/**
 * The pages, oldest first. After all vCPUs' rings have been read, {@link Vm.resetDirtyRings} has KVM watch those pages again.
 *
 *     while (ring.next()) dirty.add(ring.slot, ring.page)
 */
export class DirtyRing {
  readonly #mapping: Mapping
  readonly #page: DataView<ArrayBuffer>
  readonly #words: Uint32Array
  readonly #entries: number
  #next = 0

  /** The slot that {@link next} took, address space in bits 31:16. */
  slot = 0
  /** The page within the slot. */
  page = 0

  /** @param mapping the ring's; closed along with it */
  constructor(mapping: Mapping) {
    const buffer = mapping.view()
    this.#mapping = mapping
    this.#page = new DataView(buffer)
    this.#words = new Uint32Array(buffer)
    this.#entries = mapping.size / ENTRY_SIZE
  }

  /** Takes the oldest page out of the ring into this object; false where there is none. */
  next(): boolean {
    const word = this.#next * ENTRY_WORDS
    // KVM writes the entry before it marks it so.
    if ((Atomics.load(this.#words, word) & KVM_DIRTY_GFN_F_DIRTY) === 0) return false

    const entry = this.#next * ENTRY_SIZE
    this.slot = this.#page.getUint32(entry + SLOT, true)
    this.page = size64.get(this.#page, entry + OFFSET)

    Atomics.store(this.#words, word, KVM_DIRTY_GFN_F_RESET)
    this.#next = (this.#next + 1) % this.#entries
    return true
  }

  /** Unmaps the ring. Idempotent; {@link Vcpu.close} does it too. */
  close(): void {
    this.#mapping.close()
  }
}
