/**
 * `--rng [rate=BYTES]`: random numbers of the host's for the guest, so many in a second at most.
 */
import { type RateLimit, Rng } from '@vmm/devices/virtio'
import type { AttachDevice } from '@vmm/microvm'
import { KeyValues } from './key-values.ts'
import { rateLimit } from './rate.ts'

/** What `--rng` asks for. */
export interface RngOption {
  readonly rateLimit: RateLimit
}

/** Without a value there is no limit. */
export const UNLIMITED_RNG: RngOption = { rateLimit: {} }

export function parseRng(text: string): RngOption {
  return { rateLimit: rateLimit(new KeyValues(text, ['rate', 'rps']), 'rate', 'rps') }
}

export function rngDevice({ rateLimit }: RngOption): AttachDevice {
  return (host) => host.virtio.attach(new Rng({ rateLimit }))
}
