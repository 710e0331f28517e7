/** The host's side of what the guest dials. */
import type { Connection } from './connection.ts'
import type { VsockStreamOptions } from './stream.ts'
import { VsockStream } from './stream.ts'

/** Listens on a port, until it is closed: what `net.Server` is for TCP. */
export interface VsockListener extends Disposable {
  /** The host's port. */
  readonly port: number
  /** Takes no more connections: the guest's requests are refused. Connections that are there stay. Idempotent. */
  close(): void
}

/** A connection that the guest asks for, on a port that nobody listens on. One answer. */
export class VsockRequest {
  /** The host's port: what the guest dials. */
  readonly port: number
  /** The guest's port. */
  readonly guestPort: number
  readonly #connection: Connection
  readonly #guestCid: number
  readonly #abort = new AbortController()

  /** @internal */
  constructor(connection: Connection, guestCid: number) {
    this.port = connection.hostPort
    this.guestPort = connection.guestPort
    this.#connection = connection
    this.#guestCid = guestCid
  }

  /** Aborted when the guest does not wait any more. */
  get signal(): AbortSignal {
    return this.#abort.signal
  }

  /** @returns the connection; undefined where the guest does not wait any more, or has been answered */
  accept(options?: VsockStreamOptions): VsockStream | undefined {
    if (!this.#connection.accept()) return undefined
    return new VsockStream(this.#connection, this.#guestCid, options)
  }

  /** Refuses the connection (RST). Nothing happens where the guest has been answered. */
  refuse(): void {
    if (this.#connection.isRequested) this.#connection.cancel()
  }

  /** @internal */
  gone(error: Error): void {
    this.#abort.abort(error)
  }
}
