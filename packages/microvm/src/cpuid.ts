/**
 * The CPUID that a vCPU shows: what the host's KVM supports, with each vCPU's own identity put in. Intel SDM vol. 2A,
 * CPUID; Linux Documentation/virt/kvm/x86/cpuid.rst.
 */
import { type CpuidEntry, KVM_CPUID_FLAG_SIGNIFCANT_INDEX } from '@vmm/kvm-ioctls'

const LEAF_FEATURES = 0x1
const LEAF_CACHE = 0x4
const LEAF_TOPOLOGY = 0xb
const LEAF_TOPOLOGY_V2 = 0x1f
const LEAF_AMD_SIZES = 0x8000_0008
const LEAF_AMD_TOPOLOGY = 0x8000_001e

/** Leaf 1 ECX: running under a hypervisor. */
const FEATURE_HYPERVISOR = 2 ** 31
/** Leaf 1 EDX: several logical processors in the package. */
const FEATURE_HTT = 2 ** 28
/** Leaf 1 ECX: CMPXCHG16B. */
const FEATURE_CX16 = 2 ** 13
/** Types of levels in the topology leaves. */
const LEVEL_END = 0
const LEVEL_SMT = 1
const LEVEL_CORE = 2

/** What to show. */
export interface CpuidOptions {
  /** The vCPU's index, which is its APIC id too. */
  readonly index: number
  /** How many vCPUs there are: one package, one thread per core. */
  readonly cpus: number
  /**
   * Whether guest kernels are interpreted in software: then they should not use CMPXCHG16B, which the interpreter lacks
   * and the VMM has to complete. Linux 6.1 has 7,000 of them by the time of /init.
   */
  readonly interpreted: boolean
}

const without = (word: number, bit: number): number => (word & ~bit) >>> 0

/** Bits of an APIC id that tell the cores of a package apart. */
function coreBits(cpus: number): number {
  return Math.ceil(Math.log2(cpus))
}

/** Leaves 0xB and 0x1F: one entry for each level, threads, cores, and the end. */
function topologyLeaf(leaf: number, { index, cpus }: CpuidOptions): CpuidEntry[] {
  const level = (number: number, type: number, eax: number, ebx: number): CpuidEntry => ({
    function: leaf,
    index: number,
    flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
    eax,
    ebx,
    ecx: (type << 8) | number,
    edx: index,
  })
  return [level(0, LEVEL_SMT, 0, 1), level(1, LEVEL_CORE, coreBits(cpus), cpus), level(2, LEVEL_END, 0, 0)]
}

/** The CPUID of one vCPU, from what KVM_GET_SUPPORTED_CPUID gives. */
export function vcpuCpuid(supported: readonly CpuidEntry[], options: CpuidOptions): CpuidEntry[] {
  const { index, cpus, interpreted } = options
  const isTopology = (leaf: number): boolean => leaf === LEAF_TOPOLOGY || leaf === LEAF_TOPOLOGY_V2
  const leaves = new Set<number>(supported.map((entry) => entry.function).filter(isTopology))
  const topology = [...leaves].flatMap((leaf) => topologyLeaf(leaf, options))
  const others = supported.filter((entry) => !leaves.has(entry.function))
  return [...others.map((entry) => ownEntry(entry)), ...topology]

  function ownEntry(entry: CpuidEntry): CpuidEntry {
    switch (entry.function) {
      case LEAF_FEATURES: {
        // EBX: initial APIC id, number of logical processors, CLFLUSH line and brand index.
        const ebx = ((index << 24) | (cpus << 16) | (entry.ebx & 0xffff)) >>> 0
        const ecx = (entry.ecx | FEATURE_HYPERVISOR) >>> 0
        const edx = cpus > 1 ? (entry.edx | FEATURE_HTT) >>> 0 : without(entry.edx, FEATURE_HTT)
        return { ...entry, ebx, ecx: interpreted ? without(ecx, FEATURE_CX16) : ecx, edx }
      }
      case LEAF_CACHE:
        // EAX 31-26: cores in the package less one; 25-14: threads that share the cache less one.
        return { ...entry, eax: ((entry.eax & 0x3fff) | (Math.min(cpus - 1, 63) << 26)) >>> 0 }
      case LEAF_AMD_SIZES:
        // ECX 15-12: bits of the APIC id for cores; 7-0: cores less one.
        return { ...entry, ecx: (coreBits(cpus) << 12) | (cpus - 1) }
      case LEAF_AMD_TOPOLOGY:
        // EAX: extended APIC id; EBX: core id, one thread per core; ECX: node 0 of 1.
        return { ...entry, eax: index, ebx: index & 0xff, ecx: 0 }
      default:
        return entry
    }
  }
}
