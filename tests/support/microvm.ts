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
  type VmRam,
} from '@vmm/microvm'
import { commandLine } from '../../guest/cmdline.mjs'
import { guestFile } from './example-vmm.ts'

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
  /** Where the shell is; default the serial port. */
  readonly terminal?: Duplex | undefined
}

/** What a guest that was saved goes on with. */
export interface RestoredLinuxOptions {
  readonly devices?: readonly AttachDevice[] | undefined
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

  /** Boots a guest. */
  static start(options: LinuxVmOptions): Promise<LinuxVm> {
    const { terminal, words = [], memory = 64, initrd = 'busybox.cpio' } = options
    return LinuxVm.#run(terminal, (host) =>
      MicroVm.create({
        kernel: guestFile('vmlinux'),
        initrd: initrd === 'none' ? undefined : guestFile(initrd),
        cmdline: commandLine(...words),
        memory: memory * MIB,
        cpus: options.cpus,
        devices: options.devices,
        ...host,
      }),
    )
  }

  /** Goes on with a guest that was saved. */
  static restore(
    state: MicroVmState,
    memory: VmRam,
    { devices = [] }: RestoredLinuxOptions = {},
  ): Promise<LinuxVm> {
    return LinuxVm.#run(undefined, (host) => MicroVm.restore(state, memory, { devices, ...host }))
  }

  static async #run(
    terminal: Duplex | undefined,
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
    terminal?.pipe(output)
    const vm = await make({
      output: terminal === undefined ? output : undefined,
      events: { warning: (message) => warnings.push(message) },
    })
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
