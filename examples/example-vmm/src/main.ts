/**
 * `example-vmm`: options in, a VM or several run to their end, exit status out.
 */
import { writeFileSync } from 'node:fs'
import { stateFromJson } from '@vmm/microvm'
import { Snapshot } from '@vmm/snapshot'
import { trimHeap } from '@vmm/sys-util'
import { CloneOutput } from './clone-output.ts'
import { replaceDevices } from './device-options.ts'
import { type RunEnd, runEnd, STATUS_HOST_FAILURE, STATUS_OK, STATUS_TIMEOUT, STATUS_USAGE } from './end.ts'
import { isExpected, isUsage, UsageError } from './errors.ts'
import { Machine, type MachineHost } from './machine.ts'
import {
  type CommonOptions,
  parseArguments,
  parseDeviceArguments,
  type RestoreOptions,
  type RunOptions,
} from './options.ts'
import { ReportBuilder, writeReport } from './report.ts'
import { readSaved } from './saved.ts'
import { Saver } from './saver.ts'
import { attachTerminal } from './terminal.ts'
import { limitedWarnings } from './warnings.ts'

const SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const

/** Ends a run from outside: with an exit status, and why. The first call decides. */
type Stop = (status: number, reason: string) => void

/** A signal that comes this much later than the one before was not sent twice by accident, as by npm beside the terminal. */
const INSIST_MS = 1000

/** Ends the VM for what comes from outside: signals, the timeout, a reader that has gone. */
function endFromOutside(stop: Stop, timeout: number | undefined): void {
  let first: number | undefined
  for (const [signal, number] of Object.entries(SIGNALS)) {
    process.on(signal, () => {
      first ??= performance.now()
      // Whatever is still waited for, such as a reader that does not read, may never come.
      if (performance.now() - first >= INSIST_MS) process.exit(128 + number)
      stop(128 + number, `ended by ${signal}`)
    })
  }
  process.stdout.on('error', (error) => stop(STATUS_HOST_FAILURE, `stdout: ${error.message}`))
  if (timeout !== undefined) {
    const reason = `timeout: the guest ran for ${timeout} s`
    setTimeout(() => stop(STATUS_TIMEOUT, reason), timeout * 1000).unref()
  }
}

const say = (message: string): boolean => process.stderr.write(`example-vmm: ${message}\r\n`)

/** What a VM has of this process. @param clone its number, where there are several */
function machineHost(report: ReportBuilder, kvm: string, clone?: number): MachineHost {
  const warn = limitedWarnings(say)
  if (clone === undefined) return { kvm, report, output: process.stdout, warn }
  const output = new CloneOutput(clone, process.stdout)
  return {
    kvm,
    report,
    output,
    finishOutput: () => output.finish(),
    warn: (message) => warn(`clone ${clone}: ${message}`),
  }
}

/** Where each VM is saved to. */
type Folders = readonly (string | undefined)[]

/** A VM from its kernel. */
async function run(options: RunOptions): Promise<RunEnd> {
  const report = new ReportBuilder()
  return supervise([await Machine.create(options, machineHost(report, options.kvm))], {
    report,
    options,
    folders: [options.snapshot],
  })
}

/** VMs from a snapshot. */
async function restore(args: readonly string[], options: RestoreOptions): Promise<RunEnd> {
  const { folder, clones, kvm } = options
  const report = new ReportBuilder()
  const snapshot = Snapshot.open(folder)
  const machines: Machine[] = []
  const folders: (string | undefined)[] = []
  try {
    const saved = readSaved(snapshot, folder)
    // Once for all clones: none of them changes it.
    const state = stateFromJson(saved.vm)
    for (let clone = 0; clone < clones; clone++) {
      const before = parseDeviceArguments(saved.deviceArguments, clone)
      const own = clone === 0 ? options : (parseArguments(args, clone) as RestoreOptions)
      if (own.snapshot !== undefined && folders.includes(own.snapshot)) {
        throw new UsageError('--snapshot: several VMs need a folder each: have {n} in its name')
      }
      const parts = { ...before, devices: replaceDevices(before.devices, own.devices) }
      const host = machineHost(report, kvm, clones > 1 ? clone : undefined)
      machines.push(await Machine.restore(state, snapshot, parts, host))
      folders.push(own.snapshot)
    }
  } catch (error) {
    for (const machine of machines) machine.close()
    throw error
  } finally {
    snapshot.close()
  }
  // V8 has compiled a good deal meanwhile.
  if (clones > 1) trimHeap()
  return supervise(machines, { report, options, folders })
}

interface Supervision {
  readonly report: ReportBuilder
  readonly options: CommonOptions
  readonly folders: Folders
}

/** Runs VMs until the last has ended. */
async function supervise(
  machines: readonly Machine[],
  { report, options, folders }: Supervision,
): Promise<RunEnd> {
  report.mark('vmReady')
  let stopStatus: number | undefined
  const stop: Stop = (status, reason) => {
    stopStatus ??= status
    for (const { vm } of machines) vm.stop(reason)
  }
  endFromOutside(stop, options.timeout)
  const savers = machines.flatMap((machine, index) => {
    const folder = folders[index]
    return folder === undefined ? [] : [makeSaver(machine, folder, { report, options, stop })]
  })
  const save = () => {
    for (const saver of savers) saver.request()
  }
  if (savers.length > 0) process.on('SIGUSR2', save)
  const isAlone = machines.length === 1
  // Several VMs cannot share what is typed.
  const terminal = isAlone
    ? attachTerminal(process.stdin, {
        quit: () => stop(STATUS_OK, 'ended by the user'),
        help: (text) => process.stderr.write(text),
      })
    : undefined
  try {
    report.mark('firstRun')
    const runs = machines.map(async (machine, index) => {
      const end = runEnd(await machine.run(terminal?.input), stopStatus ?? STATUS_OK)
      const isItsOwn = stopStatus === undefined && end.status !== STATUS_OK
      if (!isAlone && isItsOwn) say(`clone ${index}: ${end.reason}`)
      return end
    })
    // Where one cannot be run, none is.
    for (const one of runs) one.catch((error: Error) => stop(STATUS_HOST_FAILURE, error.message))
    await Promise.allSettled(runs)
    await Promise.all(savers.map((saver) => saver.idle()))
    const ends = await Promise.all(runs)
    report.mark('exit')
    const end = ends.reduce((worst, one) => (one.status > worst.status ? one : worst))
    const { report: path } = options
    if (path === undefined) return end
    const guestRssKib = machines.reduce((sum, machine) => sum + machine.residentKib, 0)
    const balloon = machines[0]?.balloon ?? null
    const finished = report.finish(end, { vms: machines.length, guestRssKib, balloon })
    return reported(end, () => writeReport(path, finished))
  } finally {
    terminal?.detach()
    for (const machine of machines) machine.close()
  }
}

/** The end of a run whose report may not be written: the disk is full. */
function reported(end: RunEnd, write: () => void): RunEnd {
  try {
    write()
    return end
  } catch (error) {
    const reason = `--report: ${(error as Error).message}`
    if (end.status === STATUS_OK) return { status: STATUS_HOST_FAILURE, reason }
    say(reason)
    return end
  }
}

function makeSaver(
  machine: Machine,
  folder: string,
  { report, options, stop }: Omit<Supervision, 'folders'> & { stop: Stop },
): Saver {
  const saver = new Saver(machine, {
    folder,
    thenExit: options.then === 'exit',
    saved: (snapshot) => report.addSnapshot(snapshot),
    failed: (message) => {
      if (options.then === 'exit') stop(STATUS_HOST_FAILURE, message)
      else say(message)
    },
  })
  machine.onBootMarker = () => saver.request()
  return saver
}

/** @throws UsageError where a report could not be written: better now than when the VM has run */
function checkWritable(path: string): void {
  try {
    writeFileSync(path, '', { flag: 'a' })
  } catch (error) {
    throw new UsageError(`--report: ${(error as Error).message}`)
  }
}

async function main(): Promise<number> {
  // Nobody reads what goes wrong: that is no reason to end.
  process.stderr.on('error', () => {})
  try {
    const args = process.argv.slice(2)
    const options = parseArguments(args)
    if (options === undefined) return STATUS_OK
    // Who asks before there is a VM ends nothing by that.
    if (options.snapshot !== undefined) process.on('SIGUSR2', () => {})
    if (options.report !== undefined) checkWritable(options.report)
    const end = await (options.command === 'run' ? run(options) : restore(args, options))
    if (end.status !== STATUS_OK) process.stderr.write(`example-vmm: ${end.reason}\n`)
    return end.status
  } catch (error) {
    process.stderr.write(`example-vmm: ${isExpected(error) ? error.message : (error as Error).stack}\n`)
    return isUsage(error) ? STATUS_USAGE : STATUS_HOST_FAILURE
  }
}

/** Why nothing can be printed any more. */
let lost: Error | undefined
process.stdout.on('error', (error) => {
  lost ??= error
})

main().then((status) => {
  // Output first; what may still hold the event loop (a pipe on stdin) does not count any more.
  process.stdout.write('', () => {
    if (lost === undefined || status !== STATUS_OK) process.exit(status)
    process.stderr.write(`example-vmm: stdout: ${lost.message}\n`, () => process.exit(STATUS_HOST_FAILURE))
  })
})
