/**
 * KVM's part of a VM before it has vCPUs: interrupt controllers, timer, memory.
 */
import { KVM_PIT_SPEAKER_DUMMY, type Kvm, type Vm } from '@vmm/kvm-ioctls'
import type { GuestMemory } from '@vmm/vm-memory'
import { RegisterWindow } from './register-window.ts'
import { type KvmVmState, restoreKvmVm } from './state/kvm-state.ts'

/** Three pages that Intel's KVM needs for real mode, below the BIOS: where QEMU has them. */
const TSS_ADDRESS = 0xfffb_d000
const IDENTITY_MAP_ADDRESS = 0xfffb_c000

/** What a new VM is made with. */
export interface KvmVmOptions {
  readonly memory: GuestMemory
  /** Of one that is restored. */
  readonly saved: KvmVmState | undefined
  /** Takes what is to be closed after the VM. */
  own<T extends { close(): void }>(owner: T): T
}

/**
 * Makes a VM with memory and interrupt controllers. Memory comes first: after the controllers, whose ports are on KVM's buses, a
 * change of memory slots takes 4 ms more.
 * @returns it, and where the registers of its virtio devices are
 */
export function createKvmVm(
  kvm: Kvm,
  { memory, saved, own }: KvmVmOptions,
): { readonly vm: Vm; readonly registers: RegisterWindow | undefined } {
  const vm = own(kvm.createVm())
  vm.setTssAddress(TSS_ADDRESS)
  vm.setIdentityMapAddress(IDENTITY_MAP_ADDRESS)
  for (const [slot, region] of memory.regions.entries()) {
    const { start, size, hostAddress = 0n } = region
    vm.setUserMemoryRegion({ slot, guestAddress: start, size, hostAddress })
  }
  const registers = RegisterWindow.map(vm, memory.regions.length)
  if (registers !== undefined) own(registers)
  vm.createIrqchip()
  vm.createPit2(KVM_PIT_SPEAKER_DUMMY)
  if (saved !== undefined) restoreKvmVm(vm, saved)
  return { vm, registers }
}
