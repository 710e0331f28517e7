/**
 * Memory that a balloon gives back to the host in a second, from the doorbell's register to the returned buffer: free blocks of
 * 4 MiB, as Linux reports them, and inflation by lists of 256 pages that are neighbours, or that are not. All of it has been
 * touched before. The floor is bare madvise(2) of the same ranges, of as much memory, in the same run.
 *
 * `node bench/balloon.mjs` after `npm run build` prints a table.
 */
import { Balloon, MmioTransport } from '../packages/devices/dist/virtio.js'
import {
  MADV_DONTNEED,
  MAP_ANONYMOUS,
  MAP_NORESERVE,
  MAP_PRIVATE,
  Mapping,
} from '../packages/sys-util/dist/index.js'
import { createMockDriver } from '../packages/virtio-queue/dist/testing.js'
import { MappedMemory } from '../packages/vm-memory/dist/mmap.js'
import { printIfMain, row } from './support/report.mjs'

const MIB = 2 ** 20
const PAGE = 4096
/** Where the memory begins that is given back. Rings and lists are below. */
const FIRST = MIB
const SIZE = 64 * MIB
const BLOCK = 4 * MIB
const LIST_PAGES = 256
const ROUNDS = 30
const FEATURE_REPORTING = 1 << 5
/** Of the upper word. */
const VIRTIO_F_VERSION_1 = 1
const INFLATE_QUEUE = 0
const REPORTING_QUEUE = 4
const REGISTER = {
  driverFeatures: 0x020,
  driverFeaturesSelect: 0x024,
  queueSelect: 0x030,
  queueSize: 0x038,
  queueReady: 0x044,
  notify: 0x050,
  status: 0x070,
  descriptorArea: 0x080,
  driverArea: 0x090,
  deviceArea: 0x0a0,
}

function touch(bytes, from) {
  for (let at = from; at < bytes.length; at += PAGE) bytes[at] = 1
}

/**
 * The best of several rounds of each, in turn, in MiB a second.
 * @param {readonly { bytes: Uint8Array, from: number, work: () => unknown }[]} sides
 */
async function measure(given, sides) {
  const best = sides.map(() => 0)
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const [i, { bytes, from, work }] of sides.entries()) {
      touch(bytes, from)
      const start = performance.now()
      await work()
      best[i] = Math.max(best[i], given / MIB / ((performance.now() - start) / 1000))
    }
  }
  return best
}

/** The floor. */
function bare(mapping, ranges) {
  const work = () => {
    for (const [start, length] of ranges) mapping.advise(MADV_DONTNEED, start, length)
  }
  return { bytes: new Uint8Array(mapping.view()), from: 0, work }
}

/** A driver of one queue, and the device behind it. */
class Guest {
  #ram = MappedMemory.anonymous([{ start: 0, size: FIRST + SIZE }])
  #driver = createMockDriver({ memory: this.#ram.memory, size: 64 })
  #queue
  #transport

  constructor(queue) {
    this.#queue = queue
    this.#transport = new MmioTransport({
      device: new Balloon({ memory: this.#ram, reporting: true }),
      memory: this.#ram.memory,
      interrupt: { trigger() {} },
      poll: { maxMicroseconds: 0 },
    })
    this.#start()
  }

  /** Takes guest memory for a list of pages. */
  list(pages) {
    const address = this.#driver.allocate(4 * pages.length, 4)
    pages.forEach((page, i) => {
      this.#ram.memory.writeUint32(address + 4 * i, page)
    })
    return { address, length: 4 * pages.length }
  }

  /** Sends chains one after the other, each when the one before is back, as Linux does. */
  async send(chains) {
    for (const chain of chains) {
      this.#driver.send(chain)
      this.#transport.write(REGISTER.notify, this.#queue, 4)
      while (this.#driver.reap() === undefined) await new Promise(setImmediate)
    }
  }

  /** Sends the same chains, over and over. */
  side(chains) {
    return { bytes: this.#ram.memory.regions[0].bytes, from: FIRST, work: () => this.send(chains) }
  }

  close() {
    this.#transport.close()
    this.#ram.close()
  }

  #start() {
    const write = (offset, value) => this.#transport.write(offset, value, 4)
    for (const status of [0, 0b1, 0b11]) write(REGISTER.status, status)
    for (const [select, word] of [FEATURE_REPORTING, VIRTIO_F_VERSION_1].entries()) {
      write(REGISTER.driverFeaturesSelect, select)
      write(REGISTER.driverFeatures, word)
    }
    write(REGISTER.status, 0b1011)
    write(REGISTER.queueSelect, this.#queue)
    write(REGISTER.queueSize, this.#driver.size)
    for (const area of ['descriptorArea', 'driverArea', 'deviceArea'])
      write(REGISTER[area], this.#driver[area])
    write(REGISTER.queueReady, 1)
    write(REGISTER.status, 0b1111)
  }
}

const range = (count, of) => Array.from({ length: count }, (_, i) => of(i))

/** Free blocks, none next to the one before. */
function reporting() {
  const starts = range(SIZE / BLOCK / 2, (i) => 2 * i * BLOCK)
  return {
    name: 'balloon, free page reports of 4 MiB blocks',
    queue: REPORTING_QUEUE,
    ranges: starts.map((start) => [start, BLOCK]),
    chains: () => [starts.map((start) => ({ address: FIRST + start, length: BLOCK, writable: true }))],
  }
}

/** @param stride 1 for neighbours, 2 for every other page */
function inflation(name, stride) {
  const pages = range(SIZE / PAGE / stride, (i) => i * stride)
  const lists = range(pages.length / LIST_PAGES, (i) => pages.slice(i * LIST_PAGES, (i + 1) * LIST_PAGES))
  return {
    name,
    queue: INFLATE_QUEUE,
    ranges:
      stride === 1
        ? lists.map(([page]) => [page * PAGE, LIST_PAGES * PAGE])
        : pages.map((page) => [page * PAGE, PAGE]),
    chains: (guest) => lists.map((list) => [guest.list(list.map((page) => FIRST / PAGE + page))]),
  }
}

const CASES = [
  reporting(),
  inflation('balloon, inflation by neighbouring pages', 1),
  inflation('balloon, inflation by scattered pages', 2),
]

/** Runs the benchmark. The ratio is that to the floor: more is better. */
export async function run() {
  const rows = []
  for (const { name, queue, ranges, chains } of CASES) {
    const given = ranges.reduce((sum, [, length]) => sum + length, 0)
    const guest = new Guest(queue)
    const mapping = new Mapping({ size: SIZE, flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE })
    try {
      const [value, floor] = await measure(given, [guest.side(chains(guest)), bare(mapping, ranges)])
      rows.push(row({ name, figure: value, unit: 'MiB/s', peer: 'bare madvise', peerFigure: floor }))
    } finally {
      mapping.close()
      guest.close()
    }
  }
  return rows
}

await printIfMain(import.meta, run)
