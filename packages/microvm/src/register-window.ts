/**
 * The register pages of all virtio-mmio devices, as one read-only memory slot: reads of registers become reads of memory, and
 * writes still come out of the guest. Where there is no device the guest reads 0, which is no device's magic value (virtio
 * 1.2, 4.2.2).
 *
 * One slot for all, and before the interrupt controllers are made: each further change of memory slots waits for KVM's readers
 * (SRCU), some 4 ms by then.
 */
import { VIRTIO_MMIO_BASE, VIRTIO_MMIO_GSIS, VIRTIO_MMIO_SIZE } from '@vmm/devices/virtio'
import { KVM_CAP_READONLY_MEM, KVM_MEM_READONLY, type Vm } from '@vmm/kvm-ioctls'
import { Mapping } from '@vmm/sys-util'

/** Pages for as many devices as there are places. */
export class RegisterWindow {
  readonly #mapping: Mapping

  private constructor(mapping: Mapping) {
    this.#mapping = mapping
  }

  /**
   * Maps it.
   * @param slot the number of the memory slot
   * @returns undefined where this host's KVM has no read-only slots: each read is an exit then
   */
  static map(vm: Vm, slot: number): RegisterWindow | undefined {
    if (vm.checkExtension(KVM_CAP_READONLY_MEM) <= 0) return undefined
    const size = VIRTIO_MMIO_GSIS.length * VIRTIO_MMIO_SIZE
    const mapping = new Mapping({ size })
    try {
      vm.setUserMemoryRegion({
        slot,
        flags: KVM_MEM_READONLY,
        guestAddress: VIRTIO_MMIO_BASE,
        size,
        hostAddress: mapping.address,
      })
      return new RegisterWindow(mapping)
    } catch (error) {
      mapping.close()
      throw error
    }
  }

  /** The page of a device. @param address its guest address */
  page(address: number): Uint8Array {
    return new Uint8Array(this.#mapping.view(address - VIRTIO_MMIO_BASE, VIRTIO_MMIO_SIZE))
  }

  /** While no vCPU runs. Idempotent. */
  close(): void {
    this.#mapping.close()
  }
}
