/**
 * Which address is behind which port (IEEE 802.1Q, 8.8). Each port has room for so many: one that makes up addresses loses
 * its own oldest ones, and nobody else's.
 */

interface Entry<P> {
  port: P
  /** Milliseconds of the switch's clock. */
  seenAt: number
  readonly isFixed: boolean
}

/** What the table is made for. */
export interface MacTableOptions {
  /** The most addresses of a port. */
  readonly perPort: number
  /** How long an address is remembered that sends nothing, in milliseconds. */
  readonly ageMs: number
}

/** Addresses are numbers of 48 bits. */
export class MacTable<P> {
  readonly #options: MacTableOptions
  readonly #entries = new Map<number, Entry<P>>()
  /** Of each port, the one learned first at the front. */
  readonly #ofPort = new Map<P, Set<number>>()

  constructor(options: MacTableOptions) {
    this.#options = options
  }

  /** Addresses that are known. */
  get size(): number {
    return this.#entries.size
  }

  /** An address belongs to a port, whoever sends from it. @returns false where it belongs to another one */
  fix(mac: number, port: P): boolean {
    if (this.#entries.get(mac)?.isFixed === true) return false
    this.#forgetOne(mac)
    this.#entries.set(mac, { port, seenAt: 0, isFixed: true })
    this.#listOf(port).add(mac)
    return true
  }

  /** An address has sent by a port. @returns false where it belongs to another one */
  learn(mac: number, port: P, now: number): boolean {
    const entry = this.#entries.get(mac)
    if (entry !== undefined && entry.port === port) {
      entry.seenAt = now
      return true
    }
    if (entry?.isFixed === true) return false
    this.#forgetOne(mac)
    const list = this.#listOf(port)
    if (list.size >= this.#options.perPort) {
      for (const oldest of list) {
        this.#forgetOne(oldest)
        break
      }
    }
    this.#entries.set(mac, { port, seenAt: now, isFixed: false })
    list.add(mac)
    return true
  }

  /** The port of an address; undefined where it is not known any more. */
  find(mac: number, now: number): P | undefined {
    const entry = this.#entries.get(mac)
    if (entry === undefined) return undefined
    if (entry.isFixed || now - entry.seenAt <= this.#options.ageMs) return entry.port
    this.#forgetOne(mac)
    return undefined
  }

  /** Forgets what was learned of a port; with `isGone` what was fixed, too. */
  forget(port: P, isGone: boolean): void {
    for (const mac of this.#ofPort.get(port) ?? []) {
      if (isGone || this.#entries.get(mac)?.isFixed !== true) this.#forgetOne(mac)
    }
    if (isGone) this.#ofPort.delete(port)
  }

  #listOf(port: P): Set<number> {
    let list = this.#ofPort.get(port)
    if (list === undefined) {
      list = new Set()
      this.#ofPort.set(port, list)
    }
    return list
  }

  #forgetOne(mac: number): void {
    const entry = this.#entries.get(mac)
    if (entry === undefined) return
    this.#entries.delete(mac)
    this.#ofPort.get(entry.port)?.delete(mac)
  }
}
