/**
 * A terminal for a program under test: util-linux's script(1) makes it.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'

/** A shell command on a terminal of its own. */
export class TerminalSession {
  /** script(1); killing it closes the terminal. */
  readonly child: ChildProcess
  /** The command's exit status. */
  readonly ended: Promise<number | null>
  #output = ''
  #closed = false

  constructor(command: string) {
    this.child = spawn('script', ['--quiet', '--return', '--flush', '--command', command, '/dev/null'], {
      stdio: ['pipe', 'pipe', 'ignore'],
      // script(1) takes the user's shell, whichever that is.
      env: { ...process.env, SHELL: '/bin/sh' },
    })
    this.child.stdout?.on('data', (data: Buffer) => {
      this.#output += data.toString('latin1')
    })
    this.ended = new Promise((resolve, reject) => {
      this.child.on('error', reject)
      this.child.on('close', (status) => {
        this.#closed = true
        resolve(status)
      })
    })
  }

  /** Everything that the terminal showed. */
  get output(): string {
    return this.#output
  }

  /** Types. */
  type(text: string): void {
    this.child.stdin?.write(text)
  }

  /** Waits until the terminal has shown a text. */
  async until(text: string): Promise<void> {
    while (!this.#output.includes(text)) {
      if (this.#closed) throw new Error(`ended without ${JSON.stringify(text)}:\n${this.#output}`)
      await sleep(20)
    }
  }
}
