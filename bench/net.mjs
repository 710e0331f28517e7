/**
 * What a frame costs from guest to guest, over the switch and over taps, without guests: both drivers are a few stores to
 * rings that stay as they are. Against bare copies of the same bytes, and bare calls on the same taps, in the same run.
 *
 * `node bench/net.mjs` after `npm run build` prints a table. Taps need root; they are in a network namespace of a process of
 * its own, with which they go away.
 */
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { setImmediate as turn } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { MockTransport } from '../packages/devices/dist/testing.js'
import { Net } from '../packages/devices/dist/virtio.js'
import { Switch } from '../packages/net/dist/index.js'
import { openTap } from '../packages/net/dist/tap.js'
import { addressOf, IoVector, ioctl, OwnedFd, openPath } from '../packages/sys-util/dist/index.js'
import { MappedMemory } from '../packages/vm-memory/dist/mmap.js'
import { isMain, printIfMain, row } from './support/report.mjs'

const SELF = fileURLToPath(import.meta.url)
/** The argument of the process that is in the namespace. */
const INSIDE = 'inside'
const IP = '/sbin/ip'
/** Frames that a driver shows at once: fewer than the device takes in a turn of the event loop. */
const BATCH = 96
const QUEUE_SIZE = 256
const MEMORY_BYTES = 2 ** 25
const HEADER_BYTES = 12
const TX_BUFFERS = 0x100_0000
const RX_BUFFERS = 0x80_0000
const RX_BUFFER_BYTES = 2048
const ROUNDS = 60
const NEEDS_CSUM = 1
const TCPV4 = 1
const MACS = [
  [2, 0, 0, 0, 0, 1],
  [2, 0, 0, 0, 0, 2],
]

/** The best of many rounds, in nanoseconds a frame. @param work sends so many frames, and returns how many arrived */
function measure(work, frames) {
  let best = Number.POSITIVE_INFINITY
  for (let round = 0; round < ROUNDS; round += 1) best = Math.min(best, measureOnce(work, frames))
  return best
}

/** A frame of a protocol of its own: the kernel looks at those that it knows. */
function plainFrame(length) {
  const frame = new Uint8Array(length).fill(0x5a)
  frame.set(MACS[1])
  frame.set(MACS[0], 6)
  frame.set([0x88, 0xb5], 12)
  return frame
}

/** A piece of TCP stream over IPv4, as long as it is to be. */
function tcpFrame(length) {
  const frame = plainFrame(length)
  const view = new DataView(frame.buffer)
  view.setUint16(12, 0x0800)
  frame.set([0x45, 0, (length - 14) >> 8, (length - 14) & 255, 0, 1, 0x40, 0, 64, 6, 0, 0], 14)
  frame.set([10, 0, 0, 1, 10, 0, 0, 2], 26)
  frame.fill(0, 34, 54)
  view.setUint8(46, 0x50)
  return frame
}

/** A guest with a driver that costs next to nothing: it moves indices, and nothing else. */
class Guest {
  constructor(network) {
    this.memory = MappedMemory.anonymous([{ start: 0, size: MEMORY_BYTES }])
    this.net = new Net({ network, queueSize: QUEUE_SIZE })
    this.transport = new MockTransport(this.net, this.memory.memory)
    this.region = this.memory.memory.findRegion(0)
    this.u16 = new Uint16Array(this.region.bytes.buffer, this.region.bytes.byteOffset, MEMORY_BYTES / 2)
    const [rx, tx] = this.transport.drivers
    this.rxAvail = rx.driverArea / 2
    this.rxUsed = rx.deviceArea / 2
    this.txAvail = tx.driverArea / 2
    this.reaped = 0
    this.frames = 0
  }

  setOffloads(features) {
    const control = this.transport.drivers[2]
    const at = 0x60_0000
    this.region.bytes.set([5, 0, features & 255, (features >> 8) & 255, 0, 0, 0, 0, 0, 0], at)
    control.send([
      { address: at, length: 10 },
      { address: at + 16, length: 1, writable: true },
    ])
    this.net.notify(2)
    control.reapAll()
  }

  /** All buffers to receive into, for good. */
  offer() {
    const driver = this.transport.drivers[0]
    for (let i = 0; i < QUEUE_SIZE; i += 1) {
      driver.add([{ address: RX_BUFFERS + i * RX_BUFFER_BYTES, length: RX_BUFFER_BYTES, writable: true }])
    }
    driver.publish()
    this.offered = QUEUE_SIZE
    this.net.notify(0)
  }

  /** Places so many frames in the ring, which stay there. */
  place(frame, header, count) {
    const driver = this.transport.drivers[1]
    const stride = Math.ceil((HEADER_BYTES + frame.length) / 64) * 64
    for (let i = 0; i < QUEUE_SIZE; i += 1) {
      const address = TX_BUFFERS + (i % count) * stride
      this.region.bytes.set(header, address)
      this.region.bytes.set(frame, address + HEADER_BYTES)
      driver.add([{ address, length: HEADER_BYTES + frame.length }])
    }
    this.sent = this.u16[this.txAvail + 1]
  }

  send(count) {
    this.sent = (this.sent + count) & 0xffff
    this.u16[this.txAvail + 1] = this.sent
    this.net.notify(1)
  }

  /** Gives back the buffers of what was received; the ring's heads come round in the order that they were offered in. */
  reap() {
    const used = this.u16[this.rxUsed + 1]
    const count = (used - this.reaped) & 0xffff
    if (count === 0) return
    this.reaped = used
    for (let i = 0; i < count; i += 1) {
      const head = this.u16[this.rxUsed + 2 + 4 * ((used - count + i) & (QUEUE_SIZE - 1))]
      this.u16[this.rxAvail + 2 + (this.offered & (QUEUE_SIZE - 1))] = head
      this.offered = (this.offered + 1) & 0xffff
    }
    this.u16[this.rxAvail + 1] = this.offered
    this.net.notify(0)
  }

  get received() {
    return this.net.counters.rxFrames
  }

  close() {
    this.transport.reset()
    this.memory.close()
  }
}

const segmentHeader = () => [NEEDS_CSUM, TCPV4, 54, 0, 1448 & 255, 1448 >> 8, 34, 0, 16, 0, 0, 0]
const NO_HEADER = new Array(HEADER_BYTES).fill(0)

/** Copies of as many bytes, from place to place in the same memory. */
function bareCopies(length, batch) {
  const memory = new Uint8Array(MEMORY_BYTES)
  const pairs = Array.from({ length: batch }, (_, i) => [
    memory.subarray(RX_BUFFERS + i * RX_BUFFER_BYTES, RX_BUFFERS + i * RX_BUFFER_BYTES + length),
    memory.subarray(TX_BUFFERS + i * length, TX_BUFFERS + (i + 1) * length),
  ])
  return () => {
    for (let i = 0; i < batch; i += 1) pairs[i][0].set(pairs[i][1])
    return batch
  }
}

function overSwitch({ length, batch, header, features, packets }) {
  const lan = new Switch()
  const [one, two] = [new Guest(lan.port()), new Guest(lan.port())]
  two.offer()
  if (features !== undefined) two.setOffloads(features)
  one.place(header === NO_HEADER ? plainFrame(length) : tcpFrame(length), header, batch)
  const work = () => {
    const before = two.received
    one.send(batch)
    while (two.received - before < batch * packets) {
      const at = two.received
      two.reap()
      if (two.received === at) break
    }
    const arrived = two.received - before
    two.reap()
    return arrived / packets
  }
  const turn = () => new Promise((resolve) => setImmediate(resolve))
  const close = () => {
    one.close()
    two.close()
  }
  return { work, turn, close }
}

const SWITCHED = [
  { name: 'frames of 60 bytes', length: 60, batch: BATCH, header: NO_HEADER, packets: 1 },
  { name: 'frames of 1514 bytes', length: 1514, batch: BATCH, header: NO_HEADER, packets: 1 },
  { name: 'segments of 65000 bytes, whole', length: 65000, batch: 4, header: segmentHeader(), packets: 1 },
  {
    name: 'segments of 65000 bytes, cut',
    length: 65000,
    batch: 4,
    header: segmentHeader(),
    features: 0,
    packets: Math.ceil((65000 - 54) / 1448),
  },
]

/** Time and throughput of one job, as two rows. */
const rowsOf = (name, length, value, peer, against) => [
  row({ name: `net, ${name}`, figure: value, unit: 'ns/frame', peer: against, peerFigure: peer }),
  row({
    name: `net, ${name}`,
    figure: length / value,
    unit: 'GB/s',
    peer: against,
    peerFigure: length / peer,
  }),
]

async function switched() {
  const rows = []
  for (const job of SWITCHED) {
    const { work, turn, close } = overSwitch(job)
    // What may be given out in a turn of the event loop is bounded.
    let best = Number.POSITIVE_INFINITY
    for (let i = 0; i < 40; i += 1) {
      best = Math.min(best, measure(work, job.batch))
      await turn()
    }
    close()
    const peer = measure(bareCopies(job.length, job.batch), job.batch)
    rows.push(...rowsOf(`switch, ${job.name}`, job.length, best, peer, 'bare copies'))
  }
  return rows
}

const ip = (words) => execFileSync(IP, words.split(' '), { encoding: 'utf8' })

async function until(isSo) {
  for (let i = 0; !isSo(); i += 1) {
    if (i > 2000) throw new Error('the taps do not come up')
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

/** <linux/if_tun.h>. */
const TUNSETIFF = 0x4004_54ca
const TUNSETVNETHDRSZ = 0x4004_54d8
const IFF_TAP_NO_PI_VNET_HDR = 0x5002
const O_RDWR_NONBLOCK_CLOEXEC = 0o2004002

/** A tap without anything around it. */
function bareTap(name) {
  const file = new OwnedFd(openPath('/dev/net/tun', O_RDWR_NONBLOCK_CLOEXEC))
  const request = new Uint8Array(40)
  request.set(new TextEncoder().encode(name))
  new DataView(request.buffer).setUint16(16, IFF_TAP_NO_PI_VNET_HDR, true)
  ioctl(file.fd, TUNSETIFF, 'TUNSETIFF', request)
  ioctl(file.fd, TUNSETVNETHDRSZ, 'TUNSETVNETHDRSZ', Int32Array.of(HEADER_BYTES))
  return file
}

/** What only the kernel has the address of. */
const kept = []

/** One call of writev or readv, with the header and the frame in two pieces. */
function bareCalls(file, frame) {
  const bytes = new Uint8Array(HEADER_BYTES + RX_BUFFER_BYTES)
  bytes.set(frame, HEADER_BYTES)
  kept.push(bytes)
  const address = Number(addressOf(bytes))
  const vector = new IoVector(2)
  const fill = (length) => {
    vector.clear()
    vector.push(address, HEADER_BYTES)
    vector.push(address + HEADER_BYTES, length)
  }
  const write = () => {
    fill(frame.length)
    return vector.writeTo(file.fd, -1) > 0 ? 1 : 0
  }
  const read = () => {
    fill(RX_BUFFER_BYTES)
    return vector.readFrom(file.fd, -1) > 0 ? 1 : 0
  }
  return { write, read }
}

const repeat = (count, work) => () => {
  let done = 0
  for (let i = 0; i < count; i += 1) done += work()
  return done
}

/** As `measure`, with something to do before each round that does not count: each has a turn of the event loop, and what a tap gives in one. */
async function measureAfter(prepare, work, frames) {
  let best = Number.POSITIVE_INFINITY
  for (let round = 0; round < ROUNDS; round += 1) {
    await turn()
    prepare()
    best = Math.min(best, measureOnce(work, frames))
  }
  return best
}

function measureOnce(work, frames) {
  const start = process.hrtime.bigint()
  const arrived = work()
  const time = Number(process.hrtime.bigint() - start)
  // The kernel says this and that of its own.
  if (arrived < frames) throw new Error(`${arrived} of ${frames} frames have arrived`)
  return time / frames
}

/** Frames to read from a tap at once: fewer than it gives in a turn of the event loop. */
const READ_BATCH = 60

async function tapped() {
  const rows = []
  const names = ['from0', 'to0', 'from1', 'to1']
  for (const name of ['br0', 'br1']) ip(`link add ${name} type bridge mcast_snooping 0`)
  for (const name of names) ip(`tuntap add ${name} mode tap`)
  for (const name of names) ip(`link set ${name} master br${name.at(-1)} up`)
  ip('tuntap add out0 mode tap')
  ip('tuntap add out1 mode tap')
  const [from0, to0, from1] = ['from0', 'to0', 'from1'].map(bareTap)
  const [to1, out1] = ['to1', 'out1'].map((name) => openTap(name))
  const out0 = bareTap('out0')
  for (const name of ['br0', 'br1', 'out0', 'out1']) ip(`link set ${name} up`)
  // The kernel notices late that a tap was opened, and until then drops what is sent.
  const isForwarding = (name) => /state UP .*state forwarding/s.test(ip(`-d link show ${name}`))
  await until(() => names.every(isForwarding))
  const receiver = new Guest(to1)
  receiver.offer()
  receiver.setOffloads(0)
  const sender = new Guest(out1)
  await until(() => sender.net.linkUp)
  for (const length of [60, 1514]) {
    const frame = plainFrame(length)
    const guest = length === 60 ? sender : new Guest(openTap('out2', { create: true }))
    if (guest !== sender) {
      ip('link set out2 up')
      await until(() => guest.net.linkUp)
    }
    guest.place(frame, NO_HEADER, BATCH)
    const send = () => {
      const before = guest.net.counters.txFrames
      guest.send(BATCH)
      return guest.net.counters.txFrames - before
    }
    const value = measure(send, BATCH)
    const peer = measure(repeat(BATCH, bareCalls(out0, frame).write), BATCH)
    rows.push(...rowsOf(`to a tap, frames of ${length} bytes`, length, value, peer, 'bare writev'))

    const fill = (file) => repeat(READ_BATCH, bareCalls(file, frame).write)
    const bareRead = bareCalls(to0, frame).read
    const bare = await measureAfter(fill(from0), repeat(READ_BATCH, bareRead), READ_BATCH)
    const read = () => {
      const before = receiver.received
      to1.refill(0)
      return receiver.received - before
    }
    const received = await measureAfter(
      () => {
        receiver.reap()
        fill(from1)()
      },
      read,
      READ_BATCH,
    )
    rows.push(...rowsOf(`from a tap, frames of ${length} bytes`, length, received, bare, 'bare readv'))
  }
  return rows
}

/** Runs the benchmark: the rows of its table. Without root those of taps are missing, and it says so. */
export async function run() {
  const rows = await switched()
  if (process.getuid?.() !== 0 || !existsSync('/dev/net/tun') || !existsSync(IP)) {
    process.stderr.write('net.mjs: taps take root, /dev/net/tun and iproute2: left out\n')
    return rows
  }
  const args = ['--net', process.execPath, SELF, INSIDE]
  const text = execFileSync('unshare', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })
  return [...rows, ...JSON.parse(text)]
}

if (isMain(import.meta) && process.argv[2] === INSIDE) {
  process.stdout.write(JSON.stringify(await tapped()))
  process.exit()
}
await printIfMain(import.meta, run)
