/** The output of one of several VMs: its lines, with its number before each. */
import { Writable } from 'node:stream'

/** Lines that are longer become several. */
const LINE_MAX = 4096

/** Gives whole lines on. */
export class CloneOutput extends Writable {
  readonly #prefix: string
  readonly #output: Writable
  #line = ''

  /** @param number of the VM */
  constructor(number: number, output: Writable) {
    super()
    this.#prefix = `[${number}] `
    this.#output = output
    // What cannot take its lines ends the VMs by a listener of its own.
    this.on('error', () => {})
  }

  /** Gives on what is left, which may be no whole line. @returns settles when all has been taken, or nothing will be */
  finish(): Promise<void> {
    return new Promise((resolve) => {
      this.end(() => resolve())
    })
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    const lines = (this.#line + chunk.toString('latin1')).split(/\r*\n/)
    const rest = lines.pop() ?? ''
    const isLong = rest.length > LINE_MAX
    this.#line = isLong ? '' : rest
    this.#print(isLong ? [...lines, rest] : lines, done)
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#print(this.#line === '' ? [] : [this.#line], done)
  }

  #print(lines: readonly string[], done: (error?: Error | null) => void): void {
    if (lines.length === 0) return done()
    this.#output.write(lines.map((line) => `${this.#prefix}${line}\n`).join(''), 'latin1', done)
  }
}
