/**
 * The main loop: a vCPU runs, comes out for a reason, and goes on.
 */
import type { Bus } from '@vmm/devices'
import {
  type InternalErrorExit,
  KVM_INTERNAL_ERROR_EMULATION,
  KVM_SYSTEM_EVENT_RESET,
  KVM_SYSTEM_EVENT_SHUTDOWN,
  type VcpuExit,
} from '@vmm/kvm-ioctls'
import type { MicroVmEnd } from './end.ts'
import type { MicroVmEvents } from './options.ts'
import type { PauseGate } from './pause.ts'
import { type GuestVcpu, hex } from './vcpu.ts'

/** What a vCPU's loop needs of its machine. */
export interface VcpuHost {
  readonly pio: Bus
  readonly mmio: Bus
  readonly events: MicroVmEvents
  /** Where vCPUs are held while the VM is paused. */
  readonly gate: PauseGate
  /** Whether the VM has begun to end. */
  hasEnded(): boolean
  /** Ends the VM; the first call decides. */
  stop(end: MicroVmEnd): void
}

/** Runs a vCPU until the VM ends. */
export async function runVcpu(vcpu: GuestVcpu, host: VcpuHost): Promise<void> {
  while (!host.hasEnded()) {
    if (!host.gate.isShut) takeExit(await vcpu.kvm.run(), vcpu, host)
    else if (finishExit(vcpu, host)) await host.gate.wait()
  }
}

/**
 * Does to the guest what is left of its last exit, so that its state is whole.
 * @returns false where the VM has ended of it
 */
function finishExit(vcpu: GuestVcpu, host: VcpuHost): boolean {
  for (;;) {
    const exit = vcpu.kvm.completeExit()
    if (exit.reason === 'interrupted') return true
    takeExit(exit, vcpu, host)
    if (host.hasEnded()) return false
  }
}

function takeExit(exit: VcpuExit, vcpu: GuestVcpu, host: VcpuHost): void {
  host.events.exit?.(exit.reason)
  handleExit(exit, vcpu, host)
}

function handleExit(exit: VcpuExit, vcpu: GuestVcpu, host: VcpuHost): void {
  switch (exit.reason) {
    case 'io-in':
      for (let at = 0; at < exit.data.byteLength; at += exit.size) {
        host.pio.read(exit.port, exit.data, at, exit.size)
      }
      return
    case 'io-out':
      for (let at = 0; at < exit.data.byteLength; at += exit.size) {
        host.pio.write(exit.port, exit.data, at, exit.size)
      }
      return
    case 'mmio-read':
      return host.mmio.read(exit.address, exit.data, 0, exit.size)
    case 'mmio-write':
      return host.mmio.write(exit.address, exit.data, 0, exit.size)
    case 'interrupted':
      // A kick: of this vCPU, or of another by a signal that found this one's thread.
      return
    case 'internal-error':
      return handleInternalError(exit, vcpu, host)
    case 'shutdown':
      return host.stop(guestDied(vcpu, 'the guest died of a triple fault'))
    case 'system-event':
      if (exit.type === KVM_SYSTEM_EVENT_SHUTDOWN || exit.type === KVM_SYSTEM_EVENT_RESET) {
        return host.stop(
          exit.type === KVM_SYSTEM_EVENT_RESET
            ? { kind: 'reset', reason: 'the guest reset' }
            : { kind: 'shutdown', reason: 'the guest shut down' },
        )
      }
      return host.stop(guestDied(vcpu, `the guest died: system event ${exit.type}`))
    case 'fail-entry':
      return host.stop(
        guestDied(vcpu, `the CPU refused to enter the guest: hardware reason ${hex(exit.hardwareReason)}`),
      )
    case 'memory-fault':
      return host.stop(
        guestDied(vcpu, `guest memory failed: ${exit.code} for ${exit.size} bytes at ${hex(exit.address)}`),
      )
    default:
      return host.stop(
        guestDied(vcpu, `the guest left KVM_RUN with what no device here handles: ${exit.reason}`),
      )
  }
}

/** KVM could not emulate an instruction: on hosts that interpret guest kernels the package for that often can. */
function handleInternalError(exit: InternalErrorExit, vcpu: GuestVcpu, host: VcpuHost): void {
  if (exit.suberror !== KVM_INTERNAL_ERROR_EMULATION) {
    return host.stop(guestDied(vcpu, `KVM gave up the guest: internal error ${exit.suberror}`))
  }
  const outcome = vcpu.completeInstruction(exit.instruction)
  if (outcome.kind === 'unknown') {
    const bytes = Array.from(outcome.bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ')
    return host.stop(
      guestDied(vcpu, `KVM cannot emulate an instruction of the guest (bytes ${bytes || 'not readable'})`),
    )
  }
  host.events.completion?.(outcome.mnemonic ?? 'fetch')
}

function guestDied(vcpu: GuestVcpu, what: string): MicroVmEnd {
  return { kind: 'died', reason: `${what} (${vcpu.describe()})` }
}
