/**
 * Requests a second of a virtio-blk over a file, by each engine: everything of the host's side but the guest's exits, from
 * the doorbell's register to the interrupt. Random 4 KiB, from the page cache and past it (O_DIRECT), one and 32 at a time.
 * The floor is a bare loop of preadInto (pwriteFrom) of the same blocks of the same file, in the same run.
 *
 * `node bench/block.mjs` after `npm run build` prints a table.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { DiskFile, openDisk } from '../packages/block/dist/index.js'
import { Blk, MmioTransport } from '../packages/devices/dist/virtio.js'
import { preadInto, pwriteFrom } from '../packages/sys-util/dist/index.js'
import { createMockDriver } from '../packages/virtio-queue/dist/testing.js'
import { MappedMemory } from '../packages/vm-memory/dist/mmap.js'
import { printIfMain, row } from './support/report.mjs'

const MIB = 2 ** 20
const FILE_BYTES = 64 * MIB
const BLOCK = 4096
const SECTORS = BLOCK / 512
// Rounds are short, so that the best of them was not interrupted by whatever else the machine does.
const ROUNDS = 80
const ROUND_MS = 4
const VIRTIO_BLK_F_FLUSH = 1 << 9
/** Of the upper word. */
const VIRTIO_F_VERSION_1 = 1
const T_IN = 0
const T_OUT = 1
const REGISTER = {
  driverFeatures: 0x020,
  driverFeaturesSelect: 0x024,
  queueSize: 0x038,
  queueReady: 0x044,
  notify: 0x050,
  interruptAck: 0x064,
  status: 0x070,
  descriptorArea: 0x080,
  driverArea: 0x090,
  deviceArea: 0x0a0,
}

let seed = 1
/** A block of the file. */
function randomBlock() {
  seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
  return (seed >>> 8) % (FILE_BYTES / BLOCK)
}

/** The best of several rounds of `work(count)`, in operations a second. */
async function measure(work) {
  let count = 64
  let best = 0
  for (let round = 0; round < ROUNDS; round += 1) {
    const start = performance.now()
    await work(count)
    const took = performance.now() - start
    best = Math.max(best, (count / took) * 1000)
    if (took < ROUND_MS) count = Math.ceil(count * Math.min(4, ROUND_MS / Math.max(took, 0.1)))
  }
  return best
}

/** The floor: one call after the other. */
function bare(file, memory, isWrite) {
  const address = Number(memory.regions[0].hostAddress) + MIB
  const call = isWrite ? pwriteFrom : preadInto
  return async (count) => {
    for (let i = 0; i < count; i += 1) {
      if (call(file.fd, address, BLOCK, randomBlock() * BLOCK) !== BLOCK) throw new Error('a short transfer')
    }
  }
}

/** A driver with so many requests in flight all the time. */
class Guest {
  #wake = () => {}
  #transport
  #u16
  #u32
  #avail
  #used
  #headers = []
  #heads = []
  #seen = 0
  #sent = 0

  constructor(disk, memory, depth, isWrite) {
    // The rings of the one before.
    memory.fill(0, MIB, 0)
    const driver = createMockDriver({ memory, size: 128 })
    this.#transport = new MmioTransport({
      device: new Blk({ disk, blockSize: disk.blockSize }),
      memory,
      interrupt: { trigger: () => this.#wake() },
      poll: { maxMicroseconds: 0 },
      events: {
        guestFault: (fault) => {
          throw new Error(fault.message)
        },
        hostFailure: (error) => {
          throw error
        },
      },
    })
    for (let i = 0; i < depth; i += 1) {
      const header = driver.allocate(16, 16)
      memory.writeUint32(header, isWrite ? T_OUT : T_IN)
      const head = driver.add([
        { address: header, length: 16 },
        { address: MIB + i * BLOCK, length: BLOCK, writable: !isWrite },
        { address: driver.allocate(1), length: 1, writable: true },
      ])
      this.#headers[head] = header
      this.#heads.push(head)
    }
    const { u16, u32 } = memory.regions[0]
    this.#u16 = u16
    this.#u32 = u32
    this.#avail = driver.driverArea >>> 1
    this.#used = driver.deviceArea
    this.#start(driver)
  }

  async run(count) {
    const u16 = this.#u16
    const u32 = this.#u32
    let left = count
    let sent = 0
    for (const head of this.#heads.slice(0, count)) {
      this.#send(head)
      sent += 1
    }
    this.#publish()
    while (left > 0) {
      const used = Atomics.load(u16, (this.#used >>> 1) + 1)
      if (used === this.#seen) {
        await new Promise((resolve) => {
          this.#wake = resolve
        })
        this.#wake = () => {}
        this.#transport.write(REGISTER.interruptAck, 1, 4)
        continue
      }
      for (; this.#seen !== used; this.#seen = (this.#seen + 1) & 0xffff) {
        left -= 1
        if (sent === count) continue
        this.#send(u32[(this.#used >>> 2) + 1 + 2 * (this.#seen & 127)])
        sent += 1
      }
      this.#publish()
    }
  }

  close() {
    this.#transport.close()
  }

  #send(head) {
    this.#u32[(this.#headers[head] + 8) >>> 2] = randomBlock() * SECTORS
    this.#u16[this.#avail + 2 + (this.#sent & 127)] = head
    this.#sent = (this.#sent + 1) & 0xffff
  }

  #publish() {
    if (this.#u16[this.#avail + 1] === this.#sent) return
    Atomics.store(this.#u16, this.#avail + 1, this.#sent)
    this.#transport.write(REGISTER.notify, 0, 4)
  }

  #start(driver) {
    const write = (offset, value) => this.#transport.write(offset, value, 4)
    for (const status of [0, 0b1, 0b11]) write(REGISTER.status, status)
    // A driver that can flush has a write cache: its writes need not be on the medium.
    for (const [select, word] of [VIRTIO_BLK_F_FLUSH, VIRTIO_F_VERSION_1].entries()) {
      write(REGISTER.driverFeaturesSelect, select)
      write(REGISTER.driverFeatures, word)
    }
    write(REGISTER.status, 0b1011)
    write(REGISTER.queueSize, driver.size)
    for (const area of ['descriptorArea', 'driverArea', 'deviceArea']) write(REGISTER[area], driver[area])
    write(REGISTER.queueReady, 1)
    write(REGISTER.status, 0b1111)
  }
}

/** A file of its own blocks: no holes, and in the page cache. */
async function makeFile(path) {
  const file = await open(path, 'w')
  try {
    const data = new Uint8Array(MIB).fill(7)
    for (let at = 0; at < FILE_BYTES; at += MIB) await file.write(data, 0, MIB, at)
    await file.datasync()
  } finally {
    await file.close()
  }
}

const CASES = [
  { name: 'cached read', direct: false, isWrite: false, engines: ['sync', 'threads', 'io_uring'] },
  { name: 'cached write', direct: false, isWrite: true, engines: ['sync', 'threads', 'io_uring'] },
  { name: 'O_DIRECT read', direct: true, isWrite: false, engines: ['sync', 'threads', 'io_uring'] },
  { name: 'O_DIRECT write', direct: true, isWrite: true, engines: ['sync', 'threads', 'io_uring'] },
]

async function measureEngine(path, memory, engine, depth, { direct, isWrite }) {
  const disk = openDisk(path, { engine, direct })
  const guest = new Guest(disk, memory, depth, isWrite)
  try {
    return await measure((count) => guest.run(count))
  } finally {
    guest.close()
    disk.close()
  }
}

/** Runs the benchmark. The ratio is that to the floor: more is better. */
export async function run() {
  const cache = join(fileURLToPath(new URL('..', import.meta.url)), '.cache')
  mkdirSync(cache, { recursive: true })
  const folder = mkdtempSync(join(cache, 'bench-block-'))
  const memory = MappedMemory.anonymous([{ start: 0, size: 2 * MIB }])
  const rows = []
  try {
    const path = join(folder, 'disk.img')
    await makeFile(path)
    for (const work of CASES) {
      const file = new DiskFile(path, { direct: work.direct })
      const floor = await measure(bare(file, memory.memory, work.isWrite))
      file.close()
      const peer = work.isWrite ? 'bare pwrite' : 'bare pread'
      for (const depth of [1, 32]) {
        for (const engine of work.engines) {
          const figure = await measureEngine(path, memory.memory, engine, depth, work)
          const name = `block, 4 KiB ${work.name}, depth ${depth}, ${engine}`
          rows.push(row({ name, figure, unit: 'requests/s', peer, peerFigure: floor }))
        }
      }
    }
  } finally {
    memory.close()
    rmSync(folder, { recursive: true })
  }
  return rows
}

await printIfMain(import.meta, run)
