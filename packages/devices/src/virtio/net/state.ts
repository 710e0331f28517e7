/** What is saved of a network device beside its queues. */
import { StateChecker } from '../../state.ts'
import type { RateLimiterState } from '../rate-limit.ts'
import { GUEST_OFFLOAD_FEATURES } from './config.ts'
import { isDeviceMac } from './mac.ts'
import { MAC_SIZE } from './spec.ts'

/** What {@link Net.state} returns: plain data that survives JSON. */
export interface NetState {
  readonly version: 1
  /** Six bytes: the driver may have chosen others. */
  readonly mac: readonly number[]
  /** Whether the host wants the link up. Whether the network has one is its own to know. */
  readonly linkUp: boolean
  /** The driver has yet to announce itself. */
  readonly announce: boolean
  /** Pairs of queues in use. */
  readonly queuePairs: number
  /** `VIRTIO_NET_F_GUEST_*` bits that are switched on; null before the driver has chosen other than by its features. */
  readonly guestOffloads: number | null
  /** What is left of the limits; null where they are shared with other devices, who cannot say whose tokens those are. */
  readonly rxRateLimit: RateLimiterState | null
  readonly txRateLimit: RateLimiterState | null
}

/**
 * A state as if hostile. What is saved of the limits is theirs to check.
 * @param queuePairs the most
 * @throws DevicesError ERR_DEVICE_STATE
 */
export function checkNetState(state: unknown, queuePairs: number): NetState {
  const check = new StateChecker('virtio-net', state as object)
  check.version(1)
  const mac = check.bitsArray('mac', MAC_SIZE, MAC_SIZE, 0xff)
  if (!isDeviceMac(mac)) check.refuse('mac', 'the address of a device')
  const { guestOffloads, rxRateLimit, txRateLimit } = state as NetState
  return {
    version: 1,
    mac,
    linkUp: check.boolean('linkUp'),
    announce: check.boolean('announce'),
    queuePairs: check.integer('queuePairs', 1, queuePairs),
    guestOffloads: guestOffloads === null ? null : check.bits('guestOffloads', GUEST_OFFLOAD_FEATURES),
    rxRateLimit,
    txRateLimit,
  }
}
