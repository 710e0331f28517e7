/**
 * Which performance events a guest may count: the argument of KVM_SET_PMU_EVENT_FILTER.
 */
import { u64 } from './layout/field.ts'
import { checkCount, List } from './list.ts'
import { kvm_pmu_event_filter } from './structs/lists.ts'

/** The most events: `KVM_PMU_EVENT_FILTER_MAX_EVENTS` of arch/x86/kvm/pmu.c. */
const EVENTS_MAX = 300

/** A filter. */
export interface PmuEventFilter {
  /** `KVM_PMU_EVENT_ALLOW`: the events and no others; `KVM_PMU_EVENT_DENY`: all but them. */
  readonly action: number
  /** Event selects and unit masks, or with flag `KVM_PMU_EVENT_FLAG_MASKED_EVENTS` masked entries. */
  readonly events: readonly bigint[]
  /** A bit for each fixed counter that the action is about; default 0. */
  readonly fixedCounters?: number
  /** Default 0. */
  readonly flags?: number
}

/** The kernel's form. */
export function encodePmuEventFilter(filter: PmuEventFilter): Uint8Array<ArrayBuffer> {
  const { action, events, fixedCounters = 0, flags = 0 } = filter
  checkCount('PMU event filter', events.length, EVENTS_MAX)
  const list = List.of(kvm_pmu_event_filter.size, u64, events, 'PMU event filter')
  list.bytes.set(
    kvm_pmu_event_filter.encode({
      action,
      nevents: events.length,
      fixed_counter_bitmap: fixedCounters,
      flags,
    }),
  )
  return list.bytes
}
