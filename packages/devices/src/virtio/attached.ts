/** A device's one transport. */
import { DevicesError } from '../error.ts'
import type { VirtioTransport } from './device.ts'

/**
 * The transport for a device to keep.
 * @param before the one that it has
 * @throws DevicesError ERR_DEVICE_OPTION where there is one already
 */
export function attachOnce(
  before: VirtioTransport | undefined,
  transport: VirtioTransport,
  name: string,
): VirtioTransport {
  if (before === undefined) return transport
  throw new DevicesError('ERR_DEVICE_OPTION', `${name} has a transport already: make a device for each`)
}
