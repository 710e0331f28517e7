/**
 * The options that give a VM its devices: the same for one that boots and for one that was saved.
 */
import type { AttachDevice } from '@vmm/microvm'
import { type Command, Option } from 'commander'
import { type BalloonOption, parseBalloon } from './devices/balloon.ts'
import { CONSOLES } from './devices/console.ts'
import { type DiskOption, diskDevice, parseDisk } from './devices/disk.ts'
import { type NetOption, netDevice, parseNet } from './devices/net.ts'
import { parseRng, type RngOption, rngDevice } from './devices/rng.ts'
import { parseShare, type ShareOption, shareDevice } from './devices/share.ts'
import { parseVsock, type VsockOption, vsockDevice } from './devices/vsock.ts'
import { UsageError } from './errors.ts'

/** The devices of a VM. */
export interface DeviceOptions {
  /** The disks: /dev/vda and so on. */
  readonly disk: readonly DiskOption[]
  /** The networks: eth0 and so on. */
  readonly net: readonly NetOption[]
  /** The entropy device; none without. */
  readonly rng?: RngOption
  /** Directories of the host. */
  readonly share: readonly ShareOption[]
  /** Sockets between guest and host; none without. */
  readonly vsock?: VsockOption
  /** The balloon; none without. */
  readonly balloon?: BalloonOption
}

/** As commander has them. True: without a value. */
export interface GivenDevices extends Omit<DeviceOptions, 'balloon' | 'rng'> {
  readonly balloon?: BalloonOption | true
  readonly rng?: RngOption | true
}

/** Where the guest's terminal is. */
export type ConsoleKind = (typeof CONSOLES)[number]

/** An option for each of several devices of a kind. */
function several<T>(
  flags: string,
  description: string,
  parse: (text: string, before?: readonly T[]) => readonly T[],
): Option {
  return new Option(flags, `${description}; more than once for more`).argParser(parse).default([], 'none')
}

/** Has a command take options for devices. */
export function addDeviceOptions(command: Command): Command {
  const disk = '--disk <path=FILE[,readonly=on][,id=NAME][,direct=on][,engine=NAME][,rate=BYTES][,iops=N]>'
  const net = '--net <tap=NAME[,mac=MAC][,queues=N][,rate=BYTES][,pps=N]>'
  const share = '--share <tag=NAME,path=DIRECTORY[,readonly=on]>'
  return command
    .addOption(several(disk, 'a disk', parseDisk))
    .addOption(several(net, 'a network, on a tap', parseNet))
    .option('--rng [rate=BYTES][,rps=N]', 'give the guest random numbers by virtio-rng', parseRng)
    .addOption(several(share, 'a directory of the host, by virtio-fs', parseShare))
    .option('--vsock <cid=N,uds=PATH>', 'connect sockets of guest and host, by a Unix socket', parseVsock)
    .option(
      '--balloon [target=SIZE][,deflate-on-oom=on][,reporting=on][,stats=SECONDS]',
      'let the guest give memory back',
      parseBalloon,
    )
}

/** Which console there is to choose. */
export function consoleOption(): Option {
  return new Option('--console <kind>', "the terminal's place: COM1, or hvc0")
    .choices(CONSOLES)
    .default('serial')
}

/** What was given, with nothing left to be guessed. */
export function completeDevices({ disk, net, share, vsock, rng, balloon }: GivenDevices): DeviceOptions {
  return {
    disk,
    net,
    share,
    ...(vsock === undefined ? {} : { vsock }),
    ...(rng === undefined ? {} : { rng: rng === true ? parseRng('') : rng }),
    ...(balloon === undefined ? {} : { balloon: balloon === true ? parseBalloon('') : balloon }),
  }
}

/** The options again, as arguments. */
export function deviceArguments(devices: DeviceOptions, console: ConsoleKind): string[] {
  const { disk, net, rng, share, vsock, balloon } = devices
  const list = (name: string, options: readonly { readonly text: string }[]) =>
    options.flatMap(({ text }) => (text === '' ? [name] : [name, text]))
  const one = (name: string, option: { readonly text: string } | undefined) =>
    option === undefined ? [] : list(name, [option])
  return [
    ...list('--disk', disk),
    ...list('--net', net),
    ...one('--rng', rng),
    ...list('--share', share),
    ...one('--vsock', vsock),
    ...one('--balloon', balloon),
    '--console',
    console,
  ]
}

/**
 * The devices of a VM that was saved, with other host sides where some were given.
 * @throws UsageError for a device that the saved VM did not have, or fewer or more of a kind
 */
export function replaceDevices(saved: DeviceOptions, given: DeviceOptions): DeviceOptions {
  const many = <T>(kind: string, before: readonly T[], now: readonly T[]): readonly T[] => {
    if (now.length === 0 || now.length === before.length) return now.length === 0 ? before : now
    throw new UsageError(`--${kind}: the saved VM has ${before.length} of them, not ${now.length}`)
  }
  const one = <T>(kind: string, before: T | undefined, now: T | undefined): T | undefined => {
    if (now === undefined || before !== undefined) return now ?? before
    throw new UsageError(`--${kind}: the saved VM has none`)
  }
  const rng = one('rng', saved.rng, given.rng)
  const vsock = one('vsock', saved.vsock, given.vsock)
  const balloon = one('balloon', saved.balloon, given.balloon)
  return {
    disk: many('disk', saved.disk, given.disk),
    net: many('net', saved.net, given.net),
    share: many('share', saved.share, given.share),
    ...(rng === undefined ? {} : { rng }),
    ...(vsock === undefined ? {} : { vsock }),
    ...(balloon === undefined ? {} : { balloon }),
  }
}

/** The devices but the console and the balloon, in the order in which the guest finds them. */
export function attachDevices({ disk, net, rng, share, vsock }: DeviceOptions): AttachDevice[] {
  const asked = [...disk.map(diskDevice), ...net.map(netDevice)]
  if (rng !== undefined) asked.push(rngDevice(rng))
  asked.push(...share.map(shareDevice))
  if (vsock !== undefined) asked.push(vsockDevice(vsock))
  return asked
}
