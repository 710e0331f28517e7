/** Where virtio-mmio devices sit in a PC's guest-physical memory, and which interrupts they have. */
import { DevicesError } from '../../error.ts'
import { VIRTIO_MMIO_SIZE } from './registers.ts'

/** The first device's address: below 4 GiB, above the RAM of guests that leave the customary gap from 3 GiB on. */
export const VIRTIO_MMIO_BASE = 0xd000_0000

/**
 * The interrupts of a PC that nothing else of a microVM uses, in the order in which they are handed out. Those from 16 on
 * are pins of the I/O APIC alone: the guest's MP table or ACPI tables must name them.
 */
export const VIRTIO_MMIO_GSIS: readonly number[] = Object.freeze([
  5, 6, 7, 9, 10, 11, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23,
])

/** The place of one device. */
export interface MmioSlot {
  /** Guest address, a multiple of 4096. */
  readonly address: number
  /** In bytes: a page. */
  readonly size: number
  /** The interrupt: the line of an irqfd, and the number on the kernel's command line. */
  readonly gsi: number
}

/** Options of {@link MmioSlots}. */
export interface MmioSlotsOptions {
  /** Address of the first slot, a multiple of 4096; default {@link VIRTIO_MMIO_BASE}. */
  readonly base?: number | undefined
  /** Interrupts, one for each slot; default {@link VIRTIO_MMIO_GSIS}. */
  readonly gsis?: readonly number[] | undefined
}

/**
 * Hands out places, always in the same order: a restored VM gets what the saved one had.
 *
 * @example
 * ```ts
 * const slot = slots.take()
 * cmdline.virtioMmioDevice(slot.size, slot.address, slot.gsi) // of @vmm/linux-loader
 * ```
 */
export class MmioSlots {
  readonly #base: number
  readonly #gsis: readonly number[]
  #taken = 0

  /** @throws DevicesError ERR_DEVICE_OPTION for a base that is no page, and for an interrupt that is there twice */
  constructor(options: MmioSlotsOptions = {}) {
    const { base = VIRTIO_MMIO_BASE, gsis = VIRTIO_MMIO_GSIS } = options
    const last = base + gsis.length * VIRTIO_MMIO_SIZE
    if (!(Number.isSafeInteger(last) && base >= 0 && base % VIRTIO_MMIO_SIZE === 0)) {
      throw new DevicesError('ERR_DEVICE_OPTION', `virtio-mmio slots cannot begin at ${base}`, {
        address: base,
      })
    }
    if (new Set(gsis).size !== gsis.length || gsis.some((gsi) => !(Number.isInteger(gsi) && gsi >= 0))) {
      throw new DevicesError('ERR_DEVICE_OPTION', `no distinct interrupts: ${gsis.join(', ')}`)
    }
    this.#base = base
    this.#gsis = gsis
  }

  /** Places that are left. */
  get left(): number {
    return this.#gsis.length - this.#taken
  }

  /** The next place. @throws DevicesError ERR_DEVICE_SLOTS when there is none left */
  take(): MmioSlot {
    const gsi = this.#gsis[this.#taken]
    if (gsi === undefined) {
      const message = `all ${this.#gsis.length} virtio-mmio slots are taken: there are no more interrupts`
      throw new DevicesError('ERR_DEVICE_SLOTS', message)
    }
    const address = this.#base + this.#taken * VIRTIO_MMIO_SIZE
    this.#taken += 1
    return { address, size: VIRTIO_MMIO_SIZE, gsi }
  }
}
