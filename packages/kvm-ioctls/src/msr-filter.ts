/**
 * Which MSRs a guest may touch: the argument of KVM_X86_SET_MSR_FILTER, checked before the kernel follows its pointers.
 */
import { addressOf } from '@vmm/sys-util'
import {
  KVM_MSR_FILTER_DEFAULT_ALLOW,
  KVM_MSR_FILTER_DEFAULT_DENY,
  KVM_MSR_FILTER_MAX_BITMAP_SIZE,
  KVM_MSR_FILTER_MAX_RANGES,
} from './constants/flags.ts'
import { outOfRange } from './errors.ts'
import { checkCount } from './list.ts'
import { kvm_msr_filter } from './structs/lists.ts'

/** A run of MSRs, a bit each. */
export interface MsrFilterRange {
  /** `KVM_MSR_FILTER_READ`, `KVM_MSR_FILTER_WRITE` or both: which accesses the bitmap is about. */
  readonly flags: number
  /** The first MSR. */
  readonly base: number
  /** How many MSRs, up to 8 times `KVM_MSR_FILTER_MAX_BITMAP_SIZE`. */
  readonly count: number
  /** MSR `base + n` in bit `n % 8` of byte `n / 8`: 1 allows, 0 denies. At least `count` bits. */
  readonly bitmap: Uint8Array
}

/** A filter. */
export interface MsrFilter {
  /** What happens to MSRs that no range covers. `deny` needs a range. */
  readonly default: 'allow' | 'deny'
  /** Up to 16. None, with `allow`, ends filtering. */
  readonly ranges: readonly MsrFilterRange[]
}

const NO_RANGE = { flags: 0, nmsrs: 0, base: 0, bitmap: 0n }

/**
 * The kernel's form of a filter. It holds addresses of the ranges' bitmaps: those must stay reachable until the
 * request has returned.
 */
export function encodeMsrFilter(filter: MsrFilter): Uint8Array<ArrayBuffer> {
  checkCount('MSR filter', filter.ranges.length, KVM_MSR_FILTER_MAX_RANGES)
  const ranges = filter.ranges.map(({ flags, base, count, bitmap }, index) => {
    const needed = Math.ceil(count / 8)
    if (needed > bitmap.length || needed > KVM_MSR_FILTER_MAX_BITMAP_SIZE) {
      const limit = Math.min(bitmap.length, KVM_MSR_FILTER_MAX_BITMAP_SIZE)
      throw outOfRange(`MSR filter, range ${index}`, `up to ${8 * limit} MSRs for this bitmap`, count)
    }
    return { flags, nmsrs: count, base, bitmap: addressOf(bitmap) }
  })
  const unused = KVM_MSR_FILTER_MAX_RANGES - ranges.length
  return kvm_msr_filter.encode({
    flags: filter.default === 'deny' ? KVM_MSR_FILTER_DEFAULT_DENY : KVM_MSR_FILTER_DEFAULT_ALLOW,
    ranges: [...ranges, ...Array<typeof NO_RANGE>(unused).fill(NO_RANGE)],
  })
}
