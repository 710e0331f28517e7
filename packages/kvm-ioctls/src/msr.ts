/**
 * Lists of model-specific registers, read and written by /dev/kvm (feature MSRs) and by vCPUs.
 */
import { type Handle, request, requestRaw } from './handle.ts'
import { u32 } from './layout/field.ts'
import { checkCount, List } from './list.ts'
import { kvm_msr_entry, kvm_msr_list, kvm_msrs, type Msr } from './structs/lists.ts'

/** The most MSRs in one request: `MAX_IO_MSRS` of arch/x86/kvm/x86.c. */
export const KVM_MAX_IO_MSRS = 256
const E2BIG = 7

/** Reads MSRs, in order, up to the first that KVM refuses. */
export function getMsrs(handle: Handle, indices: readonly number[]): Msr[] {
  checkCount('MSRs', indices.length, KVM_MAX_IO_MSRS)
  const wanted = indices.map((index) => ({ index, data: 0n }))
  const list = List.of(kvm_msrs.size, kvm_msr_entry, wanted, 'MSRs')
  return list.elements(request(handle, 'KVM_GET_MSRS', list.bytes))
}

/** Writes MSRs, in order, up to the first that KVM refuses; returns how many. */
export function setMsrs(handle: Handle, msrs: readonly Msr[]): number {
  checkCount('MSRs', msrs.length, KVM_MAX_IO_MSRS)
  return request(handle, 'KVM_SET_MSRS', List.of(kvm_msrs.size, kvm_msr_entry, msrs, 'MSRs').bytes)
}

/** A list of indices, however long: KVM says how long when the room does not suffice. */
export function getIndexList(
  handle: Handle,
  name: 'KVM_GET_MSR_INDEX_LIST' | 'KVM_GET_MSR_FEATURE_INDEX_LIST',
): number[] {
  const header = new List(kvm_msr_list.size, u32, 0)
  if (requestRaw(handle, name, header.bytes) !== -E2BIG) request(handle, name, header.bytes)
  const list = new List(kvm_msr_list.size, u32, header.count)
  request(handle, name, list.bytes)
  return list.elements()
}
