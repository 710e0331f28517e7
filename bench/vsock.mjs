/**
 * What virtio-vsock costs on the host: bytes in a stream and messages back and forth, through the device and a driver in the same
 * process that writes and reads packets by hand; over a PassThrough of Node's, and over a Unix socket pair, both through the same
 * stream interface in the same run. And what a connection weighs.
 */
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { setImmediate as turn } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { MmioTransport, Vsock } from '../packages/devices/dist/virtio.js'
import { createMockDriver } from '../packages/virtio-queue/dist/testing.js'
import { GuestMemory } from '../packages/vm-memory/dist/index.js'
import { median, printIfMain, row } from './support/report.mjs'

const ROUNDS = 9
const STREAM_BYTES = 64 * 2 ** 20
const CHUNK = 65_536
const PINGS = 20_000
const CONNECTIONS = 5000
const HEADER = 44
const RING = 128
const BUFFER = 4096
const [REQUEST, RESPONSE, RW] = [1, 2, 5]
const STATUS = 0x70

/** A driver that keeps its buffers where they are: nothing but the rings and the headers is written for a packet. */
class Guest {
  /** Called with the address and length of a payload. */
  onData = () => {}
  /** Called when the host may have more room. */
  onRoom = () => {}
  sent = 0
  received = 0
  /** Of the host: what it has forwarded and has room for. */
  peerForwarded = 0
  peerBuffer = 0
  #isDue = false

  constructor(vsock) {
    const memory = GuestMemory.fromRanges([{ start: 0, size: 2 ** 25 }])
    this.view = memory.findRegion(0).view
    this.bytes = memory.findRegion(0).bytes
    this.transport = new MmioTransport({ device: vsock, memory, interrupt: { trigger: () => this.#soon() } })
    const write = (offset, value) => this.transport.write(offset, value >>> 0, 4)
    write(STATUS, 0b0011)
    for (const page of [0, 1]) {
      write(0x14, page)
      write(0x24, page)
      write(0x20, this.transport.read(0x10, 4))
    }
    write(STATUS, 0b1011)
    this.drivers = [0, 1].map((queue) => {
      const features = { eventIndex: true, indirect: true }
      const driver = createMockDriver({ memory, size: RING, base: 0x1_0000 * (queue + 1), features })
      const registers = [0x30, 0x38, 0x80, 0x90, 0xa0, 0x44]
      const { descriptorArea, driverArea, deviceArea } = driver
      const values = [queue, RING, descriptorArea, driverArea, deviceArea, 1]
      for (const [i, value] of values.entries()) write(registers[i], value)
      return driver
    })
    write(STATUS, 0b1111)
    this.rxSlots = new Map()
    for (let i = 0; i < RING; i += 1) this.#give(0x10_0000 + i * BUFFER)
    this.txFree = Array.from({ length: RING }, (_, i) => 0x20_0000 + i * (HEADER + CHUNK))
    this.txSlots = new Map()
    this.#kick()
  }

  /** Sends a packet, false where there is no room for it. Payload is what happens to be in the buffer. */
  send(op, guestPort, hostPort, length = 0) {
    const at = this.txFree.pop()
    if (at === undefined) return false
    const { view } = this
    view.setUint32(at, 3, true)
    view.setUint32(at + 8, 2, true)
    view.setUint32(at + 16, guestPort, true)
    view.setUint32(at + 20, hostPort, true)
    view.setUint32(at + 24, length, true)
    view.setUint32(at + 28, 1 | (op << 16), true)
    view.setUint32(at + 36, 2 ** 30, true)
    view.setUint32(at + 40, this.received >>> 0, true)
    const token = this.drivers[1].add([{ address: at, length: HEADER + length }])
    this.txSlots.set(token, at)
    this.sent += length
    return true
  }

  get credit() {
    return this.peerBuffer - ((this.sent - this.peerForwarded) >>> 0)
  }

  poll() {
    const [rx, tx] = this.drivers
    do {
      for (let used = tx.reap(); used !== undefined; used = tx.reap()) {
        this.txFree.push(this.txSlots.get(used.token))
        this.txSlots.delete(used.token)
      }
      for (let used = rx.reap(); used !== undefined; used = rx.reap()) {
        const at = this.rxSlots.get(used.token)
        this.#take(at, used.length - HEADER)
        this.#give(at)
      }
      this.#kick()
    } while (rx.enableInterrupts() || tx.enableInterrupts())
  }

  #take(at, length) {
    const { view } = this
    this.peerBuffer = view.getUint32(at + 36, true)
    this.peerForwarded = view.getUint32(at + 40, true)
    const op = view.getUint16(at + 30, true)
    const ports = [view.getUint32(at + 20, true), view.getUint32(at + 16, true)]
    if (op === RW) {
      this.received += length
      this.onData(length, ...ports)
    } else if (op === REQUEST) this.send(RESPONSE, ...ports)
    else this.onRoom()
  }

  #give(at) {
    this.rxSlots.set(this.drivers[0].add([{ address: at, length: BUFFER, writable: true }]), at)
  }

  #kick() {
    for (const [queue, driver] of this.drivers.entries()) {
      driver.publish()
      if (driver.needsKick()) this.transport.notify(queue)
    }
  }

  #soon() {
    if (this.#isDue) return
    this.#isDue = true
    setImmediate(() => {
      this.#isDue = false
      this.poll()
    })
  }
}

const mbPerSecond = (start) => STREAM_BYTES / 1000 / (performance.now() - start)

/** Writes as fast as a stream takes it. */
async function pump(stream) {
  const chunk = Buffer.alloc(CHUNK)
  for (let left = STREAM_BYTES; left > 0; left -= CHUNK) {
    if (!stream.write(chunk)) await once(stream, 'drain')
  }
}

async function toGuest() {
  const vsock = new Vsock({ guestCid: 3 })
  const guest = new Guest(vsock)
  const stream = await vsock.connect(1)
  const start = performance.now()
  await pump(stream)
  while (guest.received < STREAM_BYTES) await turn()
  const rate = mbPerSecond(start)
  stream.destroy()
  return rate
}

async function toHost() {
  const vsock = new Vsock({ guestCid: 3 })
  const guest = new Guest(vsock)
  const streams = []
  vsock.listen(1, (stream) => streams.push(stream))
  guest.send(REQUEST, 7, 1)
  guest.poll()
  while (streams.length === 0 || guest.peerBuffer === 0) await turn()
  let got = 0
  streams[0].on('data', (chunk) => {
    got += chunk.length
  })
  guest.sent = 0
  const push = () => {
    while (guest.sent < STREAM_BYTES && guest.credit >= CHUNK && guest.send(RW, 7, 1, CHUNK));
  }
  guest.onRoom = push
  const start = performance.now()
  while (got < STREAM_BYTES) {
    push()
    guest.poll()
    await turn()
  }
  const rate = mbPerSecond(start)
  streams[0].destroy()
  return rate
}

async function passThrough() {
  const stream = new PassThrough()
  stream.resume()
  const start = performance.now()
  await pump(stream)
  return mbPerSecond(start)
}

/** A pair of connected Unix sockets. */
async function socketPair(use) {
  const folder = mkdtempSync(join(tmpdir(), 'vmm-bench-'))
  const path = join(folder, 's')
  const server = net.createServer().listen(path)
  try {
    await once(server, 'listening')
    const one = net.createConnection(path)
    const [other] = await once(server, 'connection')
    const result = await use(one, other)
    one.destroy()
    other.destroy()
    return result
  } finally {
    server.close()
    rmSync(folder, { recursive: true })
  }
}

const socketStream = () =>
  socketPair(async (one, other) => {
    let got = 0
    other.on('data', (chunk) => {
      got += chunk.length
    })
    const start = performance.now()
    await pump(one)
    while (got < STREAM_BYTES) await turn()
    return mbPerSecond(start)
  })

/** Microseconds for a message of 64 bytes there and back. */
async function pingPong(stream) {
  const message = Buffer.alloc(64)
  let left = PINGS
  const start = performance.now()
  await new Promise((resolve) => {
    stream.on('data', () => {
      left -= 1
      if (left > 0) stream.write(message)
      else resolve()
    })
    stream.write(message)
  })
  return ((performance.now() - start) * 1000) / PINGS
}

async function vsockPings() {
  const vsock = new Vsock({ guestCid: 3 })
  const guest = new Guest(vsock)
  guest.onData = (length, guestPort, hostPort) => guest.send(RW, guestPort, hostPort, length)
  return pingPong(await vsock.connect(1))
}

const socketPings = () =>
  socketPair((one, other) => {
    other.pipe(other)
    return pingPong(one)
  })

/** Bytes of heap for a connection that does nothing, its stream included. */
async function connectionBytes() {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc')
  const used = async () => {
    for (let i = 0; i < 3; i += 1) {
      await turn()
      collect()
    }
    const { heapUsed, external } = process.memoryUsage()
    return heapUsed + external
  }
  const vsock = new Vsock({ guestCid: 3 })
  const guest = new Guest(vsock)
  const before = await used()
  const streams = []
  for (let i = 0; i < CONNECTIONS; i += 500) {
    streams.push(...(await Promise.all(Array.from({ length: 500 }, () => vsock.connect(1)))))
  }
  const bytes = ((await used()) - before) / CONNECTIONS
  if (vsock.connections !== CONNECTIONS || streams.length !== CONNECTIONS || guest.received > 0) {
    throw new Error('not all are there')
  }
  const floor = await used()
  const plain = Array.from({ length: CONNECTIONS }, () => new PassThrough())
  const plainBytes = ((await used()) - floor) / plain.length
  return [bytes, plainBytes]
}

/** The ways in turn, so that a busy machine is busy for all of them. */
async function compare(ways) {
  const times = Object.fromEntries(Object.keys(ways).map((name) => [name, []]))
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const [name, way] of Object.entries(ways)) times[name].push(await way())
  }
  return Object.fromEntries(Object.entries(times).map(([name, values]) => [name, median(values)]))
}

export async function run() {
  const rates = await compare({ toGuest, toHost, passThrough, socketStream })
  const pings = await compare({ vsockPings, socketPings })
  const [bytes, plainBytes] = await connectionBytes()
  const against = (name, figure, unit, peer, peerFigure) => row({ name, figure, unit, peer, peerFigure })
  return [
    against('vsock stream to the guest', rates.toGuest, 'MB/s', 'Unix sockets', rates.socketStream),
    against('vsock stream to the guest', rates.toGuest, 'MB/s', 'PassThrough', rates.passThrough),
    against('vsock stream to the host', rates.toHost, 'MB/s', 'Unix sockets', rates.socketStream),
    against('vsock stream to the host', rates.toHost, 'MB/s', 'PassThrough', rates.passThrough),
    against('vsock message and answer', pings.vsockPings, 'us', 'Unix sockets', pings.socketPings),
    against('vsock connection that is idle', bytes, 'bytes', 'PassThrough', plainBytes),
  ]
}

await printIfMain(import.meta, run)
