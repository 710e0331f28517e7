/**
 * What access to guest memory costs over the bare DataView and Uint8Array below it, in the same run.
 *
 * `node bench/vm-memory.mjs` after `npm run build` prints a table. Rows that end in "alternating" look up another region
 * at every access; the rest stay in one, as a device does with a ring or a buffer.
 */
import { GuestMemory, RangeCursor } from '../packages/vm-memory/dist/index.js'
import { printIfMain, row } from './support/report.mjs'

const REGION_SIZE = 1 << 20
const REGIONS = 8
const MASK = REGION_SIZE - 1
const LOOPS = 500_000
const ROUNDS = 25

/** Nanoseconds per operation: the best of several rounds of `work(count)`, warmed up. */
function measure(work, count = LOOPS) {
  let sink = work(Math.min(count, 50_000))
  let best = Number.POSITIVE_INFINITY
  for (let round = 0; round < ROUNDS; round += 1) {
    const start = process.hrtime.bigint()
    sink += work(count)
    best = Math.min(best, Number(process.hrtime.bigint() - start))
  }
  if (Number.isNaN(sink)) throw new Error('the work gave no number')
  return best / count
}

function makeMemory(trackDirty) {
  const ranges = Array.from({ length: REGIONS }, (_, i) => ({ start: i * REGION_SIZE, size: REGION_SIZE }))
  return GuestMemory.fromRanges(ranges, { trackDirty })
}

/** Runs the benchmark: one row for each measurement; the peer is the same work on a bare view. */
export async function run() {
  const rows = []
  const compare = (name, work, floor, count = LOOPS) => {
    // The floor first and last, so that neither profits from a warmer machine.
    const before = measure(floor, count)
    const figure = measure(work, count)
    const bare = Math.min(before, measure(floor, count))
    rows.push(row({ name: `vm-memory: ${name}`, figure, unit: 'ns', peer: 'bare view', peerFigure: bare }))
  }

  const memory = makeMemory(false)
  const tracked = makeMemory(true)
  const bytes = new Uint8Array(REGION_SIZE)
  const view = new DataView(bytes.buffer)
  const words = new Uint16Array(bytes.buffer)

  const floorRead32 = (count) => {
    let sum = 0
    for (let i = 0; i < count; i += 1) sum += view.getUint32((i * 4) & MASK, true)
    return sum
  }
  const floorWrite32 = (count) => {
    for (let i = 0; i < count; i += 1) view.setUint32((i * 4) & MASK, i, true)
    return 0
  }
  compare(
    'readUint32',
    (count) => {
      let sum = 0
      for (let i = 0; i < count; i += 1) sum += memory.readUint32((i * 4) & MASK)
      return sum
    },
    floorRead32,
  )
  compare(
    'readUint32, alternating',
    (count) => {
      let sum = 0
      for (let i = 0; i < count; i += 1) sum += memory.readUint32(((i & 7) << 20) + ((i * 4) & MASK))
      return sum
    },
    floorRead32,
  )
  compare(
    'writeUint32',
    (count) => {
      for (let i = 0; i < count; i += 1) memory.writeUint32((i * 4) & MASK, i)
      return 0
    },
    floorWrite32,
  )
  compare(
    'writeUint32, dirty tracking',
    (count) => {
      for (let i = 0; i < count; i += 1) tracked.writeUint32((i * 4) & MASK, i)
      return 0
    },
    floorWrite32,
  )
  compare(
    'readUint64AsNumber',
    (count) => {
      let sum = 0
      for (let i = 0; i < count; i += 1) sum += memory.readUint64AsNumber((i * 8) & MASK)
      return sum
    },
    (count) => {
      let sum = 0
      for (let i = 0; i < count; i += 1) {
        const at = (i * 8) & MASK
        sum += view.getUint32(at + 4, true) * 2 ** 32 + view.getUint32(at, true)
      }
      return sum
    },
  )
  compare(
    'atomicLoad16',
    (count) => {
      let sum = 0
      for (let i = 0; i < count; i += 1) sum += memory.atomicLoad16((i * 2) & MASK)
      return sum
    },
    (count) => {
      let sum = 0
      for (let i = 0; i < count; i += 1) sum += Atomics.load(words, ((i * 2) & MASK) >>> 1)
      return sum
    },
  )
  compare(
    'atomicStore16',
    (count) => {
      for (let i = 0; i < count; i += 1) memory.atomicStore16((i * 2) & MASK, i & 0xffff)
      return 0
    },
    (count) => {
      for (let i = 0; i < count; i += 1) Atomics.store(words, ((i * 2) & MASK) >>> 1, i & 0xffff)
      return 0
    },
  )

  // A descriptor table of 256, each naming a buffer elsewhere: what virtio-queue does for a descriptor.
  for (const { start, view: table } of [memory.regions[0], { start: 0, view }]) {
    for (let i = 0; i < 256; i += 1) {
      const address = start + REGION_SIZE + ((i * 4096) & MASK)
      table.setUint32(i * 16, address, true)
      table.setUint32(i * 16 + 4, 0, true)
      table.setUint32(i * 16 + 8, 4096, true)
      table.setUint16(i * 16 + 12, 1, true)
      table.setUint16(i * 16 + 14, (i + 1) & 255, true)
    }
  }
  const table = memory.regionOf(0, 256 * 16)
  compare(
    'descriptor: read it and find its buffer',
    (count) => {
      const { view } = table
      let sum = 0
      let index = 0
      for (let i = 0; i < count; i += 1) {
        const at = index * 16
        const high = view.getUint32(at + 4, true)
        if (high > 0x1f_ffff) return Number.NaN
        const address = high * 2 ** 32 + view.getUint32(at, true)
        const length = view.getUint32(at + 8, true)
        const region = memory.regionOf(address, length)
        if (region === undefined) return Number.NaN
        sum ^= (address - region.start) ^ view.getUint16(at + 12, true)
        index = view.getUint16(at + 14, true)
      }
      return sum
    },
    (count) => {
      let sum = 0
      let index = 0
      for (let i = 0; i < count; i += 1) {
        const at = index * 16
        const high = view.getUint32(at + 4, true)
        if (high > 0x1f_ffff) return Number.NaN
        const address = high * 2 ** 32 + view.getUint32(at, true)
        const length = view.getUint32(at + 8, true)
        sum ^= (address - length) ^ view.getUint16(at + 12, true)
        index = view.getUint16(at + 14, true)
      }
      return sum
    },
  )

  const many = GuestMemory.fromRanges(
    Array.from({ length: 256 }, (_, i) => ({ start: i * 0x2000, size: 0x1000 })),
  )
  compare(
    'findRegion of 256, alternating',
    (count) => {
      let sum = 0
      for (let i = 0; i < count; i += 1) sum += many.findRegion(((i * 97) & 255) * 0x2000)?.size ?? 0
      return sum
    },
    (count) => {
      let sum = 0
      for (let i = 0; i < count; i += 1) sum += many.regions[(i * 97) & 255].size
      return sum
    },
  )

  for (const size of [8, 64, 4096]) {
    const buffer = new Uint8Array(size)
    const count = Math.max(20_000, Math.floor((LOOPS * 64) / Math.max(64, size)))
    const wrap = (REGION_SIZE >> 1) - 1
    compare(
      `read ${size} B`,
      (count) => {
        let sum = 0
        for (let i = 0; i < count; i += 1) sum += memory.read((i * size) & wrap, buffer)
        return sum
      },
      (count) => {
        for (let i = 0; i < count; i += 1) {
          const at = (i * size) & wrap
          buffer.set(bytes.subarray(at, at + size))
        }
        return 0
      },
      count,
    )
    const write = (target) => (count) => {
      let sum = 0
      for (let i = 0; i < count; i += 1) sum += target.write((i * size) & wrap, buffer)
      return sum
    }
    const floorWrite = (count) => {
      for (let i = 0; i < count; i += 1) bytes.set(buffer, (i * size) & wrap)
      return 0
    }
    compare(`write ${size} B`, write(memory), floorWrite, count)
    compare(`write ${size} B, dirty tracking`, write(tracked), floorWrite, count)
  }

  const half = new Uint8Array(512)
  compare(
    'read 512 B across two regions',
    (count) => {
      let sum = 0
      for (let i = 0; i < count; i += 1) sum += memory.read(REGION_SIZE - 256, half)
      return sum
    },
    (count) => {
      for (let i = 0; i < count; i += 1) {
        half.set(bytes.subarray(REGION_SIZE - 256))
        half.set(bytes.subarray(0, 256), 256)
      }
      return 0
    },
    500_000,
  )
  const cursor = new RangeCursor()
  compare(
    'cursor over 4 KiB in one region',
    (count) => {
      let sum = 0
      for (let i = 0; i < count; i += 1) {
        cursor.reset(memory, (i * 4096) & MASK, 4096)
        for (let region = cursor.next(); region !== undefined; region = cursor.next()) sum += cursor.length
      }
      return sum
    },
    floorRead32,
  )
  return rows
}

await printIfMain(import.meta, run)
