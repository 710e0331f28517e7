/**
 * A saved VM into a new one: whether its memory fits, and its vCPUs, with time gone on as it has for everybody.
 */
import type { Vm } from '@vmm/kvm-ioctls'
import type { GuestMemory } from '@vmm/vm-memory'
import { MicroVmError } from '../error.ts'
import { GuestVcpu, hex } from '../vcpu.ts'
import { elapsedSince, restoreClock } from './kvm-state.ts'
import type { MemoryRangeState, MicroVmState } from './microvm-state.ts'

/** Nanoseconds and kHz to ticks. */
const NS_KHZ_PER_TICK = 1_000_000n

/** @throws MicroVmError ERR_MICROVM_STATE for JSON, and where memory is not where the saved VM had it */
export function checkRanges(memory: GuestMemory, state: MicroVmState): void {
  // What JSON has besides.
  if (state?.memory === undefined || 'version' in state) {
    throw new MicroVmError('ERR_MICROVM_STATE', 'this is no state: what was saved goes through stateFromJson')
  }
  if (memory.isMadeOf(state.memory)) return
  const [saved, given] = [state.memory, memory.regions].map(describe)
  throw new MicroVmError('ERR_MICROVM_STATE', `the saved VM had its memory at ${saved}, this is at ${given}`)
}

function describe(ranges: readonly MemoryRangeState[]): string {
  return ranges.map(({ start, size }) => `${hex(start)}-${hex(start + size - 1)}`).join(', ')
}

/**
 * Makes the vCPUs, and sets the clocks.
 * @throws MicroVmError ERR_MICROVM_STATE, KvmError and SystemError for what this host's KVM does not take
 */
export function restoreVcpus(vm: Vm, { kvm, vcpus }: MicroVmState, memory: GuestMemory): GuestVcpu[] {
  const elapsed = elapsedSince(kvm)
  const tscTicks = (elapsed * BigInt(kvm.tscKhz)) / NS_KHZ_PER_TICK
  const restored = vcpus.map((state, index) => GuestVcpu.restore(vm, { index, state, tscTicks, memory }))
  restoreClock(vm, kvm, elapsed)
  return restored
}
