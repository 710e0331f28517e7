// Kernel command lines for the test guest: every word with what it is for. Savings are instructions that
// the guest's kernel need not execute up to init (64 MiB, 1 CPU; README.md says how they were counted); an
// interpreting KVM takes some 0.75 us for one.

import { existsSync } from 'node:fs'

/** Words that are right on every host. */
export const EVERYWHERE = {
  'console=ttyS0': 'the first serial port is the console',
  quiet: 'messages stay in the log (dmesg): each byte on the console is an exit to the VMM',
  'panic=-1': 'a kernel that panics resets, which ends the VM, instead of waiting for ever',
  'acpi=off': 'CPUs and devices are found by the MP table and this line, in a fraction of the time',
}

/**
 * Words for a KVM that interprets the guest's kernel, on top of those; harmless, but no use, elsewhere. README.md says which
 * must not be here.
 */
export const INTERPRETED = {
  nofsgsbase: 'the FSGSBASE instructions lose the FS base there: user space would crash',
  'clearcpuid=erms,fsrm,smap,popcnt':
    'erms, fsrm: clear and copy memory by eight bytes, not one; smap, popcnt: no exit for CLAC, STAC and POPCNT',
  'noreplace-smp': 'on one CPU, thousands of LOCK prefixes stay in place instead of being patched out',
  'percpu_alloc=page': 'per-CPU data in single pages, not in a block of 2 MiB that is cleared first',
  'rodata=off': 'the direct map keeps its large pages: none is split to write-protect the kernel',
}

/**
 * Words that make guest time run slower than the host's by the ratio of tsc_early_khz to the real TSC
 * frequency, and timer ticks rarer with it. A harness's trick for an interpreting host: the guest's clocks
 * and timeouts are wrong. Not part of {@link commandLine}.
 * @public
 */
export const SLOW_TIME = ['no-kvmclock', 'tsc=reliable', 'tsc_early_khz=20800000']

/** True where the host's KVM is the kind that interprets guest kernels. */
export function isInterpretingHost() {
  return existsSync('/sys/module/kvm_pvm')
}

/**
 * A command line for the test guest on this host.
 *
 * @param {...string} more further words, such as `vmm.test=hello,smp` (README.md lists those of init)
 * @returns {string}
 */
export function commandLine(...more) {
  const words = Object.keys(isInterpretingHost() ? { ...EVERYWHERE, ...INTERPRETED } : EVERYWHERE)
  return [...words, ...more].join(' ')
}

/**
 * The same for a guest that finds everything by ACPI, its VM generation ID too: for VMs with `discovery: 'acpi'`.
 *
 * @param {...string} more further words
 * @returns {string}
 */
export function acpiCommandLine(...more) {
  return commandLine(...more).replace(/ acpi=off\b/, '')
}
