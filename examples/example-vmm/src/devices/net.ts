/**
 * `--net tap=NAME[,mac=MAC][,queues=N][,rate=BYTES][,pps=N]`: as often as there are networks, in the order in which the guest
 * names them.
 */
import { formatMac, Net, parseMac, type RateLimit, randomMac } from '@vmm/devices/virtio'
import type { AttachDevice } from '@vmm/microvm'
import { openTap } from '@vmm/net/tap'
import { InvalidArgumentError } from 'commander'
import { type AsGiven, expectOnce, KeyValues } from './key-values.ts'
import { rateLimit } from './rate.ts'

/** One network, as it was asked for. */
export interface NetOption extends AsGiven {
  /** The name of the host's interface. */
  readonly tap: string
  /** The guest's address. */
  readonly mac: string
  readonly queues: number
  /** For each direction. */
  readonly rateLimit: RateLimit
}

/** As many as the guest has vCPUs make sense, and no more. */
const QUEUES_MAX = 64

/** Adds a network to those before it. */
export function parseNet(text: string, before: readonly NetOption[] = []): readonly NetOption[] {
  const values = new KeyValues(text, ['tap', 'mac', 'queues', 'rate', 'pps'])
  const tap = values.required('tap', 'NAME')
  const mac = formatMac(macOf(values.text('mac')))
  const queues = values.wholeNumber('queues', { least: 1, most: QUEUES_MAX }) ?? 1
  expectOnce(
    'tap',
    tap,
    before.map((net) => net.tap),
  )
  expectOnce(
    'mac',
    mac,
    before.map((net) => net.mac),
  )
  return [...before, { text, tap, mac, queues, rateLimit: rateLimit(values, 'rate', 'pps') }]
}

function macOf(text: string | undefined): Uint8Array {
  if (text === undefined) return randomMac()
  try {
    return parseMac(text)
  } catch (error) {
    throw new InvalidArgumentError(`${(error as Error).message}.`)
  }
}

/** A network card on a tap. */
export function netDevice({ tap, mac, queues, rateLimit }: NetOption): AttachDevice {
  return (host) => {
    const network = host.own(openTap(tap, { queues }))
    const device = new Net({ network, mac, rxRateLimit: rateLimit, txRateLimit: rateLimit })
    host.virtio.attach(device, { hostFailure: (error) => host.warn((error as Error).message) })
  }
}
