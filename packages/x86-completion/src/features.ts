/**
 * What a completer must know of the CPU model, and how to read it from CPUID leaves.
 *
 * Only what changes results is here: sizes, offsets, masks. Whether the guest's CPUID offers an instruction is not asked;
 * one that KVM could not emulate and that is in the table is completed. (On hosts with a software KVM the guest
 * sees bits that KVM_GET_SUPPORTED_CPUID does not report.)
 */

/** A state component of the XSAVE feature set, from CPUID leaf 0xD, sub-leaf `index`. */
export interface XsaveComponent {
  /** Its bit in XCR0 or IA32_XSS, 2 to 62. */
  readonly index: number
  /** Bytes in an XSAVE area. */
  readonly size: number
  /** Offset in bytes from the start of a standard-format area; 0 for supervisor components, which have none. */
  readonly offset: number
  /** Enabled by IA32_XSS rather than XCR0. */
  readonly supervisor: boolean
  /** In the compacted format it starts at a multiple of 64 bytes. */
  readonly aligned: boolean
}

/** A CPU model. See {@link featuresFromCpuid}. */
export interface CpuFeatures {
  /** Width of physical addresses in bits, 32 to 52. */
  readonly physicalAddressBits: number
  /** Extended components in ascending order of index; x87 (0) and SSE (1) are always there. */
  readonly xsaveComponents: readonly XsaveComponent[]
  /** XCR0 bits that may be set: CPUID leaf 0xD, EAX and EDX. */
  readonly supportedXcr0: bigint
}

/** One CPUID leaf, field names as in struct kvm_cpuid_entry2; the registers unsigned. */
export interface CpuidEntry {
  readonly function: number
  readonly index: number
  readonly eax: number
  readonly ebx: number
  readonly ecx: number
  readonly edx: number
}

/** What CPUs have that lack leaf 0x80000008. */
const DEFAULT_PHYSICAL_ADDRESS_BITS = 36
/** x87 and SSE: what there is without leaf 0xD. */
const XCR0_LEGACY = 3n

const FIRST_EXTENDED_COMPONENT = 2
const LAST_COMPONENT = 62

/**
 * Reads {@link CpuFeatures} from CPUID leaves: those given to KVM_SET_CPUID2, or those of KVM_GET_SUPPORTED_CPUID. A leaf that
 * is absent counts as zeros.
 */
export function featuresFromCpuid(entries: Iterable<CpuidEntry>): CpuFeatures {
  const leaves = new Map<string, CpuidEntry>()
  for (const entry of entries) leaves.set(`${entry.function}.${entry.index}`, entry)
  const leaf = (number: number, index = 0): CpuidEntry | undefined => leaves.get(`${number}.${index}`)

  const xsaveComponents: XsaveComponent[] = []
  for (let index = FIRST_EXTENDED_COMPONENT; index <= LAST_COMPONENT; index++) {
    const entry = leaf(0xd, index)
    if (entry === undefined || entry.eax === 0) continue
    xsaveComponents.push({
      index,
      size: entry.eax,
      offset: entry.ebx,
      supervisor: (entry.ecx & 1) !== 0,
      aligned: (entry.ecx & 2) !== 0,
    })
  }
  const main = leaf(0xd)
  const bits = (leaf(0x80000008)?.eax ?? 0) & 0xff
  return {
    physicalAddressBits: bits === 0 ? DEFAULT_PHYSICAL_ADDRESS_BITS : bits,
    xsaveComponents,
    supportedXcr0:
      main === undefined ? XCR0_LEGACY : (BigInt(main.edx >>> 0) << 32n) | BigInt(main.eax >>> 0),
  }
}
