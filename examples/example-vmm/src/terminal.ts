/**
 * The terminal as the guest's console: raw while the VM runs, restored whatever ends it. Ctrl-A is the escape, as
 * QEMU has it: Ctrl-A x ends the VM, Ctrl-A Ctrl-A is a Ctrl-A for the guest, Ctrl-A h is help.
 */
import { type Readable, Transform, type TransformCallback } from 'node:stream'
import type { ReadStream } from 'node:tty'

const CTRL_A = 0x01
const HELP = '\r\nCtrl-A x  end the VM\r\nCtrl-A h  this help\r\nCtrl-A Ctrl-A  send Ctrl-A\r\n'

/** What the escapes do. */
export interface EscapeActions {
  /** Ctrl-A x. */
  quit(): void
  /** Ctrl-A h: shows a text to the user. */
  help(text: string): void
}

/** Takes the escapes out of what is typed. Ctrl-A and the key behind it may come in different chunks. */
export class EscapeFilter extends Transform {
  #escaped = false
  readonly #actions: EscapeActions

  constructor(actions: EscapeActions) {
    super()
    this.#actions = actions
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    const out = Buffer.alloc(chunk.length)
    let length = 0
    for (const byte of chunk) {
      if (!this.#escaped && byte !== CTRL_A) out[length++] = byte
      else if (!this.#escaped) this.#escaped = true
      else {
        this.#escaped = false
        if (this.#runs(byte)) out[length++] = CTRL_A
      }
    }
    done(null, out.subarray(0, length))
  }

  /** Does what the key after Ctrl-A asks for; whether that is a Ctrl-A for the guest. */
  #runs(byte: number): boolean {
    const key = String.fromCharCode(byte).toLowerCase()
    if (key === 'x') this.#actions.quit()
    if (key === 'h') this.#actions.help(HELP)
    return byte === CTRL_A || key === 'a'
  }
}

/** The guest's input, while it is attached. */
export interface AttachedTerminal {
  /** What the guest is to read. */
  readonly input: Readable
  /** Restores the terminal. Idempotent. */
  detach(): void
}

/** Takes stdin for the guest: raw and with escapes if it is a terminal, as it is if not. */
export function attachTerminal(stdin: ReadStream, actions: EscapeActions): AttachedTerminal {
  // A terminal that has been closed reads as an error or an end; SIGHUP tells the rest.
  stdin.on('error', () => {})
  if (!stdin.isTTY) return { input: stdin, detach: () => stdin.destroy() }
  stdin.setRawMode(true)
  const input = stdin.pipe(new EscapeFilter(actions))
  let attached = true
  return {
    input,
    detach() {
      if (!attached) return
      attached = false
      stdin.unpipe(input)
      try {
        stdin.setRawMode(false)
      } catch {
        // The terminal has gone, and its mode with it.
      }
      stdin.pause()
    },
  }
}
