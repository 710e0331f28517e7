/** Disks to be attacked. */
import { expect } from 'vitest'
import * as blk from '../../src/virtio/blk/spec.ts'
import type { BlkOptions, Disk } from '../../src/virtio/index.ts'
import { Blk, type BlockRequest, BufferDisk, SECTOR_SIZE, UserDisk } from '../../src/virtio/index.ts'
import { SlowDisk } from './blk-support.ts'
import type { HostileGuest, Request, Target, Victim } from './hostile-attack.ts'

const QUEUE_SIZE = 16
const SECTORS = 8
const DISK_BYTES = SECTORS * SECTOR_SIZE
const NEIGHBOUR = 0xa5

/** A request to a disk: header and data, then what the device writes. */
export function blockRequest(
  type: number,
  sector: number,
  data: Uint8Array | number = new Uint8Array(0),
): Request {
  const isRead = typeof data === 'number'
  const readable = new Uint8Array(blk.VIRTIO_BLK_HEADER_SIZE + (isRead ? 0 : data.length))
  const view = new DataView(readable.buffer)
  view.setUint32(0, type, true)
  view.setUint32(8, sector, true)
  if (!isRead) readable.set(data, blk.VIRTIO_BLK_HEADER_SIZE)
  return { queue: 0, readable, writable: isRead ? [data, 1] : [1] }
}

function blockRange(type: number, sector: number, sectors: number, flags = 0): Request {
  const range = new DataView(new ArrayBuffer(blk.VIRTIO_BLK_RANGE_SIZE))
  range.setUint32(0, sector, true)
  range.setUint32(8, sectors, true)
  range.setUint32(12, flags, true)
  return blockRequest(type, 0, new Uint8Array(range.buffer))
}

/** What a driver asks of a disk of eight sectors, a little more than it has among it. */
export const BLOCK_REQUESTS: readonly Request[] = [
  blockRequest(blk.VIRTIO_BLK_T_IN, 0, SECTOR_SIZE),
  blockRequest(blk.VIRTIO_BLK_T_IN, 2, 6 * SECTOR_SIZE),
  blockRequest(blk.VIRTIO_BLK_T_IN, 3, 6 * SECTOR_SIZE),
  blockRequest(blk.VIRTIO_BLK_T_OUT, 1, new Uint8Array(2 * SECTOR_SIZE).fill(7)),
  blockRequest(blk.VIRTIO_BLK_T_OUT, 7, new Uint8Array(SECTOR_SIZE).fill(8)),
  blockRequest(blk.VIRTIO_BLK_T_FLUSH, 0),
  blockRequest(blk.VIRTIO_BLK_T_GET_ID, 0, blk.VIRTIO_BLK_ID_BYTES),
  blockRange(blk.VIRTIO_BLK_T_DISCARD, 1, 7),
  blockRange(blk.VIRTIO_BLK_T_DISCARD, 3, 0),
  blockRange(blk.VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, blk.VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP),
]

/** A good driver of a disk writes a sector and reads it. */
export async function diskWorks(guest: HostileGuest<Blk>): Promise<void> {
  const idle = (): Promise<void> => guest.device.idle()
  const written = new Uint8Array(SECTOR_SIZE).fill(0x5a)
  expect(await guest.request(blockRequest(blk.VIRTIO_BLK_T_OUT, 4, written), idle)).toEqual(Uint8Array.of(0))
  const read = await guest.request(blockRequest(blk.VIRTIO_BLK_T_IN, 4, SECTOR_SIZE), idle)
  expect(read).toEqual(Uint8Array.of(...written, 0))
}

/** The part of a victim that is the same for all disks. */
export function diskVictim(
  disk: Disk,
  failures: readonly unknown[],
  options: Partial<BlkOptions> = {},
): Victim<Blk> {
  const device = new Blk({ queueSize: QUEUE_SIZE, ...options, disk })
  return {
    device,
    settle: () => device.idle(),
    check() {
      expect(device.pending).toBe(0)
      expect(failures).toEqual([])
    },
    count: () => device.pending,
    works: diskWorks,
  }
}

/** Sectors in memory between neighbours that no request may reach. */
function sectorsWithNeighbours(): { readonly bytes: Uint8Array; check(): void } {
  const whole = new Uint8Array(DISK_BYTES + 2 * SECTOR_SIZE).fill(NEIGHBOUR)
  return {
    bytes: whole.subarray(SECTOR_SIZE, SECTOR_SIZE + DISK_BYTES),
    check() {
      const neighbours = [whole.subarray(0, SECTOR_SIZE), whole.subarray(SECTOR_SIZE + DISK_BYTES)]
      expect(neighbours.every((sector) => sector.every((byte) => byte === NEIGHBOUR))).toBe(true)
    },
  }
}

const bufferDisk: Target<Blk> = {
  name: 'virtio-blk over a buffer',
  requests: BLOCK_REQUESTS,
  make() {
    const { bytes, check } = sectorsWithNeighbours()
    const victim = diskVictim(new BufferDisk(bytes), [], { queues: 2 })
    return {
      ...victim,
      check() {
        victim.check?.()
        check()
      },
    }
  },
}

/** A disk that does its work, in guest memory, when the host's side takes a step, and never after a reset. */
class LateDisk extends SlowDisk {
  readonly #bytes: Uint8Array
  override readonly size: number
  override readonly canDiscard = true as false

  constructor(bytes: Uint8Array) {
    super()
    this.#bytes = bytes
    this.size = bytes.length
  }

  /** Completes one of the requests, some of them without success. */
  step(choice: number): void {
    const [request] = this.requests.splice(choice % Math.max(1, this.requests.length), 1)
    if (request === undefined) return
    request.sink.complete(request, request.isCurrent && choice % 8 !== 7 ? this.#perform(request) : 1)
    if (choice % 2 === 0) this.sink.flush()
  }

  override drain(): void {
    while (this.requests.length > 0) this.step(this.requests.length)
  }

  #perform(request: BlockRequest): 0 | 1 {
    // Before a reset is over all requests are done: guest memory is the request's.
    return new BufferDisk(this.#bytes).submit(request) as 0 | 1
  }
}

const lateDisk: Target<Blk> = {
  name: 'virtio-blk over a disk that works late and out of order',
  requests: BLOCK_REQUESTS,
  make() {
    const { bytes, check } = sectorsWithNeighbours()
    const disk = new LateDisk(bytes)
    const victim = diskVictim(disk, [])
    const settle = (): Promise<void> => {
      while (disk.requests.length > 0) disk.step(0)
      disk.sink.flush()
      return Promise.resolve()
    }
    return {
      ...victim,
      step: (choice) => disk.step(choice),
      settle,
      check() {
        victim.check?.()
        check()
      },
      async works(guest) {
        const written = new Uint8Array(SECTOR_SIZE).fill(0x5a)
        const { request } = guest
        await request.call(guest, blockRequest(blk.VIRTIO_BLK_T_OUT, 4, written), settle)
        const read = await request.call(guest, blockRequest(blk.VIRTIO_BLK_T_IN, 4, SECTOR_SIZE), settle)
        expect(read).toEqual(Uint8Array.of(...written, 0))
      },
    }
  },
}

const userDisk: Target<Blk> = {
  name: "virtio-blk over a user's disk that settles late",
  requests: BLOCK_REQUESTS,
  make() {
    const { bytes, check } = sectorsWithNeighbours()
    const failures: unknown[] = []
    const waiting: (() => void)[] = []
    let isSettling = false
    const turn = (): Promise<void> | undefined =>
      isSettling ? undefined : new Promise((resolve) => waiting.push(resolve))
    const inside = (position: number, length: number): void => {
      if (!(position >= 0 && position + length <= bytes.length)) failures.push([position, length])
    }
    const disk = new UserDisk({
      size: bytes.length,
      async read(target, position) {
        inside(position, target.length)
        await turn()
        target.set(bytes.subarray(position, position + target.length))
      },
      async write(source, position) {
        inside(position, source.length)
        const first = source[0]
        await turn()
        // What a call was given stays as it is, whatever the guest does to its memory.
        if (source[0] !== first) failures.push('a buffer changed under way')
        bytes.set(source, position)
      },
      async flush() {
        await turn()
      },
      discard: (position, length) => inside(position, length),
    })
    const victim = diskVictim(disk, failures)
    return {
      ...victim,
      step: (choice) => waiting.splice(choice % Math.max(1, waiting.length), 1)[0]?.(),
      async settle() {
        isSettling = true
        for (const release of waiting.splice(0)) release()
        await victim.settle?.()
        isSettling = false
      },
      check() {
        victim.check?.()
        check()
      },
      async works(guest) {
        isSettling = true
        await diskWorks(guest)
        isSettling = false
      },
    }
  },
}

/** The disks of this package. */
export const DISK_TARGETS: readonly Target<Blk>[] = [bufferDisk, lateDisk, userDisk]
