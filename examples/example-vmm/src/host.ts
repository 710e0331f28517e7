/**
 * What is asked, held against what the host has; and what the host is, where that matters.
 */
import { existsSync } from 'node:fs'
import { totalmem } from 'node:os'
import type { Kvm } from '@vmm/kvm-ioctls'
import { type RunOptions, UsageError } from './options.ts'

const MIB = 2 ** 20

/**
 * Whether this host's KVM interprets guest kernels in software (kvm-pvm) instead of letting the CPU run them. It decides
 * over speed alone: what is advertised to the guest, never what works.
 */
export function isInterpretingKvm(): boolean {
  return existsSync('/sys/module/kvm_pvm')
}

/** @throws UsageError where the host cannot give what the options ask */
export function checkAgainstHost(options: Pick<RunOptions, 'cpus' | 'memory'>, kvm: Kvm): void {
  const { maxVcpus } = kvm
  if (options.cpus > maxVcpus) {
    throw new UsageError(`--cpus ${options.cpus}: this host's KVM allows ${maxVcpus} at most`)
  }
  const hostMib = Math.floor(totalmem() / MIB)
  if (options.memory > hostMib) {
    throw new UsageError(`--memory ${options.memory}: this host has ${hostMib} MiB`)
  }
}
