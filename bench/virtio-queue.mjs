/**
 * What a virtqueue costs per descriptor and per request, over bare DataView reads of the same descriptors in the
 * same run, and how many bytes it allocates.
 *
 * `node bench/virtio-queue.mjs` after `npm run build` prints a table.
 */
import { getHeapStatistics, setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { DescriptorChain, POP_OK } from '../packages/virtio-queue/dist/index.js'
import { createMockDriver } from '../packages/virtio-queue/dist/testing.js'
import { GuestMemory } from '../packages/vm-memory/dist/index.js'
import { printIfMain, row } from './support/report.mjs'

const BATCH = 128
// Rounds are short, so that the best of them was not interrupted by whatever else the machine does.
const LOOPS = 200
const ROUNDS = 400

const memoryFor = () => GuestMemory.fromRanges([{ start: 0, size: 1 << 24 }])

/** The best of many rounds of `work(LOOPS)`, in nanoseconds per `per` things of each loop. */
function measure(work, per) {
  let sink = 0
  let best = Number.POSITIVE_INFINITY
  for (let round = 0; round < ROUNDS; round += 1) {
    const start = process.hrtime.bigint()
    sink += work(LOOPS)
    best = Math.min(best, Number(process.hrtime.bigint() - start))
  }
  if (!(sink > 0)) throw new Error('nothing was done')
  return best / LOOPS / per
}

/** Every field of every descriptor, by one DataView, in the order of the table. */
function bareReads(view, base, loops) {
  let sum = 0
  for (let loop = 0; loop < loops; loop += 1) {
    for (let i = 0; i < BATCH; i += 1) {
      const at = base + 16 * i
      sum += view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32
      sum += view.getUint32(at + 8, true) + view.getUint32(at + 12, true)
    }
  }
  return sum
}

/** The floor: bare reads of the descriptors of a driver's ring. */
function floor(driver) {
  const { view } = driver.memory.findRegion(driver.descriptorArea)
  return (loops) => bareReads(view, driver.descriptorArea, loops)
}

/** Pops and puts back: the walk alone, again and again over the same chains. */
function walk(queue, chains) {
  return (loops) => {
    let sum = 0
    for (let loop = 0; loop < loops; loop += 1) {
      for (let i = 0; i < chains.length; i += 1) {
        const chain = chains[i]
        if (queue.pop(chain) !== POP_OK) throw new Error('no chain')
        sum += chain.segmentCount
      }
      for (let i = chains.length - 1; i >= 0; i -= 1) queue.unpop(chains[i])
    }
    return sum
  }
}

function setUp(packed, count, length, indirect) {
  const driver = createMockDriver({ memory: memoryFor(), size: 256, features: { packed, indirect } })
  const buffers = Array.from({ length }, (_, i) => ({
    address: driver.allocate(512, 16),
    length: 512,
    writable: i > length / 2,
  }))
  for (let i = 0; i < count; i += 1) driver.add(buffers, { indirect })
  driver.publish()
  const chains = Array.from({ length: count }, () => new DescriptorChain())
  return { driver, queue: driver.activate(), chains }
}

/**
 * A split queue that is full all the time: its heads stay where they are in the available ring, so that the driver
 * only moves the index.
 */
function busy(eventIndex) {
  const driver = createMockDriver({ memory: memoryFor(), size: BATCH, features: { eventIndex } })
  for (let i = 0; i < BATCH; i += 1) {
    driver.add([{ address: driver.allocate(512, 16), length: 512, writable: i % 2 === 1 }])
  }
  const queue = driver.activate()
  const chains = Array.from({ length: BATCH }, () => new DescriptorChain())
  const { u16 } = driver.memory.findRegion(0)
  let index = 0
  const refill = () => {
    index = (index + BATCH) & 0xffff
    u16[(driver.driverArea + 2) >>> 1] = index
  }
  return { queue, chains, refill }
}

function requests({ queue, chains, refill }, publishEach) {
  return (loops) => {
    let sum = 0
    for (let loop = 0; loop < loops; loop += 1) {
      refill()
      for (let i = 0; i < BATCH; i += 1) {
        const chain = chains[i]
        if (queue.pop(chain) !== POP_OK) throw new Error('no chain')
        sum += chain.segmentCount
        if (publishEach) queue.addUsed(chain, chain.writableBytes)
        else queue.pushUsed(chain, chain.writableBytes)
      }
      queue.publishUsed()
      if (queue.needsNotification()) sum += 1
    }
    return sum
  }
}

/** The used ring alone, in nanoseconds per element; the clock is read around every batch. */
function usedRing({ queue, chains, refill }) {
  let best = Number.POSITIVE_INFINITY
  for (let round = 0; round < LOOPS * ROUNDS; round += 1) {
    refill()
    for (let i = 0; i < BATCH; i += 1) queue.pop(chains[i])
    const start = process.hrtime.bigint()
    for (let i = 0; i < BATCH; i += 1) queue.pushUsed(chains[i], 512)
    queue.publishUsed()
    best = Math.min(best, Number(process.hrtime.bigint() - start))
  }
  return best / BATCH
}

/** The floor of the used ring: two words an element, one index a batch. */
function usedFloor() {
  const { memory } = createMockDriver({ memory: memoryFor(), size: BATCH })
  const { view, u16 } = memory.findRegion(0)
  let index = 0
  return (loops) => {
    for (let loop = 0; loop < loops; loop += 1) {
      for (let i = 0; i < BATCH; i += 1) {
        view.setUint32(0x2004 + 8 * i, i, true)
        view.setUint32(0x2008 + 8 * i, 512, true)
      }
      index = (index + BATCH) & 0xffff
      Atomics.store(u16, 0x2002 >>> 1, index)
    }
    return loops
  }
}

/** Requests as a disk has them: a header of 16 bytes, a page to fill, a status byte. All but the I/O itself. */
function disk() {
  const driver = createMockDriver({ memory: memoryFor(), size: 512, features: { eventIndex: true } })
  const header = driver.allocate(16, 16)
  const status = driver.allocate(1)
  const heads = Array.from({ length: BATCH }, () =>
    driver.add([
      { address: header, length: 16 },
      { address: driver.allocate(4096, 4096), length: 4096, writable: true },
      { address: status, length: 1, writable: true },
    ]),
  )
  const queue = driver.activate()
  const chains = Array.from({ length: BATCH }, () => new DescriptorChain())
  const { u16 } = driver.memory.findRegion(0)
  const avail = driver.driverArea >>> 1
  let index = 0
  return (loops) => {
    let sum = 0
    for (let loop = 0; loop < loops; loop += 1) {
      for (let i = 0; i < BATCH; i += 1) u16[avail + 2 + ((index + i) & 511)] = heads[i]
      index = (index + BATCH) & 0xffff
      u16[avail + 1] = index
      for (let i = 0; i < BATCH; i += 1) {
        const chain = chains[i]
        if (queue.pop(chain) !== POP_OK) throw new Error('no chain')
        const reader = chain.reader()
        sum += reader.readUint32()
        reader.skip(4)
        sum += reader.readUint64()
        const writer = chain.writer()
        sum += writer.takePiece(chain.writableBytes - 1)
        writer.writeUint8(0)
        if (reader.failed || writer.failed) throw new Error('a short request')
        queue.pushUsed(chain, chain.writableBytes)
      }
      queue.publishUsed()
      if (queue.needsNotification()) sum += 1
    }
    return sum
  }
}

/** Bytes on the JavaScript heap per request: pop, header in, status out, return, notification. */
function allocated() {
  setFlagsFromString('--expose-gc')
  const gc = runInNewContext('gc')
  const { queue, chains, refill } = busy(true)
  const loops = 2000
  const serve = (count) => {
    let sum = 1
    for (let loop = 0; loop < count; loop += 1) {
      refill()
      queue.disableNotification()
      for (let i = 0; i < BATCH; i += 1) {
        const chain = chains[i]
        queue.pop(chain)
        const reader = chain.reader()
        sum += reader.readUint32() + reader.readUint64()
        chain.writer().writeUint8(0)
        queue.addUsed(chain, chain.writableBytes)
      }
      if (queue.needsNotification()) sum += 1
      queue.enableNotification()
    }
    return sum
  }
  let least = Number.POSITIVE_INFINITY
  for (let round = 0; round < 12; round += 1) {
    serve(loops)
    gc()
    const before = getHeapStatistics().used_heap_size
    serve(loops)
    // What getHeapStatistics itself makes is in it, some hundred bytes over all requests.
    least = Math.min(least, (getHeapStatistics().used_heap_size - before) / (loops * BATCH))
  }
  return Math.max(0, Math.round(least * 100) / 100)
}

/** Runs the benchmark. The ratio is value over floor. */
export async function run() {
  const rows = []
  const add = (name, unit, value, against, peer) => {
    rows.push(row({ name, figure: value, unit, peer: against, peerFigure: peer }))
  }
  for (const packed of [false, true]) {
    const kind = packed ? 'packed' : 'split'
    for (const [count, length, indirect] of [
      [1, BATCH, false],
      [BATCH, 1, false],
      [1, BATCH, true],
    ]) {
      const { driver, queue, chains } = setUp(packed, count, length, indirect)
      const work = walk(queue, chains)
      const bare = floor(driver)
      const value = measure(work, BATCH)
      add(
        `virtqueue walk, ${kind}, ${count} x ${length}${indirect ? ' indirect' : ''}`,
        'ns/descriptor',
        value,
        'bare reads',
        measure(bare, BATCH),
      )
    }
  }
  const peer = measure(usedFloor(), BATCH)
  add('virtqueue used ring, split, 128 a publish', 'ns/element', usedRing(busy(false)), 'bare writes', peer)
  const bare = measure(floor(setUp(false, 1, BATCH, false).driver), BATCH) + peer
  for (const publishEach of [false, true]) {
    const value = measure(requests(busy(true), publishEach), BATCH)
    const name = `virtqueue pop and return, split, ${publishEach ? 1 : BATCH} a publish`
    add(name, 'ns/request', value, 'bare reads and writes', bare)
  }
  add(
    'virtqueue disk request, split, 3 descriptors',
    'ns/request',
    measure(disk(), BATCH),
    'bare reads and writes',
    3 * (bare - peer) + peer,
  )
  rows.push(
    row({
      name: 'virtqueue heap',
      figure: allocated(),
      unit: 'bytes/request',
      peer: 'nothing',
      peerFigure: 0,
    }),
  )
  return rows
}

await printIfMain(import.meta, run)
