/**
 * What a microVM is made of, and what of it is impossible.
 */
import { totalmem } from 'node:os'
import type { BufferingStream } from '@vmm/devices'
import type { Kvm, VcpuExit } from '@vmm/kvm-ioctls'
import type { AttachDevice } from './device.ts'
import { MicroVmError } from './error.ts'

const MIB = 2 ** 20
const PAGE_SIZE = 4096
/** The least memory that makes sense: Linux and its tables do not fit below. */
export const MEMORY_MIN: number = 4 * MIB
const MEMORY_DEFAULT = 128 * MIB

/**
 * How a kernel is entered: `linux64` and `pvh` at the entry points of an ELF file, which a bzImage is unpacked to on the
 * host; `bzimage` leaves the unpacking to the guest, which can move the kernel about (KASLR) meanwhile. `auto` is
 * `bzimage` for a bzImage where the guest is no slower at it than the host, and `linux64` otherwise.
 */
export type KernelEntry = 'auto' | 'linux64' | 'pvh' | 'bzimage'

/**
 * How a guest finds its CPUs and devices. `cmdline`: by an MP table and the kernel's command line. `acpi`: by ACPI tables; the VM
 * generation ID, by which a clone knows that it is one, is in these alone. `both`: a kernel with ACPI takes its tables and nothing else, one
 * without takes the rest; one that looks at the command line in either case says that a device is there already.
 */
export type Discovery = 'both' | 'acpi' | 'cmdline'

/** Where a VM tells what happens in it. Every method is optional and runs in the vCPU's turn: take note and return. */
export interface MicroVmEvents {
  /** A vCPU came out of KVM_RUN. */
  exit?(reason: VcpuExit['reason']): void
  /** An instruction was completed for KVM, which could not emulate it. */
  completion?(mnemonic: string): void
  /** The guest wrote the boot marker: by convention, when it has reached user space. */
  bootMarker?(): void
  /** Something of the host's side of a device failed, which the guest sees as an error of the device. One sentence. */
  warning?(message: string): void
}

/** What a VM has on the host. */
export interface RestoreOptions {
  /** Path of the KVM device; default `/dev/kvm`. */
  readonly kvm?: string | undefined
  /** What is there besides a PC's legacy devices, in the order in which the guest finds them; default nothing. */
  readonly devices?: readonly AttachDevice[] | undefined
  /** Takes what the guest writes to its first serial port, up to 1 MiB ahead of the reader; default: nobody does. */
  readonly output?: BufferingStream | undefined
  /** Told of what happens in the VM; default nobody. */
  readonly events?: MicroVmEvents | undefined
}

/** What a VM is made of. */
export interface MicroVmOptions extends RestoreOptions {
  /** Path of the kernel image: ELF or bzImage. */
  readonly kernel: string
  /** Default `auto`. */
  readonly entry?: KernelEntry | undefined
  /** Path of the initial RAM disk; default none. */
  readonly initrd?: string | undefined
  /** The kernel's command line, printable ASCII, to which devices are added; default `console=ttyS0 reboot=k panic=-1`. */
  readonly cmdline?: string | undefined
  /** Default `both`. */
  readonly discovery?: Discovery | undefined
  /** Guest memory in bytes, whole pages of 4 KiB, 4 MiB or more; default 128 MiB. */
  readonly memory?: number | undefined
  /**
   * Whether the host may back guest memory with huge pages where it finds some (MADV_HUGEPAGE): faster for guests that use much
   * of it, for disks past the page cache twice as fast; but what a guest touches is taken from the host 2 MiB at a time.
   * Default the host's setting.
   */
  readonly transparentHugePages?: boolean | undefined
  /** Number of vCPUs, 1 to 254; all VMs of a process together have up to UV_THREADPOOL_SIZE - 1. Default 1. */
  readonly cpus?: number | undefined
}

/** Without a command line: a console, and a guest that ends instead of hanging. */
export const DEFAULT_CMDLINE = 'console=ttyS0 reboot=k panic=-1'

/** @internal Options with nothing left open. */
export type MicroVmSettings = {
  readonly [K in keyof MicroVmOptions]-?: K extends 'initrd' | 'output'
    ? MicroVmOptions[K]
    : NonNullable<MicroVmOptions[K]>
}

const ENTRIES: readonly KernelEntry[] = ['auto', 'linux64', 'pvh', 'bzimage']
const DISCOVERIES: readonly Discovery[] = ['both', 'acpi', 'cmdline']

function oneOf<T extends string>(option: string, value: T, allowed: readonly T[]): T {
  if (allowed.includes(value)) return value
  throw new MicroVmError('ERR_MICROVM_OPTION', `${option} is one of ${allowed.join(', ')}, not ${value}`)
}

/**
 * @internal
 * @throws MicroVmError ERR_MICROVM_OPTION, for callers whose compiler has not checked
 */
export function withDefaults(options: MicroVmOptions): MicroVmSettings {
  if (typeof options?.kernel !== 'string') {
    throw new MicroVmError('ERR_MICROVM_OPTION', 'kernel, the path of a kernel image, is missing')
  }
  return {
    kernel: options.kernel,
    entry: oneOf('entry', options.entry ?? 'auto', ENTRIES),
    initrd: options.initrd,
    cmdline: options.cmdline ?? DEFAULT_CMDLINE,
    discovery: oneOf('discovery', options.discovery ?? 'both', DISCOVERIES),
    memory: options.memory ?? MEMORY_DEFAULT,
    transparentHugePages: options.transparentHugePages ?? false,
    cpus: options.cpus ?? 1,
    kvm: options.kvm ?? '/dev/kvm',
    devices: options.devices ?? [],
    output: options.output,
    events: options.events ?? {},
  }
}

/**
 * @internal
 * @throws MicroVmError where the host cannot give what the options ask
 */
export function checkAgainstHost({ cpus, memory }: MicroVmSettings, kvm: Kvm): void {
  const { maxVcpus } = kvm
  if (!Number.isInteger(cpus) || cpus < 1) {
    throw new MicroVmError('ERR_MICROVM_CPUS', `a VM has one vCPU or more, not ${cpus}`)
  }
  if (cpus > maxVcpus) {
    throw new MicroVmError('ERR_MICROVM_CPUS', `${cpus} vCPUs: this host's KVM allows ${maxVcpus} at most`)
  }
  if (!Number.isSafeInteger(memory) || memory % PAGE_SIZE !== 0 || memory < MEMORY_MIN) {
    throw new MicroVmError(
      'ERR_MICROVM_MEMORY',
      `memory is in bytes, ${MEMORY_MIN} or more, in whole pages of ${PAGE_SIZE}: not ${memory}`,
    )
  }
  if (memory > totalmem()) {
    const [asked, there] = [memory, totalmem()].map((bytes) => Math.floor(bytes / MIB))
    throw new MicroVmError('ERR_MICROVM_MEMORY', `${asked} MiB of memory: this host has ${there} MiB`)
  }
}
