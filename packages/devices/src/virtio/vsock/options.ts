/** Options of the socket device. */
import { DevicesError } from '../../error.ts'
import { NODE_TIMERS, type Timers } from '../../host.ts'
import { VMADDR_CID_ANY, VMADDR_CID_HOST } from './spec.ts'
import type { VsockStreamOptions } from './stream.ts'

/** Options of {@link Vsock}. */
export interface VsockOptions {
  /** The guest's address: 3 to 4294967294. */
  readonly guestCid: number
  /**
   * The most bytes that a connection keeps for a reader who does not read, 4096 to 16777216. The guest waits when they are
   * reached, and is told of room when half of them is free. Default 131072.
   */
  readonly bufferSize?: number | undefined
  /**
   * The most connections, 1 to 1048576, both ways, those included whose stream has not been closed by the host. The guest's
   * further requests are refused. Default 8192.
   */
  readonly maxConnections?: number | undefined
  /** Default Node's, which do not keep the process alive. */
  readonly timers?: Timers | undefined
}

/** Options of {@link Vsock.connect}. */
export interface VsockConnectOptions extends VsockStreamOptions {
  /** How long to wait for the guest, in milliseconds, above 0 and up to 86400000. Default 5000. */
  readonly timeout?: number | undefined
  /** Gives up when it is aborted; default never. */
  readonly signal?: AbortSignal | undefined
}

/** @internal Options with their defaults, checked. */
export interface VsockSettings {
  readonly guestCid: number
  readonly bufferSize: number
  readonly maxConnections: number
  readonly timers: Timers
}

/** @internal @throws DevicesError ERR_DEVICE_OPTION */
export function vsockSettings(options: VsockOptions): VsockSettings {
  const { guestCid, bufferSize = 131072, maxConnections = 8192, timers = NODE_TIMERS } = options
  check('a guest CID', guestCid, VMADDR_CID_HOST + 1, VMADDR_CID_ANY - 1)
  check('the size of a buffer', bufferSize, 4096, 2 ** 24)
  check('the most connections', maxConnections, 1, 2 ** 20)
  return { guestCid, bufferSize, maxConnections, timers }
}

/** @internal @throws DevicesError ERR_DEVICE_OPTION */
export function checkTimeout(timeout: number): void {
  if (timeout > 0 && timeout <= 86_400_000) return
  throw new DevicesError('ERR_DEVICE_OPTION', `vsock: a timeout is up to 86400000 ms, got ${timeout}`)
}

function check(what: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return
  throw new DevicesError('ERR_DEVICE_OPTION', `vsock: ${what} is from ${least} to ${most}, got ${value}`)
}
