/**
 * `--rng [rate=BYTES]`: random numbers of the host's for the guest, so many in a second at most.
 */
import { type RateLimit, Rng } from '@vmm/devices/virtio'
import type { AttachDevice } from '@vmm/microvm'
import { type AsGiven, KeyValues } from './key-values.ts'
import { rateLimit } from './rate.ts'

/** What `--rng` asks for. */
export interface RngOption extends AsGiven {
  readonly rateLimit: RateLimit
}

/** @param text empty: without a limit */
export function parseRng(text: string): RngOption {
  if (text === '') return { text, rateLimit: {} }
  return { text, rateLimit: rateLimit(new KeyValues(text, ['rate', 'rps']), 'rate', 'rps') }
}

export function rngDevice({ rateLimit }: RngOption): AttachDevice {
  return (host) => host.virtio.attach(new Rng({ rateLimit }))
}
