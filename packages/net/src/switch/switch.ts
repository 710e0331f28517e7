/**
 * An Ethernet switch in memory, for the VMs of one process and whatever else sits on its ports (IEEE 802.1Q, clause 8, without
 * VLANs of its own and without a spanning tree: nothing here makes a loop by itself).
 *
 * A frame goes from the memory of the guest that sends it straight into the memory of the one that receives it. What that one
 * takes of checksums and segments to be completed goes as it is; the rest is completed here.
 */
import type { Clock } from '@vmm/devices'
import {
  checkMac,
  FRAME_QUEUE_BYTES_MIN,
  NetFrame as Frame,
  NET_BUSY,
  NET_DONE,
  NET_DROPPED,
  type NetFrame,
  type NetOutcome,
  parseMac,
} from '@vmm/devices/virtio'
import { NetError } from '../error.ts'
import { FrameAddresses, isMulticast, isReserved, macNumber } from './address.ts'
import { Completion, offloadsOf } from './completion.ts'
import { MacTable } from './mac-table.ts'
import type { Inlet, Outlet } from './outlet.ts'
import { type PortOptions, SwitchPort } from './port.ts'
import { UserPort, type UserPortOptions } from './user-port.ts'

const QUEUE_BYTES = 2 ** 20
const QUEUE_PAIRS_MAX = 64
const MACS_PER_PORT = 256
const AGE_MS = 300_000
/** The most bytes to give to ports in one turn of the event loop, but for the frame that passes it: some milliseconds. */
const TURN_BYTES = 2 ** 24
/** The time since the process began. */
const CLOCK: Clock = Object.freeze({ now: () => performance.now() })

/** Options of {@link Switch}. */
export interface SwitchOptions {
  /** The most addresses to remember of a port, 1 to 65536; default 256. */
  readonly macsPerPort?: number | undefined
  /** How long to remember an address that sends nothing, in milliseconds; default 300,000, as IEEE 802.1Q has it. */
  readonly ageMs?: number | undefined
  /** Default the host's monotonic clock. */
  readonly clock?: Clock | undefined
}

/**
 * A learning switch.
 *
 * @example
 * ```ts
 * const lan = new Switch()
 * const one = new Net({ network: lan.port(), mac: '02:00:00:00:00:01' })
 * const two = new Net({ network: lan.port(), mac: '02:00:00:00:00:02' })
 * const me = lan.connect({ receive: (frame) => console.log(frame.length) })
 * me.send(frame)
 * ```
 */
export class Switch {
  readonly #ports = new Set<Outlet>()
  readonly #macs: MacTable<Outlet>
  readonly #clock: Clock
  readonly #addresses = new FrameAddresses()
  readonly #completion = new Completion()
  readonly #completed = new Frame()
  /** Whom the frame is for that is on its way: the first of them, as many as there are. */
  readonly #targets: Outlet[] = []
  #targetCount = 0
  readonly #touched: Outlet[] = []
  #touchedCount = 0
  readonly #inlet: Inlet
  readonly #nextTurn: () => void = () => this.#beginTurn()
  #isForwarding = false
  /** Of this turn of the event loop, for learning and forgetting. */
  #now = 0
  /** Bytes that were given to ports in this turn. */
  #spent = 0
  /** A frame was not taken in this turn: its port is to try again. */
  #isBusy = false

  /** @throws NetError ERR_NET_OPTION */
  constructor(options: SwitchOptions = {}) {
    const { macsPerPort = MACS_PER_PORT, ageMs = AGE_MS, clock = CLOCK } = options
    if (!(Number.isInteger(macsPerPort) && macsPerPort >= 1 && macsPerPort <= 65536)) {
      refuse(`1 to 65536 addresses of a port, got ${macsPerPort}`)
    }
    if (!(ageMs > 0)) refuse(`addresses are remembered for some time, got ${ageMs} ms`)
    this.#macs = new MacTable({ perPort: macsPerPort, ageMs })
    this.#clock = clock
    const isForwarding = (): boolean => this.#isForwarding
    this.#inlet = {
      get isForwarding() {
        return isForwarding()
      },
      forward: (frame, from, pair) => this.#forward(frame, from, pair),
      flush: () => this.#flush(),
      forget: (port) => this.#macs.forget(port, false),
      remove: (port) => this.#remove(port),
    }
  }

  /** Ports that are there. */
  get portCount(): number {
    return this.#ports.size
  }

  /** Addresses that are remembered. */
  get macCount(): number {
    return this.#macs.size
  }

  /**
   * A port for a `Net`.
   * @throws NetError ERR_NET_OPTION; DevicesError ERR_DEVICE_OPTION for a `mac` that no device can have
   */
  port(options: PortOptions = {}): SwitchPort {
    const { queueBytes = QUEUE_BYTES, queuePairs = 1 } = options
    if (!(Number.isSafeInteger(queueBytes) && queueBytes >= FRAME_QUEUE_BYTES_MIN && queueBytes < 2 ** 32)) {
      refuse(`a queue has ${FRAME_QUEUE_BYTES_MIN} bytes or more, got ${queueBytes}`)
    }
    if (!(Number.isInteger(queuePairs) && queuePairs >= 1 && queuePairs <= QUEUE_PAIRS_MAX)) {
      refuse(`1 to ${QUEUE_PAIRS_MAX} pairs of queues, got ${queuePairs}`)
    }
    const fixedMac = numberOf(options.mac)
    return this.#add(new SwitchPort({ inlet: this.#inlet, fixedMac, queueBytes, queuePairs }))
  }

  /**
   * A port for JavaScript.
   * @throws NetError ERR_NET_OPTION; DevicesError ERR_DEVICE_OPTION for a `mac` that no device can have
   */
  connect(options: UserPortOptions): UserPort {
    const fixedMac = numberOf(options.mac)
    return this.#add(new UserPort({ options, inlet: this.#inlet, fixedMac, queueBytes: QUEUE_BYTES }))
  }

  #add<P extends Outlet>(port: P): P {
    if (port.fixedMac !== undefined && !this.#macs.fix(port.fixedMac, port)) {
      refuse('another port has this address for its own')
    }
    this.#ports.add(port)
    return port
  }

  #remove(port: Outlet): void {
    this.#ports.delete(port)
    this.#macs.forget(port, true)
    // What is left over of earlier frames would keep a guest's memory.
    if (!this.#isForwarding) this.#targets.length = 0
    if (this.#touchedCount === 0) this.#touched.length = 0
  }

  #forward(frame: NetFrame, from: Outlet, pair: number): NetOutcome {
    if (this.#spent >= TURN_BYTES) {
      this.#isBusy = true
      return NET_BUSY
    }
    if (this.#spent === 0) this.#now = this.#clock.now()
    const { tally } = from
    tally.framesIn += 1
    tally.bytesIn += frame.length
    // One that a guest sends while its host is in `receive`, called from here: see `UserPort.send` for how to do that.
    if (!this.#isForwarding && this.#finds(frame, from)) {
      this.#deliver(frame, pair)
      return NET_DONE
    }
    tally.refused += 1
    return NET_DROPPED
  }

  /** Looks for those whom a frame is for. @returns whether there is one */
  #finds(frame: NetFrame, from: Outlet): boolean {
    const addresses = this.#addresses
    addresses.read(frame)
    const { destination, source } = addresses
    const targets = this.#targets
    let count = 0
    if (this.#accepts(source, from) && !isReserved(destination)) {
      const known = isMulticast(destination) ? undefined : this.#macs.find(destination, this.#now)
      if (known === undefined) {
        for (const port of this.#ports) {
          if (port === from || !port.isUp) continue
          targets[count] = port
          count += 1
        }
      } else if (known !== from) {
        targets[0] = known
        count = 1
      }
    }
    this.#targetCount = count
    return count > 0
  }

  /** Whether a port may send from an address, which is learned. */
  #accepts(mac: number, from: Outlet): boolean {
    if (isMulticast(mac)) return false
    if (from.fixedMac !== undefined) return from.fixedMac === mac
    return this.#macs.learn(mac, from, this.#now)
  }

  #deliver(frame: NetFrame, pair: number): void {
    const targets = this.#targets
    const count = this.#targetCount
    if (this.#spent === 0) setImmediate(this.#nextTurn)
    this.#spent += frame.length * count
    this.#isForwarding = true
    try {
      const needed = offloadsOf(frame)
      let rest = 0
      for (let i = 0; i < count; i += 1) {
        const port = targets[i] as Outlet
        this.#touch(port)
        if ((needed & ~port.takes) === 0) {
          frame.rewind()
          port.put(frame, pair)
        } else {
          targets[rest] = port
          rest += 1
        }
      }
      if (rest > 0) this.#complete(frame, pair, rest)
    } finally {
      this.#isForwarding = false
    }
  }

  /** Makes plain frames for those that take nothing else, the first targets: once for all of them. */
  #complete(frame: NetFrame, pair: number, count: number): void {
    const targets = this.#targets
    if (!this.#completion.begin(frame)) {
      for (let i = 0; i < count; i += 1) (targets[i] as Outlet).tally.dropped += 1
      return
    }
    while (this.#completion.next(this.#completed)) {
      for (let i = 0; i < count; i += 1) {
        this.#completed.rewind()
        ;(targets[i] as Outlet).put(this.#completed, pair)
      }
    }
  }

  #touch(port: Outlet): void {
    if (port.isTouched) return
    port.isTouched = true
    this.#touched[this.#touchedCount] = port
    this.#touchedCount += 1
  }

  #beginTurn(): void {
    this.#spent = 0
    if (!this.#isBusy) return
    this.#isBusy = false
    for (const port of this.#ports) port.resume()
  }

  #flush(): void {
    const count = this.#touchedCount
    this.#touchedCount = 0
    for (let i = 0; i < count; i += 1) {
      const port = this.#touched[i] as Outlet
      port.isTouched = false
      port.flush()
    }
  }
}

function numberOf(mac: string | Uint8Array | undefined): number | undefined {
  if (mac === undefined) return undefined
  const bytes = typeof mac === 'string' ? parseMac(mac) : Uint8Array.from(mac)
  checkMac(bytes)
  return macNumber(new DataView(bytes.buffer))
}

function refuse(what: string): never {
  throw new NetError('ERR_NET_OPTION', `switch: ${what}`)
}
