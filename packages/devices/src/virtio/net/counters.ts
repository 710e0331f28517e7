/** What a network device counts: since it was made, not saved. */

/** Frames and their bytes, headers of virtio-net aside. Plain properties; the device alone writes them. */
export interface NetCounters {
  /** Frames of the guest's that the network took. */
  readonly txFrames: number
  /** Their bytes. */
  readonly txBytes: number
  /** Frames of the guest's that were dropped: malformed, too long, or of no use to the network. */
  readonly txDropped: number
  /** Frames that the guest was given. */
  readonly rxFrames: number
  /** Their bytes. */
  readonly rxBytes: number
  /** Frames for the guest that were dropped: no driver, the link down, no buffers long enough. */
  readonly rxDropped: number
}

/** As the device itself has them. */
export type MutableNetCounters = { -readonly [K in keyof NetCounters]: NetCounters[K] }

/** All of them zero. */
export function newNetCounters(): MutableNetCounters {
  return { txFrames: 0, txBytes: 0, txDropped: 0, rxFrames: 0, rxBytes: 0, rxDropped: 0 }
}
