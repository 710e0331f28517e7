/**
 * `--console virtio`: the terminal is the guest's hvc0, which knows its size and hears of another one.
 */
import { once } from 'node:events'
import type { Duplex, Readable, Writable } from 'node:stream'
import { setImmediate } from 'node:timers/promises'
import type { WriteStream } from 'node:tty'
import { Console } from '@vmm/devices/virtio'
import type { AttachDevice } from '@vmm/microvm'

/** What the guest's console may be. */
export const CONSOLES = ['serial', 'virtio'] as const

/** A terminal, or what stands in for one. */
export type TerminalOutput = Writable & Partial<Pick<WriteStream, 'columns' | 'isTTY' | 'rows'>>

/** A terminal at the guest's console. */
export class VirtioTerminal {
  readonly #output: TerminalOutput
  readonly #console: Console
  readonly #stream: Duplex
  readonly #resized = (): void => {
    this.#console.port(0).resize(this.#output.columns ?? 0, this.#output.rows ?? 0)
  }

  constructor(output: TerminalOutput) {
    const { columns = 0, rows = 0 } = output
    this.#output = output
    this.#console = new Console({
      ports: [{ console: true, ...(output.isTTY ? { columns, rows } : {}) }],
    })
    this.#stream = this.#console.port(0).open()
    this.#stream.pipe(output)
    // Node makes one of SIGWINCH.
    output.on('resize', this.#resized)
  }

  /** Puts it into the VM. */
  readonly attach: AttachDevice = (host) => {
    host.virtio.attach(this.#console)
    host.own(this)
    host.beforeClose(() => this.#drained())
  }

  /** Gives the guest what is typed. */
  connect(input: Readable): void {
    input.pipe(this.#stream)
  }

  /** Lets go of the terminal. Idempotent. */
  close(): void {
    this.#output.off('resize', this.#resized)
    this.#stream.destroy()
  }

  /** What the guest has written is with the terminal, unless that has gone. */
  async #drained(): Promise<void> {
    while (this.#stream.readableLength > 0 && this.#output.writable) {
      if (!this.#output.writableNeedDrain) await setImmediate()
      // What the terminal cannot take ends the VM, by a listener of its own.
      else await once(this.#output, 'drain').catch(() => {})
    }
  }
}
