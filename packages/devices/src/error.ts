/**
 * The one error class of this package. It reports host misuse and host failure; what a guest does
 * never raises it, but for a device whose own code throws (`ERR_DEVICE_FAILED`).
 */

/**
 * What went wrong, for programs to match on.
 *
 * - `ERR_BUS_ACCESS`: a bus access of a length other than 1 to 8 bytes, or outside its data window
 * - `ERR_BUS_RANGE_INVALID`: a range that is empty, no integer, or leaves the address space
 * - `ERR_BUS_RANGE_OVERLAP`: a range that shares an address with one already there
 * - `ERR_BUS_RANGE_UNKNOWN`: no range starts at the address to be deregistered
 * - `ERR_DEVICE_BUSY`: a device whose state is asked for has work under way
 * - `ERR_DEVICE_FAILED`: a device's read or write threw; `cause` is what it threw
 * - `ERR_DEVICE_OPTION`: a device was given an option outside its range
 * - `ERR_DEVICE_SLOTS`: there is no place left for a device
 * - `ERR_DEVICE_STATE`: a saved state that no device of this kind can have produced
 *
 * Connections of virtio-vsock fail as Node's sockets do, for what knows those:
 *
 * - `EADDRINUSE`: the port is in use
 * - `ECONNREFUSED`: nobody listens there, or the guest has no driver yet
 * - `ECONNRESET`: the guest has reset the connection, or its whole device
 * - `EMFILE`: there are as many connections as may be
 * - `EPIPE`: a write to a guest that does not receive any more
 * - `ETIMEDOUT`: the guest did not answer
 */
export type DevicesErrorCode =
  | 'EADDRINUSE'
  | 'ECONNREFUSED'
  | 'ECONNRESET'
  | 'EMFILE'
  | 'EPIPE'
  | 'ERR_BUS_ACCESS'
  | 'ERR_BUS_RANGE_INVALID'
  | 'ERR_BUS_RANGE_OVERLAP'
  | 'ERR_BUS_RANGE_UNKNOWN'
  | 'ERR_DEVICE_BUSY'
  | 'ERR_DEVICE_FAILED'
  | 'ERR_DEVICE_OPTION'
  | 'ERR_DEVICE_SLOTS'
  | 'ERR_DEVICE_STATE'
  | 'ETIMEDOUT'

/** What a {@link DevicesError} can say beside its message. */
export interface DevicesErrorDetails {
  /** The guest address or port concerned. */
  readonly address?: number | undefined
  /** The length of the access or range, in bytes. */
  readonly size?: number | undefined
  /** The name under which the device is registered. */
  readonly device?: string | undefined
  readonly cause?: unknown
}

/** Host misuse or host failure in `@vmm/devices`. Match on {@link DevicesError.code}. */
export class DevicesError extends Error {
  override readonly name = 'DevicesError'
  readonly code: DevicesErrorCode
  /** The guest address or port concerned, where there is one. */
  readonly address: number | undefined
  /** The length of the access or range in bytes, where there is one. */
  readonly size: number | undefined
  /** The name under which the device is registered, where there is one. */
  readonly device: string | undefined

  constructor(code: DevicesErrorCode, message: string, details: DevicesErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.code = code
    this.address = details.address
    this.size = details.size
    this.device = details.device
  }
}

/** An address as every message of this package prints it: `0x3f8`. */
export function hex(address: number): string {
  return `0x${address.toString(16)}`
}
