/** What kind of KVM the host has, where that matters. */
import { existsSync } from 'node:fs'

/**
 * Whether this host's KVM interprets guest kernels in software (kvm-pvm) instead of letting the CPU run them. It decides
 * over speed alone: what is advertised to the guest, never what works.
 */
export function isInterpretingKvm(): boolean {
  return existsSync('/sys/module/kvm_pvm')
}
