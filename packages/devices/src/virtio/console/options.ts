/** What a console device is made of, and what its maker hears of it. */
import { DevicesError } from '../../error.ts'
import type { ConsolePort } from './port.ts'

/** The most ports: each has two queues, and a transport may spend a doorbell on each. */
export const CONSOLE_PORTS_MAX = 31
/** In bytes of UTF-8. */
const NAME_BYTES_MAX = 64
/** Without one of its own: for ports that make the guest wait, */
const WAIT_BUFFER_BYTES = 2 ** 16
/** and for ports that do not. */
const DROP_BUFFER_BYTES = 2 ** 20
/** A size of more does not fit the configuration space. */
const SIZE_MAX = 0xffff

/**
 * What becomes of output while the host does not read: `wait` leaves it in the guest's buffers, so that nothing is lost and
 * the guest's writers wait; `drop` drops what is over, so that the guest goes on.
 */
export type ConsoleOverflow = 'wait' | 'drop'

/** One port. */
export interface ConsolePortOptions {
  /**
   * What the guest finds it by: `/dev/virtio-ports/NAME` where it has udev, and a file `name` for each port below
   * `/sys/class/virtio-ports`. Up to 64 bytes without `/` and control characters. Default none.
   */
  readonly name?: string | undefined
  /** Whether it is a console, `hvc0` and so on, or a port for programs, `/dev/vport0p1`. Default the latter. */
  readonly console?: boolean | undefined
  /**
   * Default `drop` for consoles: Linux writes to them with interrupts off and spins until the device has taken the text, so
   * that a terminal that is stopped would stop the guest. Default `wait` for others.
   */
  readonly overflow?: ConsoleOverflow | undefined
  /** How much output is kept for a host that does not read, in bytes, from 1 on; default 64 KiB with `wait`, 1 MiB with `drop`. */
  readonly bufferBytes?: number | undefined
  /** Of a console, in characters, up to 65535; default 0: unknown. */
  readonly columns?: number | undefined
  /** As `columns`, up to 65535; default 0: unknown. */
  readonly rows?: number | undefined
}

/** Every method is optional. They run inside the device's work: take note and return. */
export interface ConsoleEvents {
  /** The guest has opened a port: what was written to its stream goes out. */
  guestOpened?(port: ConsolePort): void
  /** The guest has closed a port, or was reset. Input waits for whoever opens it next. */
  guestClosed?(port: ConsolePort): void
  /** Output was dropped, as the host does not read it. */
  outputLost?(port: ConsolePort, bytes: number): void
}

/** Options of {@link Console}. */
export interface ConsoleOptions {
  /** 1 to 31 ports; default one console without a name. The first is what drivers without multiport have. */
  readonly ports?: readonly ConsolePortOptions[] | undefined
  /** Entries of each queue, a power of two from 2 to 32768; default 32. */
  readonly queueSize?: number | undefined
  /** Told of the guest's opens and closes, and of losses; default nobody. */
  readonly events?: ConsoleEvents | undefined
}

/** A port, with nothing left open. */
export interface PortSettings {
  readonly name: string
  readonly isConsole: boolean
  readonly overflow: ConsoleOverflow
  readonly bufferBytes: number
  readonly columns: number
  readonly rows: number
}

/** @throws DevicesError ERR_DEVICE_OPTION */
export function portSettings(options: readonly ConsolePortOptions[]): readonly PortSettings[] {
  if (options.length === 0 || options.length > CONSOLE_PORTS_MAX) {
    refuse(`${options.length} ports; 1 to ${CONSOLE_PORTS_MAX} are possible`)
  }
  const settings = options.map(settingsOf)
  const names = settings.map(({ name }) => name).filter((name) => name !== '')
  const twice = names.find((name, i) => names.indexOf(name) !== i)
  if (twice !== undefined) refuse(`two ports are named ${twice}`)
  return settings
}

/** @throws DevicesError ERR_DEVICE_OPTION for a size that does not fit */
export function checkSize(columns: number, rows: number): void {
  for (const value of [columns, rows]) {
    if (!(Number.isInteger(value) && value >= 0 && value <= SIZE_MAX)) {
      refuse(`a size is 0 to ${SIZE_MAX} columns and rows, got ${columns} and ${rows}`)
    }
  }
}

function settingsOf(options: ConsolePortOptions): PortSettings {
  const { name = '', console: isConsole = false, columns = 0, rows = 0 } = options
  const { overflow = isConsole ? 'drop' : 'wait' } = options
  const { bufferBytes = overflow === 'drop' ? DROP_BUFFER_BYTES : WAIT_BUFFER_BYTES } = options
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  if (Buffer.byteLength(name) > NAME_BYTES_MAX || /[\x00-\x1f\x7f/]/.test(name)) {
    refuse(`a port's name has up to ${NAME_BYTES_MAX} bytes, none of them / or a control character`)
  }
  if (overflow !== 'drop' && overflow !== 'wait') refuse(`overflow is drop or wait, got ${String(overflow)}`)
  if (!(Number.isSafeInteger(bufferBytes) && bufferBytes >= 1)) {
    refuse(`bufferBytes is a whole number from 1 on, got ${bufferBytes}`)
  }
  checkSize(columns, rows)
  return { name, isConsole, overflow, bufferBytes, columns, rows }
}

function refuse(what: string): never {
  throw new DevicesError('ERR_DEVICE_OPTION', `virtio-console: ${what}`)
}
