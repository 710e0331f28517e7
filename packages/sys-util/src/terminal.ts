/**
 * Raw mode of a terminal that is not this process's standard input: of that Node's own `setRawMode` is the master.
 * What the terminal was comes back on close.
 */
import { lastError, libc } from './libc.ts'

// struct termios of glibc takes 60 bytes.
const TERMIOS_SIZE = 64
const TCSANOW = 0

/** A terminal in raw mode: each byte at once and as it is, without echo and without signals. */
export class RawTerminal implements Disposable {
  readonly #fd: number
  readonly #before = new Uint8Array(TERMIOS_SIZE)
  #raw = true

  /**
   * Puts a terminal into raw mode.
   * @param fd a terminal, open until {@link close}
   * @throws SystemError ENOTTY for what is none
   */
  constructor(fd: number) {
    this.#fd = fd
    const { tcgetattr, tcsetattr, cfmakeraw } = libc()
    if (tcgetattr(fd, this.#before) < 0) throw lastError('tcgetattr', `fd ${fd}`)
    const raw = this.#before.slice()
    cfmakeraw(raw)
    if (tcsetattr(fd, TCSANOW, raw) < 0) throw lastError('tcsetattr', `fd ${fd}`)
  }

  /** Makes the terminal what it was. Idempotent. @throws SystemError where the terminal has gone */
  close(): void {
    if (!this.#raw) return
    this.#raw = false
    if (libc().tcsetattr(this.#fd, TCSANOW, this.#before) < 0) throw lastError('tcsetattr', `fd ${this.#fd}`)
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
