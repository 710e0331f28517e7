/** The saved state of a console device, and what must hold of one that comes from a file. */
import { StateChecker } from '../../state.ts'
import { TELL_MASK } from './control.ts'
import type { ConsolePort } from './port.ts'

/** Of one port. What its stream holds is the host's, and not in here. */
export interface ConsolePortState {
  readonly name: string
  readonly console: boolean
  readonly columns: number
  readonly rows: number
  readonly guestOpen: boolean
  /** The driver has set it up. */
  readonly ready: boolean
  /** The driver takes the host's side for open, or was to be told so. */
  readonly toldOpen: boolean
  /** What the driver has not been told yet. */
  readonly pending: number
  /** Bytes of the first buffer of output that the host has had. */
  readonly outputOffset: number
}

/** What {@link Console.state} returns: plain data that survives JSON. */
export interface ConsoleState {
  readonly version: 1
  readonly ports: readonly ConsolePortState[]
}

/** @throws DevicesError ERR_DEVICE_STATE unless it fits a device with these ports */
export function checkConsoleState(
  state: unknown,
  ports: readonly ConsolePort[],
): readonly ConsolePortState[] {
  const check = new StateChecker('virtio-console', state as object)
  check.version(1)
  const saved = (state as { readonly ports: unknown }).ports
  const list: readonly unknown[] = Array.isArray(saved) ? saved : []
  if (list.length !== ports.length) check.refuse('ports', `an array of ${ports.length}`)
  return ports.map((port, i) => checkPort(list[i], port))
}

function checkPort(state: unknown, { id, name, isConsole }: ConsolePort): ConsolePortState {
  const check = new StateChecker(`virtio-console port ${id}`, state as object)
  const given = state as ConsolePortState
  if (given.name !== name) check.refuse('name', `'${name}'`)
  if (check.boolean('console') !== isConsole) check.refuse('console', String(isConsole))
  return {
    name,
    console: isConsole,
    columns: check.bits('columns', 0xffff),
    rows: check.bits('rows', 0xffff),
    guestOpen: check.boolean('guestOpen'),
    ready: check.boolean('ready'),
    toldOpen: check.boolean('toldOpen'),
    pending: check.bits('pending', TELL_MASK),
    outputOffset: check.integer('outputOffset', 0, 2 ** 32),
  }
}
