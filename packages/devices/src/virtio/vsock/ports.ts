/**
 * Which connection a packet belongs to, and who listens where. Two look-ups by small integers, whatever the ports: for
 * connections that the guest has made by the host's port and then the guest's, for those that the host has made by the host's
 * port, which each of them has for itself.
 */
import { DevicesError } from '../../error.ts'
import type { Connection } from './connection.ts'
import { VMADDR_PORT_ANY } from './spec.ts'

/** The host's ends of connections that the host makes: ports that nobody chooses to listen on. */
export const EPHEMERAL_FIRST: number = 2 ** 30
const EPHEMERAL_COUNT = 2 ** 30
/** The last of them. */
export const EPHEMERAL_LAST: number = EPHEMERAL_FIRST + EPHEMERAL_COUNT - 1

/** The ports of one device. `L` is who listens. */
export class Ports<L> {
  readonly #listeners = new Map<number, L>()
  /** By the host's port, then by the guest's. */
  readonly #guestDialled = new Map<number, Map<number, Connection>>()
  readonly #hostDialled = new Map<number, Connection>()
  /** The latest port that {@link ephemeral} gave. */
  lastEphemeral: number = EPHEMERAL_LAST

  find(hostPort: number, guestPort: number): Connection | undefined {
    // As signed numbers all ports are integers to V8, which it does not have to allocate.
    const own = this.#guestDialled.get(hostPort | 0)?.get(guestPort | 0)
    if (own !== undefined) return own
    const dialled = this.#hostDialled.get(hostPort | 0)
    return dialled !== undefined && dialled.guestPort === guestPort ? dialled : undefined
  }

  listener(port: number): L | undefined {
    return this.#listeners.get(port | 0)
  }

  /**
   * @throws DevicesError ERR_DEVICE_OPTION for what is no port, EADDRINUSE for one that is listened on, or the host's end
   *   of a connection
   */
  listen(port: number, listener: L): void {
    checkPort(port)
    if (this.#listeners.has(port | 0) || this.#hostDialled.has(port | 0)) {
      throw new DevicesError('EADDRINUSE', `vsock: port ${port} of the host is in use`)
    }
    this.#listeners.set(port | 0, listener)
  }

  unlisten(port: number): void {
    this.#listeners.delete(port | 0)
  }

  addGuestDialled(connection: Connection): void {
    const port = connection.hostPort | 0
    let dialled = this.#guestDialled.get(port)
    if (dialled === undefined) {
      dialled = new Map()
      this.#guestDialled.set(port, dialled)
    }
    dialled.set(connection.guestPort | 0, connection)
  }

  /** A port for a connection that the host makes: none that was used lately. There are more than connections can be. */
  ephemeral(): number {
    for (;;) {
      const port = this.lastEphemeral === EPHEMERAL_LAST ? EPHEMERAL_FIRST : this.lastEphemeral + 1
      this.lastEphemeral = port
      const isTaken =
        this.#hostDialled.has(port | 0) || this.#listeners.has(port | 0) || this.#guestDialled.has(port | 0)
      if (!isTaken) return port
    }
  }

  addHostDialled(connection: Connection): void {
    this.#hostDialled.set(connection.hostPort | 0, connection)
  }

  remove(connection: Connection): void {
    const port = connection.hostPort | 0
    if (this.#hostDialled.get(port) === connection) {
      this.#hostDialled.delete(port)
      return
    }
    const dialled = this.#guestDialled.get(port)
    if (dialled?.get(connection.guestPort | 0) !== connection) return
    dialled.delete(connection.guestPort | 0)
    if (dialled.size === 0) this.#guestDialled.delete(port)
  }

  /** All connections, to be removed or not while they are gone through. */
  all(): Connection[] {
    const guestDialled = [...this.#guestDialled.values()].flatMap((connections) => [...connections.values()])
    return [...guestDialled, ...this.#hostDialled.values()]
  }
}

/** @throws DevicesError ERR_DEVICE_OPTION */
export function checkPort(port: number): void {
  if (Number.isInteger(port) && port >= 0 && port < VMADDR_PORT_ANY) return
  throw new DevicesError(
    'ERR_DEVICE_OPTION',
    `vsock: a port is a whole number from 0 to 4294967294, got ${port}`,
  )
}
