/**
 * Linux in this process, by @vmm/microvm: for tests whose devices are JavaScript. Its shell takes commands.
 */
import { type Duplex, PassThrough, Writable } from 'node:stream'
import { connectInput } from '@vmm/devices'
import {
  type AttachDevice,
  MicroVm,
  type MicroVmEnd,
  type MicroVmState,
  type RestoreOptions,
  stateFromJson,
  stateToJson,
  type VmRam,
} from '@vmm/microvm'
import { Snapshot, writeSnapshot } from '@vmm/snapshot'
import { acpiCommandLine, commandLine } from '../../guest/cmdline.mjs'
import { guestFile } from './example-vmm.ts'
import { savedLinux } from './saved-linux.ts'

const MIB = 2 ** 20

/** What the VM has. */
export interface LinuxVmOptions {
  readonly devices: readonly AttachDevice[]
  /** Default `busybox.cpio`; `none` for a root disk. */
  readonly initrd?: 'busybox.cpio' | 'programs.cpio' | 'none' | undefined
  /** Default 1. */
  readonly cpus?: number | undefined
  /** In MiB; default 64. */
  readonly memory?: number | undefined
  /** More words for the kernel's command line. */
  readonly words?: readonly string[] | undefined
  /** Whether the guest finds everything by ACPI, its VM generation ID too, which takes it seconds where it is interpreted. */
  readonly acpi?: boolean | undefined
  /** Where the shell is, once the devices are made; default the serial port. */
  readonly terminal?: (() => Duplex) | undefined
  /**
   * What the devices are, in words: the guest does not boot then, but goes on from where one with the same devices has come to
   * its shell. Devices are made twice by the first who asks. Disks may have other contents than then.
   */
  readonly shape?: string | undefined
}

/** What a guest that was saved goes on with. */
export interface RestoredLinuxOptions {
  readonly devices?: readonly AttachDevice[] | undefined
  /** As in {@link LinuxVmOptions}. */
  readonly terminal?: (() => Duplex) | undefined
  /** What it had printed before. */
  readonly output?: string | undefined
}

/** A VM that runs. */
export class LinuxVm {
  readonly vm: MicroVm
  /** Resolves when it has ended; it is closed then. */
  readonly ended: Promise<MicroVmEnd>
  /** What the host could not do for its devices. */
  readonly warnings: string[]
  readonly #input = new PassThrough()
  readonly #watchers = new Set<() => void>()
  #output = ''

  /** A guest with a shell. */
  static async start(options: LinuxVmOptions): Promise<LinuxVm> {
    const { shape, devices, terminal, initrd, cpus, memory, words, acpi } = options
    if (shape === undefined) return LinuxVm.#boot(options)
    const folder = await savedLinux({ shape, initrd, cpus, memory, words, acpi }, (folder) =>
      LinuxVm.#save(options, folder),
    )
    const snapshot = Snapshot.open(folder)
    try {
      return await LinuxVm.restore(stateFromJson(snapshot.state), snapshot.mapMemory(), { devices, terminal })
    } finally {
      snapshot.close()
    }
  }

  static async #save(options: LinuxVmOptions, folder: string): Promise<void> {
    const linux = await LinuxVm.#boot(options)
    linux.type('echo "at the s""hell"')
    await linux.until(/^at the shell\n/m)
    await linux.vm.pause()
    await writeSnapshot(folder, { state: stateToJson(await linux.vm.state()), memory: linux.vm.memory })
    linux.vm.stop('saved')
    await linux.ended
  }

  static #boot(options: LinuxVmOptions): Promise<LinuxVm> {
    const { terminal, words = [], memory = 64, initrd = 'busybox.cpio', acpi = false } = options
    return LinuxVm.#run(terminal, (host) =>
      MicroVm.create({
        kernel: guestFile('vmlinux'),
        initrd: initrd === 'none' ? undefined : guestFile(initrd),
        cmdline: acpi ? acpiCommandLine(...words) : commandLine(...words),
        discovery: acpi ? 'acpi' : 'both',
        memory: memory * MIB,
        cpus: options.cpus,
        devices: options.devices,
        ...host,
      }),
    )
  }

  /** Goes on with a guest that was saved. */
  static async restore(
    state: MicroVmState,
    memory: VmRam,
    { devices = [], terminal, output = '' }: RestoredLinuxOptions = {},
  ): Promise<LinuxVm> {
    const linux = await LinuxVm.#run(terminal, (host) => MicroVm.restore(state, memory, { devices, ...host }))
    linux.#output = output + linux.#output
    return linux
  }

  static async #run(
    terminalOf: (() => Duplex) | undefined,
    make: (host: Pick<RestoreOptions, 'output' | 'events'>) => Promise<MicroVm>,
  ): Promise<LinuxVm> {
    const warnings: string[] = []
    let take: (text: string) => void = () => {}
    const output = new Writable({
      write: (chunk: Buffer, _encoding, done) => {
        take(chunk.toString('latin1').replaceAll('\r', ''))
        done()
      },
    })
    const vm = await make({
      output: terminalOf === undefined ? output : undefined,
      events: { warning: (message) => warnings.push(message) },
    })
    const terminal = terminalOf?.()
    terminal?.pipe(output)
    const linux = new LinuxVm(vm, warnings, terminal)
    take = (text) => linux.#take(text)
    return linux
  }

  private constructor(vm: MicroVm, warnings: string[], terminal: Duplex | undefined) {
    this.vm = vm
    this.warnings = warnings
    const input = terminal === undefined ? connectInput(this.#input, vm.serial) : undefined
    if (terminal !== undefined) this.#input.pipe(terminal)
    this.ended = vm.run().then((end) => {
      input?.close()
      vm.close()
      return end
    })
  }

  /** All that the guest printed. */
  get output(): string {
    return this.#output
  }

  /** Types lines to the shell. */
  type(...lines: readonly string[]): void {
    this.#input.write(lines.map((line) => `${line}\n`).join(''))
  }

  /** Waits until the guest has printed what matches. Output comes in pieces: end with `\n` what ends a line. */
  until(pattern: RegExp): Promise<RegExpExecArray> {
    return new Promise((resolve, reject) => {
      const look = () => {
        const found = pattern.exec(this.#output)
        if (found === null) return
        this.#watchers.delete(look)
        resolve(found)
      }
      this.#watchers.add(look)
      look()
      this.ended.then(({ reason }) => reject(new Error(`${reason}, without ${pattern}:\n${this.#output}`)))
    })
  }

  #take(text: string): void {
    this.#output += text
    for (const look of this.#watchers) look()
  }
}
