/**
 * The command line: what may be asked, and which of it can't be.
 */
import { DEFAULT_CMDLINE, type KernelEntry, MEMORY_MIN } from '@vmm/microvm'
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander'
import { type BalloonOption, EMPTY_BALLOON, parseBalloon } from './devices/balloon.ts'
import { CONSOLES } from './devices/console.ts'
import { type DiskOption, parseDisk } from './devices/disk.ts'
import { type NetOption, parseNet } from './devices/net.ts'
import { parseRng, type RngOption, UNLIMITED_RNG } from './devices/rng.ts'
import { parseShare, type ShareOption } from './devices/share.ts'
import { parseVsock, type VsockOption } from './devices/vsock.ts'
import { UsageError } from './errors.ts'

/** Bytes in what --memory counts. */
export const MIB: number = 2 ** 20

const KERNEL_ENTRIES = ['auto', 'linux64', 'pvh', 'bzimage'] as const satisfies KernelEntry[]

/** `example-vmm run`, checked as far as it can be without looking at the host. */
export interface RunOptions {
  /** Path of the kernel image: ELF or bzImage. */
  readonly kernel: string
  /** How the kernel is entered. */
  readonly entry: KernelEntry
  /** Path of the initial RAM disk. */
  readonly initrd?: string
  /** The kernel's command line. */
  readonly cmdline: string
  /** Guest memory in MiB. */
  readonly memory: number
  /** Guest memory in huge pages where the host finds some. */
  readonly transparentHugePages: boolean
  /** Number of vCPUs. */
  readonly cpus: number
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
  /** Where the terminal is: at COM1, or at hvc0. */
  readonly console: (typeof CONSOLES)[number]
  /** The balloon; none without. */
  readonly balloon?: BalloonOption
  /** Path of the KVM device. */
  readonly kvm: string
  /** Ends the VM after so many seconds. */
  readonly timeout?: number
  /** Where to write the report. */
  readonly report?: string
}

/** As commander has them. */
interface GivenOptions extends Omit<RunOptions, 'cmdline' | 'balloon' | 'rng'> {
  readonly cmdline?: string
  /** True: without a value. */
  readonly balloon?: BalloonOption | true
  /** True: without a value. */
  readonly rng?: RngOption | true
}

/** @throws UsageError for options that do not go together */
function complete(given: GivenOptions): RunOptions {
  const { balloon, rng, cmdline = defaultCmdline(given.console), ...options } = given
  return {
    ...options,
    cmdline,
    ...(rng === undefined ? {} : { rng: rng === true ? UNLIMITED_RNG : rng }),
    ...(balloon === undefined ? {} : { balloon: fitting(balloon, options.memory) }),
  }
}

/** A balloon that leaves the guest something. */
function fitting(asked: BalloonOption | true, memory: number): BalloonOption {
  const balloon = asked === true ? EMPTY_BALLOON : asked
  if (balloon.target >= memory * MIB) {
    const target = `a target of ${balloon.target / MIB} MiB`
    throw new UsageError(`--balloon: ${target} leaves nothing of ${memory} MiB of memory`)
  }
  return balloon
}

function defaultCmdline(console: RunOptions['console']): string {
  return console === 'virtio' ? DEFAULT_CMDLINE.replace('ttyS0', 'hvc0') : DEFAULT_CMDLINE
}

function wholeNumber(least: number, most: number, unit: string): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (/^\d+$/.test(text) && value >= least && value <= most) return value
    throw new InvalidArgumentError(`Expected a whole number of ${unit} from ${least} to ${most}.`)
  }
}

function seconds(text: string): number {
  const value = Number(text)
  if (/^\d+(\.\d+)?$/.test(text) && value > 0 && value <= 2_000_000) return value
  throw new InvalidArgumentError('Expected seconds, above 0 and up to 2000000.')
}

/**
 * Parses the arguments after the program's name.
 * @returns the options, or undefined where help or the version was asked for and has been printed
 * @throws UsageError
 */
export function parseArguments(args: readonly string[]): RunOptions | undefined {
  let options: RunOptions | undefined
  let complaint = ''
  const program = new Command('example-vmm')
    .description('A microVM composed of the @vmm packages. On a terminal, Ctrl-A x ends it.')
    .exitOverride()
    .configureOutput({
      writeErr: (text) => {
        complaint += text
      },
    })
  program
    .command('run')
    .description('boot a Linux kernel')
    .requiredOption('--kernel <path>', 'kernel image: vmlinux (ELF) or bzImage')
    .addOption(
      new Option('--entry <how>', 'how the kernel is entered').choices(KERNEL_ENTRIES).default('auto'),
    )
    .option('--initrd <path>', 'initial RAM disk')
    .option('--cmdline <text>', `the kernel's command line (default: ${DEFAULT_CMDLINE})`)
    .option('--memory <mib>', 'guest memory', wholeNumber(MEMORY_MIN / MIB, 2 ** 24, 'MiB'), 128)
    .option('--transparent-huge-pages', 'guest memory in pages of 2 MiB where the host finds some', false)
    .option('--cpus <n>', 'number of vCPUs', wholeNumber(1, 254, 'vCPUs'), 1)
    .option(
      '--disk <path=FILE[,readonly=on][,id=NAME][,direct=on][,engine=NAME][,rate=BYTES][,iops=N]>',
      'a disk; more than once for more',
      parseDisk,
      [],
    )
    .option(
      '--net <tap=NAME[,mac=MAC][,queues=N][,rate=BYTES][,pps=N]>',
      'a network, on a tap; more than once for more',
      parseNet,
      [],
    )
    .option('--rng [rate=BYTES][,rps=N]', 'give the guest random numbers by virtio-rng', parseRng)
    .option(
      '--share <tag=NAME,path=DIRECTORY[,readonly=on]>',
      'a directory of the host, by virtio-fs; more than once for more',
      parseShare,
      [],
    )
    .option('--vsock <cid=N,uds=PATH>', 'connect sockets of guest and host, by a Unix socket', parseVsock)
    .addOption(
      new Option('--console <kind>', "the terminal's place: COM1, or hvc0")
        .choices(CONSOLES)
        .default('serial'),
    )
    .option(
      '--balloon [target=SIZE][,deflate-on-oom=on][,reporting=on][,stats=SECONDS]',
      'let the guest give memory back',
      parseBalloon,
    )
    .option('--kvm <path>', "the host's KVM device", '/dev/kvm')
    .option('--timeout <seconds>', 'end the VM after so long, with exit status 4', seconds)
    .option('--report <path>', 'write times, exits and memory as JSON')
    .addHelpText(
      'after',
      `
Exit status:
  0  the guest shut down or reset, or Ctrl-A x
  1  the host failed: no /dev/kvm, no memory, ...
  2  wrong usage: an option, or the file that it names
  3  the guest died: triple fault, internal error
  4  timeout
  128+N  ended by signal N`,
    )
    .action((given: GivenOptions) => {
      options = complete(given)
    })
  try {
    program.parse(args, { from: 'user' })
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    if (error.exitCode === 0) return undefined
    // Without a command commander prints all of its help to stderr: a sentence will do.
    throw new UsageError(
      error.code === 'commander.help'
        ? 'no command given: see example-vmm --help'
        : complaint
            .trim()
            .replace(/^error: /, '')
            .replaceAll('\n', ' '),
    )
  }
  return options
}
