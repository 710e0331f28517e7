/**
 * KVM's part of a VM before it has vCPUs: interrupt controllers, timer, memory.
 */
import { KVM_PIT_SPEAKER_DUMMY, type Vm } from '@vmm/kvm-ioctls'
import type { GuestMemory } from '@vmm/vm-memory'
import { type KvmVmState, restoreKvmVm } from './state/kvm-state.ts'

/** Three pages that Intel's KVM needs for real mode, below the BIOS: where QEMU has them. */
const TSS_ADDRESS = 0xfffb_d000
const IDENTITY_MAP_ADDRESS = 0xfffb_c000

/**
 * Fills a new VM.
 * @param saved what {@link KvmVmState} has of one that is restored
 */
export function equipVm(vm: Vm, memory: GuestMemory, saved: KvmVmState | undefined): void {
  vm.setTssAddress(TSS_ADDRESS)
  vm.setIdentityMapAddress(IDENTITY_MAP_ADDRESS)
  vm.createIrqchip()
  vm.createPit2(KVM_PIT_SPEAKER_DUMMY)
  // Before the devices: those that had an interrupt pending make it again.
  if (saved !== undefined) restoreKvmVm(vm, saved)
  for (const [slot, region] of memory.regions.entries()) {
    const { start, size, hostAddress = 0n } = region
    vm.setUserMemoryRegion({ slot, guestAddress: start, size, hostAddress })
  }
}
