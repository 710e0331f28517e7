/** What the switch asks of a port, and a port of the switch. */
import type { NetFrame, NetOutcome } from '@vmm/devices/virtio'
import type { MutablePortCounters } from './counters.ts'

/** A port, as the switch sees it. */
export interface Outlet {
  /** `NET_OFFLOAD_*` that frames going out may need. */
  readonly takes: number
  /** Whether anybody is there. */
  readonly isUp: boolean
  /** The one address that frames may come from; undefined for any. */
  readonly fixedMac: number | undefined
  readonly tally: MutablePortCounters
  /** It has got frames since it was flushed. The switch's to set. */
  isTouched: boolean
  /**
   * Takes a frame out.
   * @param frame rewound; to be read in here
   * @param pair of queues that it came in by, a hint to keep those of a flow in order
   */
  put(frame: NetFrame, pair: number): void
  /** No more frames come for now. */
  flush(): void
  /** The switch has time again for frames that it did not take. */
  resume(): void
}

/** The switch, as a port sees it. */
export interface Inlet {
  /** Whether a frame is on its way. */
  readonly isForwarding: boolean
  /**
   * A frame has come in.
   * @returns `NET_DONE`; `NET_DROPPED` where it is for nobody; `NET_BUSY` where enough was done in this turn of the event loop
   */
  forward(frame: NetFrame, from: Outlet, pair: number): NetOutcome
  /** No more frames come in for now. */
  flush(): void
  /** Forgets the addresses that were learned of a port. */
  forget(port: Outlet): void
  /** A port goes. */
  remove(port: Outlet): void
}
