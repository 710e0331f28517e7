/**
 * The host's side of a network device, as the device sees it: for those who move frames straight between guest memory and
 * somewhere else. Most people want `UserNetwork`, which is one of these around a function that gets frames.
 */
import type { NetFrame } from './frame.ts'
import type { NetReceiver } from './receiver.ts'

/** A frame has been taken care of. */
export const NET_DONE = 0
/** There is no room for it now: it stays where it is, and whoever said so tells when to try again. */
export const NET_BUSY = 1
/** It was dropped: there is nobody to take it, or nobody ever could. */
export const NET_DROPPED = 2

/** What became of a frame. */
export type NetOutcome = 0 | 1 | 2

/** Frames whose checksum is not complete (VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM). As TUN_F_CSUM. */
export const NET_OFFLOAD_CSUM = 0b0001
/** Pieces of a TCP stream over IPv4, to be cut into packets (…_TSO4). Only with {@link NET_OFFLOAD_CSUM}. As TUN_F_TSO4. */
export const NET_OFFLOAD_TSO4 = 0b0010
/** The same over IPv6 (…_TSO6). As TUN_F_TSO6. */
export const NET_OFFLOAD_TSO6 = 0b0100
/** Such pieces with ECN bits (…_ECN). Only beside one of these. As TUN_F_TSO_ECN. */
export const NET_OFFLOAD_ECN = 0b1000
/** All of them. */
export const NET_OFFLOADS_ALL = 0b1111

/** What a network sees of its device. No method throws. */
export interface NetworkSink {
  /** The way to the guest for each pair of queues. */
  readonly receivers: readonly NetReceiver[]
  /** There is room again for frames that were {@link NET_BUSY}. */
  resume(pair: number): void
  /** Frames that were {@link NET_DONE} have come to nothing after all, with so many bytes. */
  dropped(frames: number, bytes: number): void
  /** The link has gone up or down: the guest is told. It is up at the beginning. */
  linkChanged(isUp: boolean): void
  /** Something failed, beside the frame that was dropped for it. */
  failure(error: unknown): void
}

/** Where the frames of a device go, and where those come from that it gives to the guest. */
export interface Network {
  /** `NET_OFFLOAD_*` bits: frames that it takes, and may give, beyond plain ones. Default none. */
  readonly offloads?: number | undefined
  /** The most pairs of queues that it works with; default 1. */
  readonly queuePairs?: number | undefined

  /** Once, before anything else. */
  attach(sink: NetworkSink): void

  /**
   * What the driver takes from now on. Called when it starts, when it changes its mind, and with 0 and 0 when it goes.
   * @param offloads `NET_OFFLOAD_*`, a part of those of this network
   * @param queuePairs in use: 0 to `queuePairs`
   */
  configure?(offloads: number, queuePairs: number): void

  /**
   * Takes a frame that the guest sends. Its memory is the guest's again when this returns, or, of a network that has `commit`, when
   * that does. What this throws drops the frame, and is reported.
   * @param frame to be read in here: used again for the next one
   * @param pair of queues that it came by
   * @returns with {@link NET_BUSY} the frame comes again after `NetworkSink.resume`
   */
  transmit(frame: NetFrame, pair: number): NetOutcome

  /** No more frames of this pair come in this turn: for networks that collect them. It follows every {@link transmit}. */
  commit?(pair: number): void

  /** The guest has room for frames again, after `NetReceiver` had none. */
  refill?(pair: number): void
}
