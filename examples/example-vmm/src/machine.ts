/**
 * A VM with the host sides that example-vmm gives it: a terminal, a balloon, a report.
 */
import type { Readable } from 'node:stream'
import { connectInput } from '@vmm/devices'
import {
  type AttachDevice,
  MicroVm,
  type MicroVmEnd,
  type MicroVmState,
  type RestoreOptions,
} from '@vmm/microvm'
import type { Snapshot } from '@vmm/snapshot'
import { attachDevices, type ConsoleKind, type DeviceOptions, deviceArguments } from './device-options.ts'
import { type BalloonReport, VmBalloon } from './devices/balloon.ts'
import { type TerminalOutput, VirtioTerminal } from './devices/console.ts'
import { MIB, type RunOptions } from './options.ts'
import type { ReportBuilder } from './report.ts'
import { residentKib } from './resident.ts'

/** What a machine tells, and whom. */
export interface MachineHost {
  readonly kvm: string
  readonly output: TerminalOutput
  readonly report: ReportBuilder
  /** Called when the VM has ended and `output` has everything: settles when that is out; default nothing is left to do. */
  finishOutput?(): Promise<void>
  warn(message: string): void
}

/** Its devices. */
interface Parts {
  readonly devices: DeviceOptions
  readonly console: ConsoleKind
}

/** A VM that can be run once. */
export class Machine {
  readonly vm: MicroVm
  /** As arguments: what a snapshot says of the devices. */
  readonly deviceArguments: readonly string[]
  /** Called when the guest has booted. */
  onBootMarker: () => void = () => {}
  readonly #host: MachineHost
  readonly #screen: VirtioTerminal | undefined
  readonly #balloon: VmBalloon | undefined

  /** One whose kernel is loaded. */
  static create(options: RunOptions, host: MachineHost): Promise<Machine> {
    const { kernel, entry, initrd, cmdline, memory, cpus, transparentHugePages } = options
    return Machine.#make(options, host, (rest) =>
      MicroVm.create({
        ...{ kernel, entry, initrd, cmdline, cpus, transparentHugePages },
        memory: memory * MIB,
        ...rest,
      }),
    )
  }

  /** One that goes on where it was saved. */
  static restore(state: MicroVmState, snapshot: Snapshot, parts: Parts, host: MachineHost): Promise<Machine> {
    return Machine.#make(parts, host, (rest) => MicroVm.restore(state, snapshot.mapMemory(), rest))
  }

  static async #make(
    parts: Parts,
    host: MachineHost,
    make: (rest: RestoreOptions) => Promise<MicroVm>,
  ): Promise<Machine> {
    const { devices, console } = parts
    const { output, report } = host
    const screen = console === 'virtio' ? new VirtioTerminal(output) : undefined
    const balloon = devices.balloon === undefined ? undefined : new VmBalloon(devices.balloon)
    let machine: Machine | undefined
    const vm = await make({
      kvm: host.kvm,
      devices: [...attachDevices(devices), ...attached(screen, balloon)],
      output: screen === undefined ? output : undefined,
      events: {
        exit: (reason) => report.countExit(reason),
        completion: (mnemonic) => report.countCompletion(mnemonic),
        bootMarker: () => {
          report.mark('bootMarker')
          machine?.onBootMarker()
        },
        warning: (message) => host.warn(message),
      },
    })
    machine = new Machine(vm, host, parts, screen, balloon)
    return machine
  }

  private constructor(
    vm: MicroVm,
    host: MachineHost,
    { devices, console }: Parts,
    screen: VirtioTerminal | undefined,
    balloon: VmBalloon | undefined,
  ) {
    this.vm = vm
    this.#host = host
    this.deviceArguments = deviceArguments(devices, console)
    this.#screen = screen
    this.#balloon = balloon
  }

  /**
   * Runs it to its end.
   * @param input what the guest is to read
   */
  async run(input?: Readable): Promise<MicroVmEnd> {
    if (input !== undefined) this.#screen?.connect(input)
    const serial =
      input === undefined || this.#screen !== undefined ? undefined : connectInput(input, this.vm.serial)
    try {
      const end = await this.vm.run()
      await this.#host.finishOutput?.()
      return end
    } finally {
      serial?.close()
    }
  }

  /** KiB of guest memory that are its own, in the host's RAM. */
  get residentKib(): number {
    return residentKib(this.vm.memory)
  }

  /** What became of the balloon; null without. */
  get balloon(): BalloonReport | null {
    return this.#balloon?.report() ?? null
  }

  close(): void {
    this.vm.close()
  }
}

function attached(...devices: readonly ({ readonly attach: AttachDevice } | undefined)[]): AttachDevice[] {
  return devices.flatMap((device) => (device === undefined ? [] : [device.attach]))
}
