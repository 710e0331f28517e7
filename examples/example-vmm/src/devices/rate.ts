/**
 * Limits of what a device may do in a second, as options give them.
 */
import type { RateLimit } from '@vmm/devices/virtio'
import type { KeyValues } from './key-values.ts'

const OPERATIONS_MAX = 1_000_000_000

/**
 * @param bytes the key for bytes in a second
 * @param operations the key for requests in a second
 * @throws InvalidArgumentError
 */
export function rateLimit(values: KeyValues, bytes: string, operations: string): RateLimit {
  const bytesPerSecond = values.size(bytes)
  const operationsPerSecond = values.wholeNumber(operations, { least: 1, most: OPERATIONS_MAX })
  return {
    ...(bytesPerSecond === undefined ? {} : { bytes: { perSecond: bytesPerSecond } }),
    ...(operationsPerSecond === undefined ? {} : { operations: { perSecond: operationsPerSecond } }),
  }
}
