/**
 * `example-vmm`: options in, a VM run to its end, exit status out.
 */
import { writeFileSync } from 'node:fs'
import { connectInput } from '@vmm/devices'
import { type AttachDevice, MicroVm } from '@vmm/microvm'
import { VmBalloon } from './devices/balloon.ts'
import { VirtioTerminal } from './devices/console.ts'
import { diskDevice } from './devices/disk.ts'
import { netDevice } from './devices/net.ts'
import { rngDevice } from './devices/rng.ts'
import { shareDevice } from './devices/share.ts'
import { vsockDevice } from './devices/vsock.ts'
import { type RunEnd, runEnd, STATUS_HOST_FAILURE, STATUS_OK, STATUS_TIMEOUT, STATUS_USAGE } from './end.ts'
import { isExpected, isUsage, UsageError } from './errors.ts'
import { MIB, parseArguments, type RunOptions } from './options.ts'
import { ReportBuilder, writeReport } from './report.ts'
import { residentKib } from './resident.ts'
import { attachTerminal } from './terminal.ts'
import { limitedWarnings } from './warnings.ts'

const SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const

/** Ends a run from outside: with an exit status, and why. The first call decides. */
type Stop = (status: number, reason: string) => void

/** Ends the VM for what comes from outside: signals, the timeout, a reader that has gone. */
function endFromOutside(stop: Stop, timeout: number | undefined): void {
  for (const [signal, number] of Object.entries(SIGNALS)) {
    process.on(signal, () => stop(128 + number, `ended by ${signal}`))
  }
  process.stdout.on('error', (error) => stop(STATUS_HOST_FAILURE, `stdout: ${error.message}`))
  if (timeout !== undefined) {
    const reason = `timeout: the guest ran for ${timeout} s`
    setTimeout(() => stop(STATUS_TIMEOUT, reason), timeout * 1000).unref()
  }
}

/** The devices that were asked for, in the order in which the guest finds them. */
function devices({ disk, net, rng, share, vsock }: RunOptions): AttachDevice[] {
  const asked = [...disk.map(diskDevice), ...net.map(netDevice)]
  if (rng !== undefined) asked.push(rngDevice(rng))
  asked.push(...share.map(shareDevice))
  if (vsock !== undefined) asked.push(vsockDevice(vsock))
  return asked
}

function attached(...devices: readonly ({ readonly attach: AttachDevice } | undefined)[]): AttachDevice[] {
  return devices.flatMap((device) => (device === undefined ? [] : [device.attach]))
}

async function run(options: RunOptions): Promise<RunEnd> {
  const report = new ReportBuilder()
  const screen = options.console === 'virtio' ? new VirtioTerminal(process.stdout) : undefined
  const balloon = options.balloon === undefined ? undefined : new VmBalloon(options.balloon)
  if (options.report !== undefined) checkWritable(options.report)
  const vm = await MicroVm.create({
    ...options,
    memory: options.memory * MIB,
    devices: [...devices(options), ...attached(screen, balloon)],
    output: screen === undefined ? process.stdout : undefined,
    events: {
      exit: (reason) => report.countExit(reason),
      completion: (mnemonic) => report.countCompletion(mnemonic),
      bootMarker: () => report.mark('bootMarker'),
      warning: limitedWarnings((message) => process.stderr.write(`example-vmm: ${message}\r\n`)),
    },
  })
  report.mark('vmReady')
  let stopStatus: number | undefined
  const stop: Stop = (status, reason) => {
    stopStatus ??= status
    vm.stop(reason)
  }
  endFromOutside(stop, options.timeout)
  const terminal = attachTerminal(process.stdin, {
    quit: () => stop(STATUS_OK, 'ended by the user'),
    help: (text) => process.stderr.write(text),
  })
  try {
    screen?.connect(terminal.input)
    const input = screen === undefined ? connectInput(terminal.input, vm.serial) : undefined
    report.mark('firstRun')
    const end = runEnd(await vm.run(), stopStatus ?? STATUS_OK)
    report.mark('exit')
    input?.close()
    if (options.report !== undefined) {
      writeReport(options.report, report.finish(end, residentKib(vm.memory), balloon?.report() ?? null))
    }
    return end
  } finally {
    terminal.detach()
    vm.close()
  }
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
  try {
    const options = parseArguments(process.argv.slice(2))
    if (options === undefined) return STATUS_OK
    const end = await run(options)
    if (end.status !== STATUS_OK) process.stderr.write(`example-vmm: ${end.reason}\n`)
    return end.status
  } catch (error) {
    process.stderr.write(`example-vmm: ${isExpected(error) ? error.message : (error as Error).stack}\n`)
    return isUsage(error) ? STATUS_USAGE : STATUS_HOST_FAILURE
  }
}

main().then((status) => {
  // Output first; what may still hold the event loop (a pipe on stdin) does not count any more.
  process.stdout.write('', () => process.exit(status))
})
