/** What a connection asks of those around it: the device, the stream, and whoever waits for it to be made. */
import { DevicesError, type DevicesErrorCode } from '../../error.ts'
import type { PendingCall } from '../../host.ts'
import type { Connection } from './connection.ts'

/** What the device does for its connections. */
export interface ConnectionHost {
  /** There is a packet without payload to send: {@link Connection.takeOperation}. */
  control(connection: Connection): void
  /** There is payload to send. */
  data(connection: Connection): void
  /** {@link Connection.settle} has something to do. */
  wake(connection: Connection): void
  /** The guest's port pair is free again. */
  forget(connection: Connection): void
  /** Nobody holds anything for the connection any more. */
  released(): void
  /** Calls back later. */
  after(delayMs: number, callback: () => void): PendingCall
}

/** The stream of a connection, as far as the connection needs one. */
export interface ConnectionStream {
  push(chunk: Uint8Array | null): boolean
  destroy(error?: Error): unknown
}

/** What becomes of a connection that is being made. */
export interface Opening {
  /** The guest waits for an answer, and gets it by `accept` or `cancel`. */
  requested?(connection: Connection): void
  /** The guest has accepted. */
  opened?(connection: Connection): void
  /** It came to nothing. */
  failed?(error: Error): void
}

/** What a stream is told of a write or of its end. */
export type StreamCallback = (error?: Error | null) => void

/** An error as those of Node's sockets. */
export function connectionError(
  code: DevicesErrorCode,
  { hostPort, guestPort }: { readonly hostPort?: number; readonly guestPort: number },
  what: string,
): DevicesError {
  const host = hostPort === undefined ? '' : ` with port ${hostPort} of the host`
  return new DevicesError(code, `vsock: port ${guestPort} of the guest${host}: ${what}`)
}
