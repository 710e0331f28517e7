/**
 * Lists of CPUID leaves, as three kinds of KVM objects take and give them.
 */
import { type Handle, type RequestName, request } from './handle.ts'
import { checkCount, List } from './list.ts'
import { type CpuidEntry, kvm_cpuid_entry2, kvm_cpuid2 } from './structs/lists.ts'

/** The most entries that KVM has room for: `KVM_MAX_CPUID_ENTRIES` of arch/x86/include/asm/kvm_host.h. */
export const KVM_MAX_CPUID_ENTRIES = 256

/** Asks for a list of up to `max` entries; SystemError E2BIG where there are more. */
export function getCpuid(handle: Handle, name: RequestName, max: number): CpuidEntry[] {
  checkCount('CPUID', max, KVM_MAX_CPUID_ENTRIES, 1)
  const list = new List(kvm_cpuid2.size, kvm_cpuid_entry2, max)
  request(handle, name, list.bytes)
  return list.elements()
}

/** Hands a list over. */
export function setCpuid(handle: Handle, name: RequestName, entries: readonly CpuidEntry[]): void {
  checkCount('CPUID', entries.length, KVM_MAX_CPUID_ENTRIES)
  request(handle, name, List.of(kvm_cpuid2.size, kvm_cpuid_entry2, entries, 'CPUID').bytes)
}
