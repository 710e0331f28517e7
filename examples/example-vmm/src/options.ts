/**
 * The command line: what may be asked, and which of it can't be.
 */
import { DEFAULT_CMDLINE, type KernelEntry, MEMORY_MIN } from '@vmm/microvm'
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander'
import manifest from '../package.json' with { type: 'json' }
import {
  addDeviceOptions,
  type ConsoleKind,
  completeDevices,
  consoleOption,
  type DeviceOptions,
  type GivenDevices,
} from './device-options.ts'
import { UsageError } from './errors.ts'

/** Bytes in what --memory counts. */
export const MIB: number = 2 ** 20

const KERNEL_ENTRIES = ['auto', 'linux64', 'pvh', 'bzimage'] as const satisfies KernelEntry[]
const CLONES_MAX = 1000

/** What both commands take, beside devices. */
export interface CommonOptions {
  /** Path of the KVM device. */
  readonly kvm: string
  /** Ends the VM after so many seconds. */
  readonly timeout?: number
  /** Where to write the report. */
  readonly report?: string
  /** The folder that the VM is saved to, at the boot marker and at SIGUSR2. */
  readonly snapshot?: string
  /** What comes after that; it goes on without. */
  readonly then?: 'exit'
}

/** `example-vmm run`, checked as far as it can be without looking at the host. */
export interface RunOptions extends CommonOptions {
  readonly command: 'run'
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
  readonly devices: DeviceOptions
  /** Where the terminal is: at COM1, or at hvc0. */
  readonly console: ConsoleKind
}

/** `example-vmm restore`. */
export interface RestoreOptions extends CommonOptions {
  readonly command: 'restore'
  /** The snapshot. */
  readonly folder: string
  /** How many VMs are made of it. */
  readonly clones: number
  /** Instead of those that were saved. */
  readonly devices: DeviceOptions
}

/** As commander has them. */
type GivenRun = Omit<RunOptions, 'command' | 'cmdline' | 'devices'> &
  GivenDevices & { readonly cmdline?: string }
type GivenRestore = Omit<RestoreOptions, 'command' | 'folder' | 'devices'> & GivenDevices

/** @throws UsageError for options that do not go together */
function completeRun(given: GivenRun): RunOptions {
  const { disk, net, rng, share, vsock, balloon, cmdline = defaultCmdline(given.console), ...options } = given
  const devices = completeDevices(given)
  const { target = 0 } = devices.balloon ?? {}
  if (target >= options.memory * MIB) {
    const what = `a target of ${target / MIB} MiB`
    throw new UsageError(`--balloon: ${what} leaves nothing of ${options.memory} MiB of memory`)
  }
  checkCommon(options)
  return { command: 'run', ...options, cmdline, devices }
}

function completeRestore(folder: string, given: GivenRestore): RestoreOptions {
  const { disk, net, rng, share, vsock, balloon, ...options } = given
  checkCommon(options)
  return { command: 'restore', folder, ...options, devices: completeDevices(given) }
}

function checkCommon({ snapshot, then }: CommonOptions): void {
  if (then !== undefined && snapshot === undefined) throw new UsageError('--then: there is no --snapshot')
}

function defaultCmdline(console: ConsoleKind): string {
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

function addCommonOptions(command: Command): Command {
  return command
    .option('--kvm <path>', "the host's KVM device", '/dev/kvm')
    .option('--timeout <seconds>', 'end the VM after so many seconds, with exit status 4', seconds)
    .option('--report <path>', 'write times, exits and memory as JSON')
    .option('--snapshot <folder>', 'save the VM when it has booted (the boot marker), and at SIGUSR2')
    .addOption(new Option('--then <what>', 'what comes after that: the VM ends').choices(['exit']))
}

/** What reads arguments, and keeps what it says to itself. */
function newProgram(name: string): { program: Command; parse: (args: readonly string[]) => boolean } {
  let complaint = ''
  const program = new Command(name).exitOverride().configureOutput({
    writeErr: (text) => {
      complaint += text
    },
  })
  return { program, parse }

  /** @returns false where help or the version was asked for and has been printed */
  function parse(args: readonly string[]): boolean {
    try {
      program.parse(args, { from: 'user' })
      return true
    } catch (error) {
      if (!(error instanceof CommanderError)) throw error
      if (error.exitCode === 0) return false
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
  }
}

/**
 * Parses the arguments after the program's name.
 * @param clone the number that stands for `{n}` in arguments of `restore`
 * @returns the options, or undefined where help or the version was asked for and has been printed
 * @throws UsageError
 */
export function parseArguments(
  args: readonly string[],
  clone: number = 0,
): RunOptions | RestoreOptions | undefined {
  let options: RunOptions | RestoreOptions | undefined
  const { program, parse } = newProgram('example-vmm')
  program
    .description('A microVM composed of the @vmm packages. On a terminal, Ctrl-A x ends it.')
    .version(manifest.version)
  const run = program
    .command('run')
    .description('boot a Linux kernel')
    .requiredOption('--kernel <path>', 'kernel image: vmlinux (ELF) or bzImage')
    .addOption(
      new Option('--entry <how>', 'how the kernel is entered').choices(KERNEL_ENTRIES).default('auto'),
    )
    .option('--initrd <path>', 'initial RAM disk')
    .option('--cmdline <text>', `the kernel's command line (default: ${DEFAULT_CMDLINE})`)
    .option('--memory <mib>', 'guest memory, in MiB', wholeNumber(MEMORY_MIN / MIB, 2 ** 24, 'MiB'), 128)
    .option('--transparent-huge-pages', 'guest memory in pages of 2 MiB where the host finds some', false)
    .option('--cpus <n>', 'number of vCPUs', wholeNumber(1, 254, 'vCPUs'), 1)
  addDeviceOptions(run).addOption(consoleOption())
  addCommonOptions(run)
    .addHelpText('after', EXIT_STATUS)
    .action((given: GivenRun) => {
      options = completeRun(given)
    })
  const restore = program
    .command('restore')
    .description('go on with a VM that was saved')
    .argument('<folder>', 'what --snapshot has written')
    .option('--clones <n>', 'how many VMs to make of it', wholeNumber(1, CLONES_MAX, 'VMs'), 1)
  addDeviceOptions(restore)
  addCommonOptions(restore)
    .addHelpText(
      'after',
      `\nDevices are those of the saved VM: an option here takes their place.${EXIT_STATUS}`,
    )
    .action((folder: string, given: GivenRestore) => {
      options = completeRestore(folder, given)
    })
  const isRestore = args[0] === 'restore'
  return parse(isRestore ? args.map((text) => text.replaceAll('{n}', String(clone))) : args)
    ? options
    : undefined
}

/**
 * Parses what a snapshot says of its VM's devices.
 * @param clone the number that stands for `{n}`
 * @throws UsageError
 */
export function parseDeviceArguments(
  args: readonly string[],
  clone: number,
): { readonly devices: DeviceOptions; readonly console: ConsoleKind } {
  const { program, parse } = newProgram('devices')
  addDeviceOptions(program).addOption(consoleOption())
  program.helpOption(false)
  parse(args.map((text) => text.replaceAll('{n}', String(clone))))
  const given = program.opts<GivenDevices & { console: ConsoleKind }>()
  return { devices: completeDevices(given), console: given.console }
}

const EXIT_STATUS = `
Exit status:
  0  the guest shut down or reset, or Ctrl-A x; or it was saved, with --then exit
  1  the host failed: no /dev/kvm, no memory, ...
  2  wrong usage: an option, or the file that it names
  3  the guest died: triple fault, internal error
  4  timeout
  128+N  ended by signal N`
