/**
 * `example-vmm`: options in, a VM run to its end, exit status out.
 */
import { writeFileSync } from 'node:fs'
import { BlockError } from '@vmm/block'
import { connectInput, DevicesError } from '@vmm/devices'
import { Rng } from '@vmm/devices/virtio'
import { KvmError } from '@vmm/kvm-ioctls'
import { LoaderError } from '@vmm/linux-loader'
import { SystemError } from '@vmm/sys-util'
import { MemoryError } from '@vmm/vm-memory'
import type { AttachDevice } from './devices/device.ts'
import { diskDevice } from './devices/disk.ts'
import { type MachineEnd, STATUS_HOST_FAILURE, STATUS_OK, STATUS_TIMEOUT, STATUS_USAGE } from './end.ts'
import { Machine } from './machine.ts'
import { parseArguments, type RunOptions, UsageError } from './options.ts'
import { ReportBuilder, writeReport } from './report.ts'
import { residentKib } from './resident.ts'
import { attachTerminal } from './terminal.ts'

const SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const

/** Ends the VM for what comes from outside: signals, the timeout, a reader that has gone. */
function endFromOutside(machine: Machine, timeout: number | undefined): void {
  for (const [signal, number] of Object.entries(SIGNALS)) {
    process.on(signal, () => machine.stop({ status: 128 + number, reason: `ended by ${signal}` }))
  }
  process.stdout.on('error', (error) =>
    machine.stop({ status: STATUS_HOST_FAILURE, reason: `stdout: ${error.message}` }),
  )
  if (timeout !== undefined) {
    const reason = `timeout: the guest ran for ${timeout} s`
    setTimeout(() => machine.stop({ status: STATUS_TIMEOUT, reason }), timeout * 1000).unref()
  }
}

/** The devices that were asked for, in the order in which the guest finds them. */
function devices({ disk, rng }: RunOptions): AttachDevice[] {
  const asked = disk.map(diskDevice)
  if (rng) asked.push((host) => host.virtio.attach(new Rng()))
  return asked
}

async function run(options: RunOptions): Promise<MachineEnd> {
  const report = new ReportBuilder()
  if (options.report !== undefined) checkWritable(options.report)
  const machine = await Machine.create({
    ...options,
    devices: devices(options),
    output: process.stdout,
    warn: (message) => process.stderr.write(`example-vmm: ${message}\r\n`),
    report,
  })
  report.mark('vmReady')
  endFromOutside(machine, options.timeout)
  const terminal = attachTerminal(process.stdin, {
    quit: () => machine.stop({ status: STATUS_OK, reason: 'ended by the user' }),
    help: (text) => process.stderr.write(text),
  })
  try {
    const input = connectInput(terminal.input, machine.serial)
    const end = await machine.run()
    input.close()
    if (options.report !== undefined)
      writeReport(options.report, report.finish(end, residentKib(machine.memory)))
    return end
  } finally {
    terminal.detach()
    machine.close()
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

/** Errors that tell all in their message: a stack trace would say nothing more. */
function isExpected(error: unknown): error is Error {
  return (
    error instanceof BlockError ||
    error instanceof DevicesError ||
    error instanceof UsageError ||
    error instanceof KvmError ||
    error instanceof LoaderError ||
    error instanceof MemoryError ||
    error instanceof SystemError
  )
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
    const isUsage = error instanceof UsageError || error instanceof LoaderError || error instanceof BlockError
    return isUsage ? STATUS_USAGE : STATUS_HOST_FAILURE
  }
}

main().then((status) => {
  // Output first; what may still hold the event loop (a pipe on stdin) does not count any more.
  process.stdout.write('', () => process.exit(status))
})
