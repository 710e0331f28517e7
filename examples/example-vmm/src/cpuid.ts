/**
 * The CPUID that a vCPU shows: what the host's KVM supports, with each vCPU's own identity put in. Intel SDM vol. 2A,
 * CPUID; Linux Documentation/virt/kvm/x86/cpuid.rst.
 */
import type { CpuidEntry } from '@vmm/kvm-ioctls'

const LEAF_FEATURES = 0x1
const LEAF_CACHE = 0x4
const LEAF_EXTENDED_FEATURES = 0x7
const LEAF_TOPOLOGY = 0xb
const LEAF_TOPOLOGY_V2 = 0x1f
const LEAF_AMD_TOPOLOGY = 0x8000_001e

/** Leaf 1 ECX: running under a hypervisor. */
const FEATURE_HYPERVISOR = 2 ** 31
/** Leaf 1 EDX: several logical processors in the package. */
const FEATURE_HTT = 2 ** 28
/** Leaf 7 EBX and EDX: `rep movsb` and `rep stosb` are quick. */
const FEATURE_ERMS = 2 ** 9
const FEATURE_FSRM = 2 ** 4
const TOPOLOGY_SMT = 1
const TOPOLOGY_CORE = 2

/** What to show. */
export interface CpuidOptions {
  /** The vCPU's index, which is its APIC id too. */
  readonly index: number
  /** How many vCPUs there are: one package, one thread per core. */
  readonly cpus: number
  /** Whether the guest should use byte string instructions for bulk copies: not where they are interpreted. */
  readonly fastStrings: boolean
}

const without = (word: number, bit: number): number => (word & ~bit) >>> 0

/** Bits to shift an APIC id by for the package's. */
function packageShift(cpus: number): number {
  return Math.ceil(Math.log2(cpus))
}

function topology(entry: CpuidEntry, { index, cpus }: CpuidOptions): CpuidEntry {
  // Level 0 is the thread within the core, level 1 the core within the package, level 2 the end.
  if (entry.index === 0) {
    return { ...entry, eax: 0, ebx: 1, ecx: TOPOLOGY_SMT << 8, edx: index }
  }
  if (entry.index === 1) {
    return { ...entry, eax: packageShift(cpus), ebx: cpus, ecx: (TOPOLOGY_CORE << 8) | 1, edx: index }
  }
  return { ...entry, eax: 0, ebx: 0, ecx: entry.index, edx: index }
}

/** The CPUID of one vCPU, from what KVM_GET_SUPPORTED_CPUID gives. */
export function vcpuCpuid(supported: readonly CpuidEntry[], options: CpuidOptions): CpuidEntry[] {
  const { index, cpus, fastStrings } = options
  return supported.map((entry) => {
    switch (entry.function) {
      case LEAF_FEATURES: {
        // EBX: initial APIC id, number of logical processors, CLFLUSH line and brand index.
        const ebx = ((index << 24) | (cpus << 16) | (entry.ebx & 0xffff)) >>> 0
        const edx = cpus > 1 ? (entry.edx | FEATURE_HTT) >>> 0 : without(entry.edx, FEATURE_HTT)
        return { ...entry, ebx, ecx: (entry.ecx | FEATURE_HYPERVISOR) >>> 0, edx }
      }
      case LEAF_CACHE:
        // EAX 31-26: cores in the package less one; 25-14: threads that share the cache less one.
        return { ...entry, eax: ((entry.eax & 0x3fff) | (Math.min(cpus - 1, 63) << 26)) >>> 0 }
      case LEAF_EXTENDED_FEATURES:
        if (fastStrings || entry.index !== 0) return entry
        return { ...entry, ebx: without(entry.ebx, FEATURE_ERMS), edx: without(entry.edx, FEATURE_FSRM) }
      case LEAF_TOPOLOGY:
      case LEAF_TOPOLOGY_V2:
        return topology(entry, options)
      case LEAF_AMD_TOPOLOGY:
        // EAX: extended APIC id; EBX: core id, one thread per core.
        return { ...entry, eax: index, ebx: index & 0xff, ecx: 0 }
      default:
        return entry
    }
  })
}
