/**
 * The attack that every device has to stand: what a driver may do to registers and memory, well-formed requests among it, at
 * any moment of the device's work. A device is a row, a `Target`; what must hold is here, once for all of them.
 */
import type { MockBuffer, MockDriver } from '@vmm/virtio-queue/testing'
import { expect } from 'vitest'
import { DevicesError } from '../../src/error.ts'
import { type Bus, createMmioBus } from '../../src/index.ts'
import type { MmioTransportState, QueueFeatureOptions, VirtioDevice } from '../../src/virtio/index.ts'
import { MmioTransport, VIRTIO_MMIO_SIZE } from '../../src/virtio/index.ts'
import * as reg from '../../src/virtio/mmio/registers.ts'
import { BUFFERS, HostileMemory } from './hostile-memory.ts'
import type { Step } from './hostile-steps.ts'
import { DRIVER_OK, Guest } from './support.ts'

/** A request that a good driver makes: what the attack begins from. */
export interface Request {
  readonly queue: number
  /** What the device reads. */
  readonly readable: Uint8Array
  /** Lengths of the buffers that it writes. */
  readonly writable: readonly number[]
}

/** A device with its host side, ready to be attacked. */
export interface Victim<D extends VirtioDevice = VirtioDevice> {
  readonly device: D
  /** Its state can be saved before a driver uses it, and not after. */
  readonly isSavedWhenReset?: boolean
  /** A restored device has something to tell of its host side, which is another one. */
  readonly isChangedByRestore?: boolean
  /** The host side does a little of its work, late and in any order: completes something, sends something. */
  step?(choice: number): void
  /** A turn of the event loop, for host sides whose work comes by it; default a turn of its microtasks. */
  turn?(): Promise<void>
  /** The host side ends what it has begun, until nothing is under way. */
  settle?(): Promise<void>
  /** Fails where the host side was harmed. */
  check?(): void
  /** Objects of the host side that might grow in number. */
  count?(): number
  /** A good driver uses the device, which was begun anew: fails where it does not work. */
  works(guest: HostileGuest<D>): void | Promise<void>
  close?(): void
}

/** A row: a device to be attacked. */
export interface Target<D extends VirtioDevice = VirtioDevice> {
  readonly name: string
  readonly requests: readonly Request[]
  make(): Victim<D>
  /** Default shared memory. */
  memory?(): HostileMemory
}

/** A guest over memory that has guards. */
export class HostileGuest<D extends VirtioDevice = VirtioDevice> extends Guest<D> {
  readonly hostile: HostileMemory
  drivers: MockDriver[] = []

  constructor(
    device: D,
    memory: HostileMemory,
    features: QueueFeatureOptions,
    restore?: ConstructorParameters<typeof Guest<D>>[2],
  ) {
    super(device, { memory, features }, restore)
    this.hostile = memory
  }

  begin(): void {
    this.drivers = this.start()
  }

  /** A good driver's request, at a place of its own, answered at once or after `settle`. @returns bytes written */
  async request(request: Request, settle?: () => Promise<void>): Promise<Uint8Array> {
    const driver = this.drivers[request.queue]
    if (driver === undefined) throw new Error(`no queue ${request.queue}`)
    const { buffers, answer } = layOut(this.hostile, request, BUFFERS)
    driver.send(buffers)
    this.notify(request.queue)
    this.turns()
    await settle?.()
    this.turns()
    const used = driver.reap()
    if (used === undefined) throw new Error('a good driver got no answer')
    return this.hostile.read(answer, used.length)
  }
}

/** Puts a request into memory. @returns where the device's bytes are */
function layOut(
  memory: HostileMemory,
  { readable, writable }: Request,
  at: number,
): { buffers: MockBuffer[]; answer: number } {
  memory.write(at, readable)
  const buffers: MockBuffer[] = readable.length === 0 ? [] : [{ address: at, length: readable.length }]
  const answer = at + readable.length
  let next = answer
  for (const length of writable) {
    buffers.push({ address: next, length, writable: true })
    next += length
  }
  return { buffers, answer }
}

function busOf({ transport }: HostileGuest): Bus {
  const bus = createMmioBus()
  bus.register({ base: 0, size: VIRTIO_MMIO_SIZE, device: transport })
  return bus
}

/** Turns of the event loop before a driver that goes on writing does something else. */
const TURNS = 20

/** A victim under attack. */
export class Attack {
  guest: HostileGuest
  victim: Victim
  readonly #target: Target
  readonly #features: QueueFeatureOptions
  #bus: Bus
  readonly #data = new DataView(new ArrayBuffer(8))

  constructor(target: Target, features: QueueFeatureOptions = {}) {
    this.#target = target
    this.#features = features
    this.victim = target.make()
    this.guest = new HostileGuest(this.victim.device, target.memory?.() ?? new HostileMemory(), features)
    this.#bus = busOf(this.guest)
  }

  /** A step. Whatever it is, nothing throws, and what is put off is bounded. */
  async apply(one: Step): Promise<void> {
    const { guest, victim } = this
    if (one.do === 'register') this.#write(one.offset, one.value, one.size)
    else if (one.do === 'memory') guest.hostile.write(one.address, one.bytes)
    else if (one.do === 'ring') {
      const driver = this.#driver(one.queue)
      const areas = [driver?.descriptorArea, driver?.driverArea, driver?.deviceArea]
      guest.hostile.write((areas[one.area] ?? 0) + one.offset, one.bytes)
    } else if (one.do === 'request') this.#request(one)
    else if (one.do === 'descriptors') this.#publish(one.queue, (driver) => driver.addRaw(one.raw), true)
    else if (one.do === 'begin') guest.begin()
    else if (one.do === 'turn') guest.deferred.shift()?.()
    else if (one.do === 'turns') this.#turns()
    else if (one.do === 'doorbell') guest.transport.notify(one.value)
    else if (one.do === 'host') victim.step?.(one.value)
    else if (one.do === 'wait') await victim.turn?.()
    else if (one.do === 'reap') this.#reap(one.value)
    else if (one.do === 'move') await this.#move()
    else {
      guest.select(one.value % guest.device.queueSizes.length)
      guest.write(reg.VIRTIO_MMIO_QUEUE_RESET, 1)
    }
    const { queueSizes } = guest.device
    // One turn for each queue, and as many of the device's own.
    expect(guest.deferred.length).toBeLessThanOrEqual(2 * queueSizes.length)
    expect(victim.count?.() ?? 0).toBeLessThanOrEqual(queueSizes.reduce((sum, size) => sum + size))
  }

  /** What must hold when it is over, whatever it was; and then a good driver finds the device in order. */
  async end(): Promise<void> {
    const { guest, victim } = this
    await this.settle()
    expect(guest.hostile.guardsIntact()).toBe(true)
    victim.check?.()
    for (const count of Object.values(guest.transport.counters))
      expect(Number.isSafeInteger(count)).toBe(true)
    this.#expectPageAsRead()
    this.#expectState()
    await this.#expectSilenceAfterReset()
    guest.begin()
    expect(guest.status).toBe(DRIVER_OK)
    await victim.works(guest)
    expect(guest.hostile.guardsIntact()).toBe(true)
    victim.check?.()
  }

  /** Ends what is under way. */
  async settle(): Promise<void> {
    this.guest.turns()
    await this.victim.settle?.()
    this.guest.turns()
  }

  /** The test's own records grow as well. */
  forget(): void {
    this.guest.faults.length = 0
    this.guest.failures.length = 0
  }

  close(): void {
    this.guest.transport.close()
    this.victim.close?.()
    this.guest.hostile.close()
  }

  /** A driver that goes on writing makes work for ever: so many turns, and what is left comes later. */
  #turns(): void {
    for (let i = 0; i < TURNS && this.guest.deferred.length > 0; i += 1) this.guest.deferred.shift()?.()
  }

  #driver(queue: number): MockDriver | undefined {
    return this.guest.drivers[queue % Math.max(1, this.guest.drivers.length)]
  }

  #write(offset: number, value: number, size: number): void {
    this.#data.setUint32(0, value, true)
    this.#bus.write(offset, this.#data, 0, size)
  }

  #request(one: Extract<Step, { do: 'request' }>): void {
    // A device that gave up is of no use to a driver.
    if (one.which % 2 === 0 && this.guest.status !== DRIVER_OK) this.guest.begin()
    const { requests } = this.#target
    const request = requests[(one.which >>> 1) % requests.length]
    if (request === undefined) return
    const readable = Uint8Array.from(request.readable)
    for (const [at, byte] of one.wrong) if (at < readable.length) readable[at] = byte
    const { buffers } = layOut(this.guest.hostile, { ...request, readable }, one.address)
    const last = buffers.pop()
    if (last !== undefined) {
      buffers.push(...one.more, { ...last, length: Math.max(0, last.length - one.less) })
    }
    if (buffers.length === 0) return
    this.#publish(request.queue, (driver) => driver.add(buffers, { indirect: one.indirect }), one.ring)
  }

  #publish(queue: number, add: (driver: MockDriver) => unknown, ring: boolean): void {
    const driver = this.#driver(queue)
    if (driver === undefined) return
    add(driver)
    driver.publish()
    if (ring) this.guest.notify(queue % this.guest.drivers.length)
  }

  /** The driver takes back what the device has used. One whose rings were scribbled over finds nonsense and begins anew. */
  #reap(queue: number): void {
    try {
      this.#driver(queue)?.reapAll()
    } catch {
      this.guest.begin()
    }
  }

  /** The device is saved, and goes on as another one behind the same driver. Not one that cannot be saved now. */
  async #move(): Promise<void> {
    const { guest, victim } = this
    await this.settle()
    await guest.transport.pause()
    let state: MmioTransportState
    try {
      state = guest.transport.state()
    } catch (error) {
      if (!(error instanceof DevicesError && error.code === 'ERR_DEVICE_BUSY')) throw error
      guest.transport.resume()
      return
    }
    this.victim = this.#target.make()
    this.guest = new HostileGuest(this.victim.device, guest.hostile, this.#features, (options) =>
      MmioTransport.fromState(state, options),
    )
    this.guest.drivers = guest.drivers
    this.guest.negotiated = guest.negotiated
    this.#bus = busOf(this.guest)
    guest.transport.close()
    victim.close?.()
    this.guest.transport.resume()
  }

  /** What was begun before a reset touches no memory after it, whenever it ends. */
  async #expectSilenceAfterReset(): Promise<void> {
    const { guest } = this
    guest.begin()
    for (const [i, request] of this.#target.requests.entries()) {
      const { buffers } = layOut(guest.hostile, request, BUFFERS + 0x2000 * i)
      this.#publish(request.queue, (driver) => driver.add(buffers), true)
    }
    guest.status = 0
    const before = guest.hostile.regions.map(({ bytes }) => Buffer.from(bytes))
    await this.settle()
    for (const [i, { bytes }] of guest.hostile.regions.entries()) {
      expect(before[i]?.equals(bytes)).toBe(true)
    }
  }

  /** The page that guests read without an exit has what the exit would give. */
  #expectPageAsRead(): void {
    const exits = new DataView(new ArrayBuffer(VIRTIO_MMIO_SIZE))
    for (let at = 0; at < VIRTIO_MMIO_SIZE; at += 4) this.#bus.read(at, exits, at, 4)
    expect(Buffer.compare(this.guest.transport.page, new Uint8Array(exits.buffer))).toBe(0)
  }

  /** No driver gets a device to where its saved state would be refused. */
  #expectState(): void {
    if (this.victim.isSavedWhenReset === true) this.guest.status = 0
    const state = this.guest.transport.state()
    const victim = this.#target.make()
    try {
      const copy = new HostileGuest(victim.device, this.guest.hostile, this.#features, (options) =>
        MmioTransport.fromState(state, options),
      )
      if (this.victim.isChangedByRestore !== true) expect(copy.transport.state()).toEqual(state)
      copy.transport.close()
    } finally {
      victim.close?.()
    }
  }
}
