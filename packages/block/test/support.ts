/** A driver of virtio-blk behind virtio-mmio, with memory of each kind, and files to be its disks. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Blk, type BlkOptions, type Disk, featureBit, MmioTransport } from '@vmm/devices/virtio'
import { IoUring } from '@vmm/sys-util'
import { createMockDriver, type MockBuffer, type MockDriver } from '@vmm/virtio-queue/testing'
import { GuestMemory, GuestRegion } from '@vmm/vm-memory'
import { MappedMemory } from '@vmm/vm-memory/mmap'
import { vi } from 'vitest'
import { own, temporaryDirectory } from '../../../tests/support/own.ts'
import { AtOnce, WOULD_WAIT } from '../src/at-once.ts'
import {
  DiskFile,
  type DiskFileOptions,
  type FileDisk,
  type FileDiskOptions,
  openDisk,
} from '../src/index.ts'

export { own, temporaryDirectory } from '../../../tests/support/own.ts'

export const SECTOR = 512
/** <linux/virtio_blk.h>. */
export const T_IN = 0
export const T_OUT = 1
export const T_FLUSH = 4
export const T_DISCARD = 11
export const T_WRITE_ZEROES = 13
export const S_OK = 0
export const S_IOERR = 1
export const S_UNSUPP = 2
export const F_DISCARD: number = featureBit(13)
export const F_FLUSH: number = featureBit(9)
export const F_CONFIG_WCE: number = featureBit(11)
export const UNMAP = 0b1
const F_INDIRECT = featureBit(28)
const UNTOUCHED = 0xee

/** Registers of virtio-mmio (virtio 1.2, 4.2.2). */
const REG = {
  deviceFeatures: 0x010,
  deviceFeaturesSelect: 0x014,
  driverFeatures: 0x020,
  driverFeaturesSelect: 0x024,
  queueSize: 0x038,
  queueReady: 0x044,
  notify: 0x050,
  status: 0x070,
  descriptorArea: 0x080,
  driverArea: 0x090,
  deviceArea: 0x0a0,
}

/** A file with such content, or that many zeros. */
export function diskFile(content: Uint8Array | number): string {
  const path = join(temporaryDirectory(), 'disk.img')
  writeFileSync(path, typeof content === 'number' ? new Uint8Array(content) : content)
  return path
}

/** Bytes that differ from sector to sector and inside each. */
export function pattern(length: number, seed = 1): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 7 + (i >>> 9) * 31 + seed * 13) & 0xff)
}

/** Whether this process may mount; where it may not, says so. With CI set it has to. */
export function skipWithoutMount(what: string): boolean {
  const skip = process.getuid?.() !== 0 && !('CI' in process.env)
  if (skip) console.warn(`not root: ${what} is not tested`)
  return skip
}

/** A file system of its own with that much room, for the length of the test. */
export function smallFileSystem(bytes: number, options = ''): string {
  const path = join(temporaryDirectory(), 'mount')
  mkdirSync(path)
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${bytes}${options}`, 'tmpfs', path])
  own({ close: () => execFileSync('umount', [path]) })
  return path
}

/** Why the kernel gives this process no io_uring; undefined where it does. */
function reasonWithoutRings(): string | undefined {
  try {
    new IoUring({ entries: 1 }).close()
    return undefined
  } catch (error) {
    return (error as Error).message
  }
}

function reasonWithoutDirect(): string | undefined {
  const directory = mkdtempSync(join(tmpdir(), 'vmm-block-'))
  const path = join(directory, 'disk.img')
  try {
    writeFileSync(path, new Uint8Array(0x1000))
    new DiskFile(path, { direct: true }).close()
    return undefined
  } catch (error) {
    return (error as Error).message
  } finally {
    rmSync(directory, { recursive: true })
  }
}

/** A way of opening disks. */
export interface Way {
  readonly name: string
  readonly options: DiskFileOptions & FileDiskOptions
  /** As if nothing were ever in the page cache. */
  readonly isCold?: boolean
}

const ALL_WAYS: readonly Way[] = [
  { name: 'sync', options: { engine: 'sync' } },
  { name: 'io_uring', options: { engine: 'io_uring' } },
  { name: 'io_uring, nothing cached', options: { engine: 'io_uring' }, isCold: true },
  { name: 'threads', options: { engine: 'threads' } },
  { name: 'threads, nothing cached', options: { engine: 'threads' }, isCold: true },
  { name: 'sync, O_DIRECT', options: { engine: 'sync', direct: true } },
  { name: 'io_uring, O_DIRECT', options: { engine: 'io_uring', direct: true } },
  { name: 'threads, O_DIRECT', options: { engine: 'threads', direct: true } },
]

/** What this host can do: with CI set it has to be all of it. */
export const WAYS: readonly Way[] = waysHere()

function waysHere(): readonly Way[] {
  if ('CI' in process.env) return ALL_WAYS
  const missing = { ring: reasonWithoutRings(), direct: reasonWithoutDirect() }
  for (const reason of Object.values(missing)) if (reason !== undefined) console.warn(`not tested: ${reason}`)
  return ALL_WAYS.filter(({ options: { engine, direct = false } }) => {
    return (engine !== 'io_uring' || missing.ring === undefined) && (!direct || missing.direct === undefined)
  })
}

/** Opens a disk in such a way, for the length of the test. */
export function openIn(way: Way, path: string, options: DiskFileOptions & FileDiskOptions = {}): FileDisk {
  if (way.isCold === true) {
    const spy = vi.spyOn(AtOnce.prototype, 'move').mockReturnValue(WOULD_WAIT)
    own({ close: () => spy.mockRestore() })
  }
  return own(openDisk(path, { ...way.options, ...options }))
}

/** Guest memory has two regions as large, one after the other. */
const HALF = 0x8_0000

/** Kinds of guest memory: with an address in this process, without one, and a region of each. */
export const MEMORIES: readonly (readonly [name: string, make: () => GuestMemory])[] = [
  ['mapped memory', () => mappedMemory().memory],
  ['plain memory', () => GuestMemory.fromRanges(RANGES)],
  [
    'memory of both kinds',
    () => {
      const [first] = mappedMemory().memory.regions
      if (first === undefined) throw new Error('no region')
      return GuestMemory.fromRegions([first, new GuestRegion({ start: HALF, bytes: new Uint8Array(HALF) })])
    },
  ],
]

const RANGES = [
  { start: 0, size: HALF },
  { start: HALF, size: HALF },
]

export function mappedMemory(trackDirty = false): MappedMemory {
  return own(MappedMemory.anonymous(RANGES, { trackDirty }))
}

/** How a request went. */
export interface Answer {
  readonly status: number
  /** Bytes written, as the device says; undefined where it has not answered. */
  readonly length: number | undefined
}

const HEADER = 0x2_0000
const HEADERS = 256
const STATUS = 0x2_1000
/** Where data goes, unless told otherwise: up to where the second region begins, and on from there. */
export const DATA: number = HALF - 0x1_0000

export class DiskGuest {
  readonly memory: GuestMemory
  readonly blk: Blk
  readonly transport: MmioTransport
  readonly driver: MockDriver
  #sent = 0
  /** What was reported of the host's side. */
  readonly failures: { readonly code?: string; readonly message: string; readonly cause?: unknown }[] = []

  /** @param options.without features that the driver does not take */
  constructor(
    disk: Disk,
    memory: GuestMemory = mappedMemory().memory,
    options: Partial<BlkOptions> & { without?: number } = {},
  ) {
    const { without = 0, ...blkOptions } = options
    this.memory = memory
    this.blk = new Blk({ queueSize: 256, ...blkOptions, disk })
    this.transport = own(
      new MmioTransport({
        device: this.blk,
        memory,
        interrupt: { trigger() {} },
        events: { hostFailure: (error) => this.failures.push(error as Error) },
      }),
    )
    this.driver = this.#start(without)
  }

  #start(without: number): MockDriver {
    const { transport } = this
    const write = (offset: number, value: number) => transport.write(offset, value, 4)
    for (const status of [0, 0b1, 0b11]) write(REG.status, status)
    const low = this.features & ~without
    for (const [select, word] of [low, 0b1].entries()) {
      write(REG.driverFeaturesSelect, select)
      write(REG.driverFeatures, word >>> 0)
    }
    write(REG.status, 0b1011)
    const driver = createMockDriver({
      memory: this.memory,
      size: this.blk.queueSizes[0] as number,
      base: 0x1000,
      features: { indirect: (low & F_INDIRECT) !== 0, eventIndex: (low & featureBit(29)) !== 0 },
    })
    write(REG.queueSize, driver.size)
    write(REG.descriptorArea, driver.descriptorArea)
    write(REG.driverArea, driver.driverArea)
    write(REG.deviceArea, driver.deviceArea)
    write(REG.queueReady, 1)
    write(REG.status, 0b1111)
    return driver
  }

  /** Bits 0 to 31 of what the device offers. */
  get features(): number {
    this.transport.write(REG.deviceFeaturesSelect, 0, 4)
    return this.transport.read(REG.deviceFeatures, 4)
  }

  /** Takes queue and device away, as a driver that starts over. */
  reset(): void {
    this.transport.write(REG.status, 0, 4)
  }

  /** Sends a request and takes no answer. */
  send(type: number, sector: number, data: readonly MockBuffer[] = []): void {
    // One of its own: it may be read in a later turn.
    const header = HEADER + 16 * (this.#sent++ % HEADERS)
    this.memory.writeUint32(header, type)
    this.memory.writeUint32(header + 8, sector)
    this.memory.writeUint32(header + 12, 0)
    this.memory.writeUint8(STATUS, UNTOUCHED)
    const status = { address: STATUS, length: 1, writable: true }
    this.driver.send([{ address: header, length: 16 }, ...data, status], { indirect: true })
    this.transport.write(REG.notify, 0, 4)
  }

  /** The answer to the oldest request that has one. */
  answer(): Answer {
    const length = this.driver.reap()?.length
    return { status: this.memory.readUint8(STATUS), length }
  }

  /** Sends a request that is answered at once. */
  request(type: number, sector: number, data: readonly MockBuffer[] = []): Answer {
    this.send(type, sector, data)
    return this.answer()
  }

  /** Sends a request, and waits. */
  async slowRequest(type: number, sector: number, data: readonly MockBuffer[] = []): Promise<Answer> {
    this.send(type, sector, data)
    await this.blk.idle()
    return this.answer()
  }

  /** A range for discard or write zeroes. */
  range(sector: number, sectors: number, flags = 0): readonly MockBuffer[] {
    const address = DATA - 16
    this.memory.writeUint32(address, sector)
    this.memory.writeUint32(address + 4, 0)
    this.memory.writeUint32(address + 8, sectors)
    this.memory.writeUint32(address + 12, flags)
    return [{ address, length: 16 }]
  }

  /** Writes bytes from the pieces of memory given; the default is one. */
  write(
    sector: number,
    bytes: Uint8Array,
    pieces: readonly MockBuffer[] = [{ address: DATA, length: bytes.length }],
  ): Promise<Answer> {
    let done = 0
    for (const { address, length } of pieces) {
      this.memory.writeSlice(address, bytes.subarray(done, done + length))
      done += length
    }
    return this.slowRequest(T_OUT, sector, pieces)
  }

  /** Reads into pieces of memory. */
  async read(
    sector: number,
    pieces: readonly MockBuffer[],
  ): Promise<{ readonly answer: Answer; readonly bytes: Buffer }> {
    const answer = await this.slowRequest(
      T_IN,
      sector,
      pieces.map((piece) => ({ ...piece, writable: true })),
    )
    return { answer, bytes: this.bytes(pieces) }
  }

  /** What pieces of memory hold. */
  bytes(pieces: readonly MockBuffer[]): Buffer {
    return Buffer.concat(
      pieces.map(({ address, length }) => {
        const piece = new Uint8Array(length)
        this.memory.readSlice(address, piece)
        return piece
      }),
    )
  }
}

/** Pieces of memory with gaps between them, of such lengths and as many as it takes. */
export function pieces(total: number, lengths: readonly number[], address: number = DATA): MockBuffer[] {
  const all: MockBuffer[] = []
  let at = address
  for (let left = total, i = 0; left > 0; i += 1) {
    const length = Math.min(left, lengths[i % lengths.length] ?? left)
    all.push({ address: at, length })
    at += length + 3
    left -= length
  }
  return all
}
