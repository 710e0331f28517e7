/** The network device's options, and the configuration space and features that come of them (virtio 1.2, 5.1.3 to 5.1.5). */
import { DevicesError } from '../../error.ts'
import type { RateLimiter, RateLimiterOptions } from '../rate-limiter.ts'
import { featureBit } from '../spec.ts'
import { checkMac, parseMac, randomMac } from './mac.ts'
import type { Network } from './network.ts'
import {
  NET_OFFLOAD_CSUM,
  NET_OFFLOAD_ECN,
  NET_OFFLOAD_TSO4,
  NET_OFFLOAD_TSO6,
  NET_OFFLOADS_ALL,
} from './network.ts'
import * as spec from './spec.ts'

const QUEUE_PAIRS_MAX = 64
/** Every IP host takes packets of 68 bytes; 5.1.4.1 asks for as much. */
const MTU_MIN = 68
const MTU_MAX = 65535

/** Options of {@link Net}. */
export interface NetOptions {
  /** Where frames go, and where they come from. A device's own: it is attached. */
  readonly network: Network
  /** The guest's address, as text or as six bytes; default one at random. */
  readonly mac?: string | Uint8Array | undefined
  /** What the guest is told to use as MTU, in bytes: 68 to 65535; default nothing, which is 1500 for most. */
  readonly mtu?: number | undefined
  /** Pairs of queues, 1 to 64 and no more than the network has; default as many as that has. Linux uses one for each CPU. */
  readonly queuePairs?: number | undefined
  /** Entries of each queue: a power of two from 16 to 32768; default 256. */
  readonly queueSize?: number | undefined
  /** Whether the link is up at the beginning; default true. */
  readonly linkUp?: boolean | undefined
  /**
   * Limits on bytes and frames that the guest is given. What has to wait stays with the network, which drops what is too much.
   * A limiter can be shared with other devices. Default none.
   */
  readonly rxRateLimit?: RateLimiterOptions | RateLimiter | undefined
  /** Limits on bytes and frames that the guest sends. What has to wait stays in the queue. Default none. */
  readonly txRateLimit?: RateLimiterOptions | RateLimiter | undefined
}

/** Options with their defaults, checked. */
export interface NetSettings {
  readonly mac: Uint8Array
  readonly mtu: number | undefined
  readonly queuePairs: number
  readonly queueSize: number
  /** `NET_OFFLOAD_*`. */
  readonly offloads: number
}

/** @throws DevicesError ERR_DEVICE_OPTION */
export function netSettings(options: NetOptions): NetSettings {
  if (typeof options?.network?.transmit !== 'function') {
    refuse('there is no network in the options: new Net({ network })')
  }
  const { network, mtu, queueSize = 256 } = options
  const { offloads = 0, queuePairs: most = 1 } = network
  const { mac: wanted = randomMac(), queuePairs = Math.min(most, QUEUE_PAIRS_MAX) } = options
  const mac = typeof wanted === 'string' ? parseMac(wanted) : Uint8Array.from(wanted)
  checkMac(mac)
  if (mtu !== undefined && !(Number.isInteger(mtu) && mtu >= MTU_MIN && mtu <= MTU_MAX)) {
    refuse(`an MTU is ${MTU_MIN} to ${MTU_MAX} bytes, got ${mtu}`)
  }
  if (!(Number.isInteger(queuePairs) && queuePairs >= 1 && queuePairs <= Math.min(most, QUEUE_PAIRS_MAX))) {
    refuse(`1 to ${Math.min(most, QUEUE_PAIRS_MAX)} pairs of queues on this network, got ${queuePairs}`)
  }
  if (!(Number.isInteger(Math.log2(queueSize)) && queueSize >= 16 && queueSize <= 32768)) {
    refuse(`a queue has a power of two of entries, 16 to 32768, got ${queueSize}`)
  }
  const isWhole =
    (offloads & ~NET_OFFLOADS_ALL) === 0 && (offloads === 0 || (offloads & NET_OFFLOAD_CSUM) !== 0)
  if (!isWhole)
    refuse(`a network without partial checksums has no other offload, got 0x${offloads.toString(16)}`)
  return { mac, mtu, queuePairs, queueSize, offloads }
}

/** Which features an offload is: of the guest's frames, and of the network's. */
const OFFLOAD_FEATURES: readonly (readonly [offload: number, host: number, guest: number])[] = [
  [NET_OFFLOAD_CSUM, spec.VIRTIO_NET_F_CSUM, spec.VIRTIO_NET_F_GUEST_CSUM],
  [NET_OFFLOAD_TSO4, spec.VIRTIO_NET_F_HOST_TSO4, spec.VIRTIO_NET_F_GUEST_TSO4],
  [NET_OFFLOAD_TSO6, spec.VIRTIO_NET_F_HOST_TSO6, spec.VIRTIO_NET_F_GUEST_TSO6],
  [NET_OFFLOAD_ECN, spec.VIRTIO_NET_F_HOST_ECN, spec.VIRTIO_NET_F_GUEST_ECN],
]

/** The features of the guest's side, `VIRTIO_NET_F_GUEST_*`, that can be changed by a command. */
export const GUEST_OFFLOAD_FEATURES: number = OFFLOAD_FEATURES.reduce(
  (bits, [, , guest]) => bits | featureBit(guest),
  0,
)

/** `NET_OFFLOAD_*` of what a driver takes: its features, or the offloads of VIRTIO_NET_CTRL_GUEST_OFFLOADS. */
export function guestOffloads(features: number): number {
  return OFFLOAD_FEATURES.reduce(
    (bits, [offload, , guest]) => ((features & featureBit(guest)) === 0 ? bits : bits | offload),
    0,
  )
}

/**
 * Whether features go together (5.1.3.1). Drivers that take what depends on something else, and not that, are refused.
 */
export function acceptsNetFeatures(low: number): boolean {
  const has = (feature: number): boolean => (low & featureBit(feature)) !== 0
  const needs = (feature: number, ...others: readonly number[]): boolean => !has(feature) || others.some(has)
  return (
    needs(spec.VIRTIO_NET_F_GUEST_TSO4, spec.VIRTIO_NET_F_GUEST_CSUM) &&
    needs(spec.VIRTIO_NET_F_GUEST_TSO6, spec.VIRTIO_NET_F_GUEST_CSUM) &&
    needs(spec.VIRTIO_NET_F_GUEST_ECN, spec.VIRTIO_NET_F_GUEST_TSO4, spec.VIRTIO_NET_F_GUEST_TSO6) &&
    needs(spec.VIRTIO_NET_F_HOST_TSO4, spec.VIRTIO_NET_F_CSUM) &&
    needs(spec.VIRTIO_NET_F_HOST_TSO6, spec.VIRTIO_NET_F_CSUM) &&
    needs(spec.VIRTIO_NET_F_HOST_ECN, spec.VIRTIO_NET_F_HOST_TSO4, spec.VIRTIO_NET_F_HOST_TSO6) &&
    needs(spec.VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, spec.VIRTIO_NET_F_CTRL_VQ) &&
    needs(spec.VIRTIO_NET_F_GUEST_ANNOUNCE, spec.VIRTIO_NET_F_CTRL_VQ) &&
    needs(spec.VIRTIO_NET_F_MQ, spec.VIRTIO_NET_F_CTRL_VQ) &&
    needs(spec.VIRTIO_NET_F_CTRL_MAC_ADDR, spec.VIRTIO_NET_F_CTRL_VQ)
  )
}

/** Features 0 to 31. */
export function netFeatures({ offloads, mtu, queuePairs }: NetSettings): number {
  const features: number[] = [
    spec.VIRTIO_NET_F_MAC,
    spec.VIRTIO_NET_F_STATUS,
    spec.VIRTIO_NET_F_MRG_RXBUF,
    spec.VIRTIO_NET_F_CTRL_VQ,
    spec.VIRTIO_NET_F_CTRL_MAC_ADDR,
    spec.VIRTIO_NET_F_GUEST_ANNOUNCE,
  ]
  if (mtu !== undefined) features.push(spec.VIRTIO_NET_F_MTU)
  if (queuePairs > 1) features.push(spec.VIRTIO_NET_F_MQ)
  if (offloads !== 0) features.push(spec.VIRTIO_NET_F_CTRL_GUEST_OFFLOADS)
  for (const [offload, host, guest] of OFFLOAD_FEATURES) {
    if ((offloads & offload) !== 0) features.push(host, guest)
  }
  return features.reduce((bits, feature) => (bits | featureBit(feature)) >>> 0, 0)
}

function refuse(what: string): never {
  throw new DevicesError('ERR_DEVICE_OPTION', `virtio-net: ${what}`)
}
