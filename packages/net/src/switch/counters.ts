/** What a port counts: since it was made. */

/** Frames and their bytes. Plain properties; the port alone writes them. */
export interface PortCounters {
  /** Frames that came in by this port, those that were dropped then among them. */
  readonly framesIn: number
  /** Their bytes. */
  readonly bytesIn: number
  /** Frames that went out by this port. */
  readonly framesOut: number
  /** Their bytes. */
  readonly bytesOut: number
  /** Frames that came in and went nowhere: from an address that the port may not use, or to nobody. */
  readonly refused: number
  /** Frames that should have gone out, and for which there was no room, or nobody there. */
  readonly dropped: number
}

/** As the device itself has them. */
export type MutablePortCounters = { -readonly [K in keyof PortCounters]: PortCounters[K] }

/** All of them zero. */
export function newPortCounters(): MutablePortCounters {
  return { framesIn: 0, bytesIn: 0, framesOut: 0, bytesOut: 0, refused: 0, dropped: 0 }
}
