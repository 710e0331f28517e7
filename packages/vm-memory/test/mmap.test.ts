import {
  closeSync,
  fstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  writeFileSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { MappedMemory, privateRuns } from '@vmm/vm-memory/mmap'
import { beforeEach, describe, expect, test } from 'vitest'
import { own, temporaryDirectory } from '../../../tests/support/own.ts'
import { guestMemoryContract, memoryError } from './guest-memory.contract.ts'

const PAGE = 4096
const MIB = 2 ** 20
const GIB = 2 ** 30

let directory: string
let files = 0

beforeEach(() => {
  directory = temporaryDirectory()
})

function openFile(content: Uint8Array, flags: string = 'r+'): { path: string; fd: number } {
  const path = join(directory, `file-${files++}`)
  writeFileSync(path, content)
  const fd = openSync(path, flags)
  own({ close: () => closeSync(fd) })
  return { path, fd }
}

/** Reads this process's memory by its address, as KVM and system calls do. */
function readHost(address: bigint, length: number): Uint8Array {
  const fd = openSync('/proc/self/mem', 'r')
  const bytes = new Uint8Array(length)
  try {
    readSync(fd, bytes, 0, length, address)
  } finally {
    closeSync(fd)
  }
  return bytes
}

function freeHugePages(): number {
  return Number(/HugePages_Free:\s+(\d+)/.exec(readFileSync('/proc/meminfo', 'latin1'))?.[1] ?? 0)
}

function defaultHugePageSize(): number {
  return Number(/Hugepagesize:\s+(\d+) kB/.exec(readFileSync('/proc/meminfo', 'latin1'))?.[1] ?? 2048) * 1024
}

guestMemoryContract('anonymous mappings', (ranges, options) => MappedMemory.anonymous(ranges, options))

guestMemoryContract('anonymous mappings, transparent huge pages', (ranges, options) => {
  return MappedMemory.anonymous(ranges, { ...options, transparentHugePages: true })
})

guestMemoryContract('memfd', (ranges, options) => MappedMemory.memfd(ranges, options))

for (const shared of [true, false]) {
  guestMemoryContract(shared ? 'a shared file' : 'a private file', (ranges, options) => {
    const { fd } = openFile(new Uint8Array(4 * PAGE), shared ? 'r+' : 'r')
    return MappedMemory.file(ranges, { ...options, fd, offset: PAGE, shared })
  })
}

describe('mapped memory', () => {
  test('has the host address of every byte, contiguous within a mapping alone', () => {
    const ram = own(
      MappedMemory.anonymous([
        { start: 0, size: 2 * PAGE },
        { start: 2 * PAGE, size: PAGE },
        { start: 8 * PAGE, size: PAGE },
      ]),
    )
    const { memory } = ram
    memory.writeSlice(PAGE + 5, Uint8Array.of(1, 2, 3))
    expect(readHost(memory.hostAddress(PAGE + 5, 3), 3)).toEqual(Uint8Array.of(1, 2, 3))
    expect(memory.hostAddress(PAGE)).toBe(memory.hostAddress(0) + BigInt(PAGE))
    memory.writeUint8(2 * PAGE, 9)
    expect(readHost(memory.hostAddress(2 * PAGE), 1)).toEqual(Uint8Array.of(9))

    // The kernel may lay two mappings side by side or not; both answers must be right.
    const [first, second] = memory.regions
    const isContiguous = second?.hostAddress === (first?.hostAddress ?? 0n) + BigInt(2 * PAGE)
    const across = () => memory.hostAddress(2 * PAGE - 1, 2)
    if (isContiguous) expect(across()).toBe(memory.hostAddress(2 * PAGE - 1))
    else expect(memoryError(across).code).toBe('ERR_MEMORY_NO_HOST_ADDRESS')

    expect(memoryError(() => memory.hostAddress(3 * PAGE)).code).toBe('ERR_MEMORY_INVALID_ADDRESS')
    expect(memoryError(() => memory.hostAddress(8 * PAGE, PAGE + 1)).code).toBe('ERR_MEMORY_PARTIAL')
    for (const length of [0, -1, 0.5, Number.NaN]) {
      expect(memoryError(() => memory.hostAddress(0, length)).code).toBe('ERR_MEMORY_INVALID_ARGUMENT')
    }
    expect(memoryError(() => memory.hostAddress(0.5)).code).toBe('ERR_MEMORY_INVALID_ARGUMENT')
  })

  test.each([
    ['stale view', true],
    ['view that nobody has looked through', false],
  ])('throws from every %s after close, which may be called twice', (_name, isLookedAt) => {
    const ram = MappedMemory.memfd([{ start: 0, size: 4 * PAGE }], { trackDirty: true })
    const { memory } = ram
    const [region] = memory.regions
    const slice = isLookedAt ? memory.slice(0, 16) : new Uint8Array()
    const fd = region?.file?.fd ?? -1
    expect(fstatSync(fd).size).toBe(4 * PAGE)
    expect(ram.closed).toBe(false)

    ram.close()
    ram.close()
    expect(ram.closed).toBe(true)
    const big = new Uint8Array(100)
    for (const access of [
      () => region?.view.getUint8(0),
      () => memory.readUint8(0),
      () => memory.readUint32(0),
      () => memory.readUint64(0),
      () => memory.writeUint16(0, 1),
      () => memory.atomicLoad16(0),
      () => memory.atomicStore64(0, 1n),
      () => memory.read(0, big),
      () => memory.write(0, big),
      () => memory.fill(0, PAGE),
      () => memory.slice(0, 1),
    ]) {
      expect(access, String(access)).toThrow(TypeError)
    }
    expect(slice).toHaveLength(0)
    expect(() => fstatSync(fd)).toThrow(expect.objectContaining({ code: 'EBADF' }))
  })

  test('is memory of V8 only from the first look to close', () => {
    const size = 2 ** 28
    const before = process.memoryUsage().external
    const counted = () => process.memoryUsage().external - before
    const ram = own(MappedMemory.anonymous([{ start: 0, size }]))
    expect(ram.memory.hostAddress(0, size)).toBe(ram.memory.regions[0]?.hostAddress)
    expect(ram.memory.checkRange(0, size)).toBe(true)
    const moved = ram.memory.regions[0]?.with({ start: 0x1000 })
    expect(counted()).toBeLessThan(size / 2)
    ram.memory.writeUint32(8, 42)
    expect(counted()).toBeGreaterThan(size / 2)
    expect(moved?.view.getUint32(8, true)).toBe(42)
    ram.close()
    expect(counted()).toBeLessThan(size / 2)
  })

  test('takes more than 4 GiB as adjacent regions over one mapping, untouched pages costing nothing', () => {
    const ram = own(
      MappedMemory.anonymous([
        { start: 0, size: 3 * GIB },
        { start: 4 * GIB, size: 13 * GIB },
      ]),
    )
    const { memory } = ram
    expect(memory.regions.map(({ start, size }) => [start / GIB, size / GIB])).toEqual([
      [0, 3],
      [4, 4],
      [8, 4],
      [12, 4],
      [16, 1],
    ])
    expect(memory.lastAddress).toBe(17 * GIB - 1)
    memory.writeUint64AsNumber(17 * GIB - 8, 0x1234_5678_9abc)
    expect(memory.readUint64AsNumber(17 * GIB - 8)).toBe(0x1234_5678_9abc)
    memory.atomicStore32(8 * GIB - 4, 0xfedc_ba98)
    expect(memory.atomicLoad32(8 * GIB - 4)).toBe(0xfedc_ba98)

    // Across the seam of two views.
    const data = Uint8Array.from({ length: 100 }, (_, i) => i + 1)
    memory.writeSlice(8 * GIB - 50, data)
    const back = new Uint8Array(100)
    memory.readSlice(8 * GIB - 50, back)
    expect(back).toEqual(data)
    expect(readHost(memory.hostAddress(8 * GIB - 50, 100), 100)).toEqual(data)
    expect(memory.checkRange(4 * GIB, 13 * GIB)).toBe(true)

    const { fd } = openFile(data)
    expect(memory.readFrom(12 * GIB - 30, fd, 100, 0)).toBe(100)
    memory.readSlice(12 * GIB - 30, back)
    expect(back).toEqual(data)
    expect(memory.writeTo(12 * GIB - 30, fd, 100, 100)).toBe(100)
  })

  test('refuses sizes that make no sense, and sizes that no host has', () => {
    for (const size of [0, -PAGE, 1.5, Number.NaN]) {
      const ranges = [{ start: 0, size }]
      for (const make of [MappedMemory.anonymous, MappedMemory.hugetlb, MappedMemory.memfd]) {
        expect(memoryError(() => make(ranges)).code).toBe('ERR_MEMORY_INVALID_ARGUMENT')
      }
    }
    const error = memoryError(() => MappedMemory.anonymous([{ start: 0, size: 2 ** 52 }]))
    expect(error).toMatchObject({ code: 'ERR_MEMORY_ALLOCATION', cause: { code: 'ENOMEM' } })
    expect(memoryError(() => MappedMemory.anonymous([])).code).toBe('ERR_MEMORY_NO_REGION')
    const overlap = [
      { start: 0, size: 2 * PAGE },
      { start: PAGE, size: PAGE },
    ]
    expect(memoryError(() => MappedMemory.memfd(overlap)).code).toBe('ERR_MEMORY_OVERLAP')
  })

  test('gives discarded pages back: they read as zero and count as written', () => {
    for (const make of [MappedMemory.anonymous, MappedMemory.memfd]) {
      const ram = own(make([{ start: 0, size: 4 * PAGE }], { trackDirty: true }))
      ram.memory.fill(0, 4 * PAGE, 0xff)
      const dirty = ram.memory.regions[0]?.dirty
      dirty?.clear()
      expect(ram.discardsToZero).toBe(true)
      ram.discard(PAGE, 2 * PAGE)
      expect([...(dirty?.ranges() ?? [])]).toEqual([{ offset: PAGE, length: 2 * PAGE }])
      const bytes = new Uint8Array(4 * PAGE)
      ram.memory.readSlice(0, bytes)
      expect([...bytes.keys()].every((i) => bytes[i] === (i >= PAGE && i < 3 * PAGE ? 0 : 0xff))).toBe(true)
      expect(memoryError(() => ram.discard(3 * PAGE, 2 * PAGE)).code).toBe('ERR_MEMORY_PARTIAL')
      expect(() => ram.discard(1, PAGE)).toThrow(expect.objectContaining({ code: 'EINVAL' }))
    }
  })
})

describe('a memfd', () => {
  test('is at the right offset in each region of a large range', () => {
    const { memory } = own(
      MappedMemory.memfd([
        { start: 0, size: 5 * GIB },
        { start: 8 * GIB, size: PAGE },
      ]),
    )
    expect(memory.regions.map((region) => region.file?.offset)).toEqual([0, 4 * GIB, 5 * GIB])
    memory.writeUint32(4 * GIB + 16, 0xfeed)
    const { fd, offset } = memory.regions[1]?.file ?? { fd: -1, offset: 0 }
    const bytes = new Uint8Array(4)
    readSync(fd, bytes, 0, 4, offset + 16)
    expect(bytes).toEqual(Uint8Array.of(0xed, 0xfe, 0, 0))
  })

  test('leaves no mapping and no descriptor behind when it fails', () => {
    const name = 'vm-memory-leak-test'
    const ranges = [
      { start: 0, size: 2 * PAGE },
      { start: PAGE, size: PAGE },
    ]
    expect(memoryError(() => MappedMemory.memfd(ranges, { name })).code).toBe('ERR_MEMORY_OVERLAP')
    expect(readFileSync('/proc/self/maps', 'latin1')).not.toContain(name)
    const targets = readdirSync('/proc/self/fd').map((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`)
      } catch {
        return ''
      }
    })
    expect(targets.filter((target) => target.includes(name))).toEqual([])
  })

  test('is one file for all ranges, seen by whoever maps it', () => {
    const ranges = [
      { start: 0, size: 2 * PAGE },
      { start: MIB, size: PAGE },
    ]
    const ram = own(MappedMemory.memfd(ranges, { name: 'vm-memory-test' }))
    const files = ram.memory.regions.map((region) => region.file)
    expect(files.map((file) => file?.offset)).toEqual([0, 2 * PAGE])
    const fd = files[0]?.fd ?? -1
    expect(ram.memory.regions.map((region) => region.hugetlb)).toEqual([false, false])

    const other = own(MappedMemory.file([{ start: 0x10_0000, size: 3 * PAGE }], { fd }))
    ram.memory.writeUint32(MIB + 8, 0xfeed)
    expect(other.memory.readUint32(0x10_0000 + 2 * PAGE + 8)).toBe(0xfeed)
    other.memory.writeUint32(0x10_0000, 0xbeef)
    expect(ram.memory.readUint32(0)).toBe(0xbeef)
  })
})

describe('a file', () => {
  test('is seen both ways when shared', () => {
    const { path, fd } = openFile(new Uint8Array(4 * PAGE).fill(7))
    const ram = own(MappedMemory.file([{ start: 0, size: 2 * PAGE }], { fd, offset: PAGE }))
    const [region] = ram.memory.regions
    expect(region?.file).toEqual({ fd, offset: PAGE })
    expect(region?.hugetlb).toBe(false)
    expect(ram.memory.readUint8(0)).toBe(7)
    ram.memory.writeUint8(1, 8)
    expect(readFileSync(path)[PAGE + 1]).toBe(8)
    writeFileSync(fd, Uint8Array.of(9))
    expect(ram.memory.readUint8(0)).toBe(7)
    ram.memory.readFrom(0, fd, 1, 0)
    expect(readFileSync(path)[PAGE]).toBe(9)
  })

  test('keeps its content when private, though it may be written', () => {
    const { path, fd } = openFile(new Uint8Array(2 * PAGE).fill(7), 'r')
    const ram = own(MappedMemory.file([{ start: 0, size: 2 * PAGE }], { fd, shared: false }))
    ram.memory.writeUint8(0, 8)
    expect(ram.memory.readUint16(0)).toBe(0x0708)
    expect(readFileSync(path)[0]).toBe(7)
    expect(ram.discardsToZero).toBe(false)
    ram.discard(0, PAGE)
    expect(ram.memory.readUint8(0)).toBe(7)
  })

  test('takes the place of a part of private memory, across regions, and the rest stays', () => {
    const { path, fd } = openFile(new Uint8Array(3 * PAGE).fill(7), 'r')
    const ram = own(
      MappedMemory.anonymous([
        { start: 0, size: 4 * PAGE },
        { start: 4 * PAGE, size: 4 * PAGE },
      ]),
    )
    ram.memory.fill(0, 8 * PAGE, 1)
    expect(ram.discardsToZero).toBe(true)
    const onDemand = () => ram.memory.regions.map((region) => region.onDemand)
    expect(onDemand()).toEqual([false, false])
    ram.overlay(3 * PAGE, 2 * PAGE, { fd, offset: PAGE })
    expect(onDemand()).toEqual([true, true])
    const bytes = ram.memory.regions.flatMap((region) =>
      Array.from({ length: 4 }, (_, page) => region.bytes[page * PAGE]),
    )
    expect(bytes).toEqual([1, 1, 1, 7, 7, 1, 1, 1])
    expect(ram.discardsToZero).toBe(false)
    ram.memory.writeUint8(3 * PAGE, 8)
    expect(readFileSync(path)[PAGE]).toBe(7)
    // Of the first region all but its last page, and of that what was written: nothing else is this process's own.
    expect(ram.memory.regions.map((region) => privateRuns(region))).toEqual([
      [{ offset: 0, size: 4 * PAGE }],
      [{ offset: PAGE, size: 3 * PAGE }],
    ])
    ram.discard(3 * PAGE, PAGE)
    expect(ram.memory.readUint8(3 * PAGE)).toBe(7)
    expect(memoryError(() => ram.overlay(0, 3 * PAGE, { fd, offset: PAGE })).code).toBe('ERR_MEMORY_PAST_EOF')
    expect(memoryError(() => ram.overlay(7 * PAGE, 2 * PAGE, { fd, offset: 0 })).code).toBe(
      'ERR_MEMORY_PARTIAL',
    )
    expect(memoryError(() => ram.overlay(1, PAGE, { fd, offset: 0 }))).toMatchObject({
      code: 'ERR_MEMORY_ALLOCATION',
      cause: { code: 'EINVAL' },
    })
    expect(ram.memory.readUint8(0)).toBe(1)
    const shared = own(MappedMemory.memfd([{ start: 0, size: PAGE }]))
    expect(memoryError(() => shared.overlay(0, PAGE, { fd, offset: 0 })).code).toBe(
      'ERR_MEMORY_INVALID_ARGUMENT',
    )
  })

  test('is refused past its end, at an odd offset, and without the right to write', () => {
    const { fd } = openFile(new Uint8Array(4 * PAGE), 'r')
    const map = (size: number, offset: number, shared = false) => {
      return memoryError(() => own(MappedMemory.file([{ start: 0, size }], { fd, offset, shared })))
    }
    expect(map(4 * PAGE + 1, 0).code).toBe('ERR_MEMORY_PAST_EOF')
    expect(map(4 * PAGE, PAGE).code).toBe('ERR_MEMORY_PAST_EOF')
    expect(map(PAGE, Number.MAX_SAFE_INTEGER).code).toBe('ERR_MEMORY_PAST_EOF')
    expect(map(PAGE, 100)).toMatchObject({ code: 'ERR_MEMORY_ALLOCATION', cause: { code: 'EINVAL' } })
    expect(map(PAGE, 0, true)).toMatchObject({ code: 'ERR_MEMORY_ALLOCATION', cause: { code: 'EACCES' } })
    for (const offset of [-PAGE, 0.5, Number.NaN]) {
      expect(map(PAGE, offset).code).toBe('ERR_MEMORY_INVALID_ARGUMENT')
    }
  })
})

describe('huge pages', () => {
  const pageSize = defaultHugePageSize()
  const hasPages = freeHugePages() >= 12

  test.skipIf(hasPages)('fail at once on a host that has set none aside', () => {
    const ranges = [{ start: 0, size: 64 * pageSize }]
    for (const make of [
      () => MappedMemory.hugetlb(ranges),
      () => MappedMemory.hugetlb(ranges, { pageSize }),
      () => MappedMemory.memfd(ranges, { hugetlb: true }),
      () => MappedMemory.memfd(ranges, { hugetlb: pageSize }),
    ]) {
      expect(memoryError(make)).toMatchObject({ code: 'ERR_MEMORY_ALLOCATION', cause: { code: 'ENOMEM' } })
    }
  })

  test('refuse a page size that is none', () => {
    for (const size of [3 * MIB, 1024, 2 ** 32, Number.NaN]) {
      const ranges = [{ start: 0, size: 2 * MIB }]
      const huge = memoryError(() => MappedMemory.hugetlb(ranges, { pageSize: size }))
      expect(huge.code).toBe('ERR_MEMORY_INVALID_ARGUMENT')
      const memfd = memoryError(() => MappedMemory.memfd(ranges, { hugetlb: size }))
      expect(memfd.code).toBe('ERR_MEMORY_INVALID_ARGUMENT')
    }
  })

  describe.skipIf(!hasPages)(`with at least 12 free huge pages (sysctl vm.nr_hugepages=12)`, () => {
    test('say that they are', () => {
      const ranges = [{ start: 0, size: pageSize }]
      expect(own(MappedMemory.hugetlb(ranges)).memory.regions[0]?.hugetlb).toBe(true)
      const memfd = own(MappedMemory.memfd(ranges, { hugetlb: true }))
      expect(memfd.memory.regions[0]?.hugetlb).toBe(true)
      const fd = memfd.memory.regions[0]?.file?.fd ?? -1
      expect(own(MappedMemory.file(ranges, { fd })).memory.regions[0]?.hugetlb).toBe(true)
    })

    guestMemoryContract(
      'huge pages',
      (ranges, options) => MappedMemory.hugetlb(ranges, { ...options, pageSize }),
      pageSize,
    )
    guestMemoryContract(
      'a memfd of huge pages',
      (ranges, options) => MappedMemory.memfd(ranges, { ...options, hugetlb: pageSize }),
      pageSize,
    )
  })
})

const ENOUGH = 300_000
const TOO_MANY = 300_000_000

// Another thread flips every bit of a word, as a guest does; no atomic load may see half of a flip.
test('never reads a torn value with atomics', async () => {
  const ram = MappedMemory.anonymous([{ start: 0, size: PAGE }])
  const source = `
    const { workerData, parentPort } = require('node:worker_threads')
    const koffi = require(workerData.koffi)
    const view = koffi.view(workerData.address, 4096)
    const stop = new Int32Array(workerData.stop)
    const u16 = new Uint16Array(view), u32 = new Uint32Array(view), u64 = new BigUint64Array(view)
    parentPort.postMessage('ready')
    for (let i = 0; Atomics.load(stop, 0) === 0; i += 1) {
      const ones = (i & 1) !== 0
      Atomics.store(u16, 0, ones ? 0xffff : 0)
      Atomics.store(u32, 16, ones ? 0xffffffff : 0)
      Atomics.store(u64, 16, ones ? 0xffffffffffffffffn : 0n)
    }
  `
  const stop = new SharedArrayBuffer(4)
  const koffi = createRequire(import.meta.url).resolve('koffi')
  const workerData = { koffi, address: ram.memory.hostAddress(0), stop }
  const worker = new Worker(source, { eval: true, workerData })
  try {
    await new Promise((resolve, reject) => {
      worker.once('message', resolve)
      worker.once('error', reject)
    })
    const seen16 = new Set<number>()
    const seen32 = new Set<number>()
    const seen64 = new Set<bigint>()
    const isSeen = () => seen16.size > 1 && seen32.size > 1 && seen64.size > 1
    for (let i = 0; i < ENOUGH || (i < TOO_MANY && !isSeen()); i += 1) {
      seen16.add(ram.memory.atomicLoad16(0))
      seen32.add(ram.memory.atomicLoad32(64))
      seen64.add(ram.memory.atomicLoad64(128))
    }
    expect([...seen16].sort()).toEqual([0, 0xffff])
    expect([...seen32].sort()).toEqual([0, 0xffff_ffff])
    expect([...seen64].sort()).toEqual([0n, 2n ** 64n - 1n])
  } finally {
    Atomics.store(new Int32Array(stop), 0, 1)
    await new Promise((resolve) => worker.once('exit', resolve))
    ram.close()
  }
})
