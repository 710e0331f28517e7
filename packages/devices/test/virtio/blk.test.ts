import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { REQUEST_BYTES_MAX } from '../../src/virtio/blk/config.ts'
import * as spec from '../../src/virtio/blk/spec.ts'
import {
  Blk,
  BufferDisk,
  featureBit,
  MmioTransport,
  SECTOR_SIZE,
  VIRTIO_CONFIG_S_NEEDS_RESET,
  VIRTIO_ID_BLOCK,
} from '../../src/virtio/index.ts'
import * as reg from '../../src/virtio/mmio/registers.ts'
import { codeThrownBy } from '../support.ts'
import {
  BlkGuest,
  DATA,
  HEADER,
  MEMORY_SIZE,
  numberedDisk,
  readable,
  SECTORS,
  SlowDisk,
  STATUS,
  UNTOUCHED,
  writable,
} from './blk-support.ts'
import { DRIVER_OK } from './support.ts'

const IN = spec.VIRTIO_BLK_T_IN
const OUT = spec.VIRTIO_BLK_T_OUT
const { VIRTIO_BLK_S_OK: OK, VIRTIO_BLK_S_IOERR: IOERR, VIRTIO_BLK_S_UNSUPP: UNSUPP } = spec
const bitOf = (...features: number[]): number =>
  features.reduce((bits, one) => (bits | featureBit(one)) >>> 0, 0)

function setUp(disk: BufferDisk = numberedDisk(), features?: number): BlkGuest {
  const guest = new BlkGuest({ disk, id: 'a disk' })
  guest.begin(features)
  return guest
}

describe('virtio-blk numbers', () => {
  it('are those of <linux/virtio_blk.h>', () => {
    const header = readFileSync('/usr/include/linux/virtio_blk.h', 'utf8')
    const numbers: Record<string, unknown> = { ...spec }
    const names = Object.keys(numbers).filter((name) => /_(F|T|S)_|_ID_BYTES|_UNMAP/.test(name))
    expect(names.length).toBeGreaterThan(15)
    for (const name of names) {
      if (name === 'CONFIG_WRITE_ZEROES_MAY_UNMAP_OFFSET') continue
      const value = new RegExp(`define ${name}\\s+(\\w+)`).exec(header)?.[1]
      expect([name, numbers[name]]).toEqual([name, Number(value)])
    }
  })
})

describe('the configuration of virtio-blk', () => {
  it('has capacity, limits, block sizes and queues', () => {
    const disk = numberedDisk()
    const guest = new BlkGuest({
      disk,
      queues: 2,
      blockSize: 1024,
      physicalBlockSize: 4096,
      optimalIoSize: 65536,
    })
    expect(guest.read(reg.VIRTIO_MMIO_DEVICE_ID)).toBe(VIRTIO_ID_BLOCK)
    expect([guest.config(0), guest.config(4)]).toEqual([SECTORS, 0])
    expect(guest.config(spec.CONFIG_SEG_MAX_OFFSET)).toBe(16 - 2)
    expect(guest.config(spec.CONFIG_BLK_SIZE_OFFSET)).toBe(1024)
    expect(guest.config(spec.CONFIG_PHYSICAL_BLOCK_EXP_OFFSET, 1)).toBe(2)
    expect(guest.config(spec.CONFIG_MIN_IO_SIZE_OFFSET, 2)).toBe(4)
    expect(guest.config(spec.CONFIG_OPT_IO_SIZE_OFFSET)).toBe(64)
    expect(guest.config(spec.CONFIG_NUM_QUEUES_OFFSET, 2)).toBe(2)
    expect(guest.config(spec.CONFIG_WRITEBACK_OFFSET, 1)).toBe(1)
    expect(guest.config(spec.CONFIG_MAX_DISCARD_SEG_OFFSET)).toBe(1)
    expect(guest.config(spec.CONFIG_DISCARD_SECTOR_ALIGNMENT_OFFSET)).toBe(8)
    expect(guest.config(spec.CONFIG_MAX_WRITE_ZEROES_SEG_OFFSET)).toBe(1)
    expect(guest.config(spec.CONFIG_WRITE_ZEROES_MAY_UNMAP_OFFSET, 1)).toBe(1)
    guest.select(1)
    expect(guest.read(reg.VIRTIO_MMIO_QUEUE_NUM_MAX)).toBe(16)
  })

  it('offers what the disk can do', () => {
    const queues = bitOf(28, 29)
    const all = bitOf(
      spec.VIRTIO_BLK_F_SIZE_MAX,
      spec.VIRTIO_BLK_F_SEG_MAX,
      spec.VIRTIO_BLK_F_BLK_SIZE,
      spec.VIRTIO_BLK_F_TOPOLOGY,
    )
    const changing = bitOf(
      spec.VIRTIO_BLK_F_FLUSH,
      spec.VIRTIO_BLK_F_CONFIG_WCE,
      spec.VIRTIO_BLK_F_WRITE_ZEROES,
    )
    const offered = (guest: BlkGuest): number => guest.offered(0) - queues
    expect(offered(new BlkGuest({ disk: numberedDisk() }))).toBe(
      all + changing + bitOf(spec.VIRTIO_BLK_F_DISCARD),
    )
    expect(offered(new BlkGuest({ disk: new SlowDisk() }))).toBe(all + changing)
    expect(offered(new BlkGuest({ disk: numberedDisk(8, true), queues: 2 }))).toBe(
      all + bitOf(spec.VIRTIO_BLK_F_RO, spec.VIRTIO_BLK_F_MQ),
    )
  })

  it('shows capacities above 2^32 sectors', () => {
    const disk = Object.assign(new SlowDisk(), { size: 2 ** 43 + 1024 })
    const guest = new BlkGuest({ disk })
    expect([guest.config(0), guest.config(4)]).toEqual([2, 4])
  })

  it('tells the driver of another size', () => {
    const disk = Object.assign(new SlowDisk(), { size: 1024 })
    const guest = new BlkGuest({ disk })
    guest.begin()
    Object.assign(disk, { size: 4096 })
    guest.device.sizeChanged()
    expect(guest.config(0)).toBe(8)
    expect(guest.handleInterrupt()).toBe(reg.VIRTIO_MMIO_INT_CONFIG)
    Object.assign(disk, { size: 100 })
    expect(codeThrownBy(() => guest.device.sizeChanged())).toBe('ERR_DEVICE_OPTION')
  })

  it.each([
    { id: 'x'.repeat(21) },
    { id: 'ü' },
    { queues: 0 },
    { queues: 65 },
    { queueSize: 2 },
    { queueSize: 100 },
    { blockSize: 256 },
    { blockSize: 1000 },
    { blockSize: 65536 },
    { physicalBlockSize: 256 },
    { optimalIoSize: 100 },
  ])('refuses %o', (options) => {
    expect(codeThrownBy(() => new Blk({ disk: numberedDisk(), ...options }))).toBe('ERR_DEVICE_OPTION')
  })

  it('refuses a disk that is empty or has parts of sectors', () => {
    for (const size of [0, 511, 513]) {
      expect(codeThrownBy(() => new BufferDisk(new Uint8Array(size)))).toBe('ERR_DEVICE_OPTION')
      const disk = Object.assign(new SlowDisk(), { size })
      expect(codeThrownBy(() => new Blk({ disk }))).toBe('ERR_DEVICE_OPTION')
    }
  })
})

describe('a read', () => {
  it('fills the data, writes the status, and says how much that was', () => {
    const guest = setUp()
    expect(guest.request(IN, 3, { data: [writable(DATA, 1024)] })).toEqual({ status: OK, length: 1025 })
    const data = guest.mock.read(DATA, 1025)
    expect([data[0], data[511], data[512], data[1023], data[1024]]).toEqual([3, 3, 4, 4, 0])
    expect(guest.mock.isDirty(DATA, 1024) && guest.mock.isDirty(STATUS, 1)).toBe(true)
    expect(guest.handleInterrupt()).toBe(reg.VIRTIO_MMIO_INT_VRING)
  })

  it('may be cut into pieces anywhere: odd parts, a shattered header, data and status in one', () => {
    const guest = setUp()
    const header = [readable(HEADER, 3), readable(HEADER + 3, 6), readable(HEADER + 9, 7)]
    const data = [writable(DATA, 1), writable(DATA + 0x1000, 510)]
    // The last byte of the request, whatever descriptor it is in, is the status.
    guest.mock.write(DATA + 0x2001, Uint8Array.of(UNTOUCHED))
    expect(guest.request(IN, 5, { header, data, status: [writable(DATA + 0x2000, 2)] }).length).toBe(513)
    expect(guest.mock.read(DATA, 2)).toEqual(Uint8Array.of(5, 0))
    expect(guest.mock.read(DATA + 0x1000, 511)[510]).toBe(0)
    expect(guest.mock.read(DATA + 0x1000, 511)[509]).toBe(5)
    expect(guest.mock.read(DATA + 0x2000, 2)).toEqual(Uint8Array.of(5, OK))
  })

  it('works by an indirect table as long as seg_max allows', () => {
    const guest = setUp()
    guest.writeHeader(IN, 0)
    const data = Array.from({ length: 14 }, (_, i) => writable(DATA + 512 * i, 512))
    guest.driver.send([readable(HEADER, 16), ...data, writable(STATUS, 1)], { indirect: true })
    guest.notify(0)
    expect(guest.driver.reap()?.length).toBe(14 * 512 + 1)
    expect(guest.mock.read(DATA + 13 * 512, 1)).toEqual(Uint8Array.of(13))
  })

  it.each<[string, number | bigint, number, number]>([
    ['the last sector', SECTORS - 1, 512, OK],
    ['one past the last', SECTORS, 512, IOERR],
    ['across the end', SECTORS - 1, 1024, IOERR],
    ['at 2^53 sectors', 2n ** 53n, 512, IOERR],
    ['at the highest sector', 2n ** 64n - 1n, 512, IOERR],
    ['where sector times 512 wraps to 0', 2n ** 55n, 512, IOERR],
    ['less than a sector', 0, 511, IOERR],
    ['more than a sector by a bit', 0, 513, IOERR],
    ['nothing', 0, 0, OK],
    ['nothing past the end', SECTORS + 1, 0, IOERR],
  ])('of %s is answered as it must be', (_, sector, size, status) => {
    const guest = setUp()
    const data = size === 0 ? [] : [writable(DATA, size)]
    const length = status === OK || size === 0 ? size + 1 : 0
    expect(guest.request(IN, sector, { data })).toEqual({ status, length })
  })

  it('into buffers that are not writable, or not there, fails', () => {
    const guest = setUp()
    expect(guest.request(IN, 0, { data: [readable(DATA, 512)] })).toEqual({ status: IOERR, length: 1 })
    const outside = [writable(DATA, 512), writable(MEMORY_SIZE - 256, 512)]
    expect(guest.request(IN, 1, { data: outside })).toEqual({ status: IOERR, length: 0 })
    expect(guest.mock.read(DATA, 1)).toEqual(Uint8Array.of(0))
    expect(guest.faults.map(({ code }) => code)).toEqual(['ERR_VIRTQ_BUFFER_ADDRESS'])
    expect(guest.status).toBe(DRIVER_OK)
  })

  it('or write of more than any conforming driver asks for fails before anything is done', () => {
    const disk = Object.assign(new SlowDisk(), { size: 2 ** 40 })
    const guest = new BlkGuest({ disk, queueSize: 128 })
    guest.begin()
    for (const [type, piece] of [
      [IN, writable(0, 0x10_0000)],
      [OUT, readable(0, 0x10_0000)],
    ] as const) {
      const send = (count: number): void => {
        guest.writeHeader(type, 0)
        const data = Array.from({ length: count }, () => piece)
        guest.driver.send([readable(HEADER, 16), ...data, writable(STATUS, 1)], { indirect: true })
        guest.notify(0)
      }
      const most = Math.floor(REQUEST_BYTES_MAX / piece.length)
      send(most)
      expect(disk.requests.splice(0).map(({ length }) => length)).toEqual([most * piece.length])
      send(most + 1)
      expect(disk.requests).toEqual([])
      expect(guest.status8).toBe(IOERR)
      guest.driver.reapAll()
      guest.mock.write(STATUS, Uint8Array.of(UNTOUCHED))
    }
  })
})

describe('a write', () => {
  it('goes to the disk, from pieces of any length, and its used length is the status alone', () => {
    const disk = numberedDisk()
    const guest = setUp(disk)
    guest.mock.write(DATA, new Uint8Array(1024).fill(0xaa))
    const data = [readable(DATA, 100), readable(DATA + 100, 924)]
    expect(guest.request(OUT, 7, { data })).toEqual({ status: OK, length: 1 })
    expect([6, 7, 8, 9].map((sector) => disk.bytes[sector * SECTOR_SIZE])).toEqual([6, 0xaa, 0xaa, 9])
    expect(disk.bytes[9 * SECTOR_SIZE - 1]).toBe(0xaa)
    expect(guest.mock.isDirty(DATA, 1)).toBe(false)
  })

  it("may begin in the header's own descriptor", () => {
    const disk = numberedDisk()
    const guest = setUp(disk)
    guest.mock.write(HEADER + 16, new Uint8Array(512).fill(0xab))
    expect(guest.request(OUT, 1, { header: [readable(HEADER, 528)] }).status).toBe(OK)
    expect(disk.bytes.subarray(512, 1024).every((byte) => byte === 0xab)).toBe(true)
  })

  it.each<[string, number | bigint, number]>([
    ['past the end', SECTORS, 512],
    ['across the end', SECTORS - 1, 1024],
    ['where sector times 512 wraps', 2n ** 55n, 512],
    ['of half a sector', 0, 256],
  ])('%s fails and changes nothing', (_, sector, size) => {
    const disk = numberedDisk()
    const guest = setUp(disk)
    guest.mock.write(DATA, new Uint8Array(size).fill(0xaa))
    expect(guest.request(OUT, sector, { data: [readable(DATA, size)] }).status).toBe(IOERR)
    expect(Buffer.compare(disk.bytes, numberedDisk().bytes)).toBe(0)
  })

  it('from buffers that are writable, or not there, fails and changes nothing', () => {
    const disk = numberedDisk()
    const guest = setUp(disk)
    expect(guest.request(OUT, 1, { data: [writable(DATA, 512)] })).toEqual({ status: IOERR, length: 0 })
    expect(guest.request(OUT, 1, { data: [readable(MEMORY_SIZE - 256, 512)] }).status).toBe(IOERR)
    expect(Buffer.compare(disk.bytes, numberedDisk().bytes)).toBe(0)
  })

  it('to a read-only disk fails and changes nothing', () => {
    const disk = numberedDisk(SECTORS, true)
    const guest = setUp(disk)
    expect(guest.request(OUT, 1, { data: [readable(DATA, 512)] }).status).toBe(IOERR)
    expect(guest.request(spec.VIRTIO_BLK_T_WRITE_ZEROES, 0, { data: guest.writeRange(1, 1) }).status).toBe(
      UNSUPP,
    )
    expect(guest.request(spec.VIRTIO_BLK_T_DISCARD, 0, { data: guest.writeRange(1, 1) }).status).toBe(UNSUPP)
    expect(Buffer.compare(disk.bytes, numberedDisk().bytes)).toBe(0)
    expect(guest.request(IN, 1, { data: [writable(DATA, 512)] }).status).toBe(OK)
  })
})

describe('a flush', () => {
  it('is done where it was negotiated, at sector 0', () => {
    expect(setUp().request(spec.VIRTIO_BLK_T_FLUSH, 0)).toEqual({ status: OK, length: 1 })
    expect(setUp().request(spec.VIRTIO_BLK_T_FLUSH, 1).status).toBe(IOERR)
    expect(setUp(numberedDisk(), 0).request(spec.VIRTIO_BLK_T_FLUSH, 0).status).toBe(UNSUPP)
  })
})

describe('get ID', () => {
  const GET_ID = spec.VIRTIO_BLK_T_GET_ID

  it('gives 20 bytes, in one piece or many', () => {
    const guest = setUp()
    expect(guest.request(GET_ID, 0, { data: [writable(DATA, 20)] })).toEqual({ status: OK, length: 21 })
    expect(Buffer.from(guest.mock.read(DATA, 20)).toString()).toBe('a disk'.padEnd(20, '\0'))
    guest.request(GET_ID, 0, { data: [writable(DATA, 1), writable(DATA + 100, 19)] })
    expect(Buffer.from(guest.mock.read(DATA + 100, 19)).toString()).toBe(' disk'.padEnd(19, '\0'))
  })

  it('is empty without an ID', () => {
    const guest = new BlkGuest({ disk: numberedDisk() })
    guest.begin()
    expect(guest.request(GET_ID, 0, { data: [writable(DATA, 20)] }).status).toBe(OK)
    expect(guest.mock.read(DATA, 20)).toEqual(new Uint8Array(20))
  })

  it.each([19, 21, 512])('fails for %i bytes', (size) => {
    expect(setUp().request(GET_ID, 0, { data: [writable(DATA, size)] }).status).toBe(IOERR)
  })
})

describe.each([
  { name: 'discard', type: spec.VIRTIO_BLK_T_DISCARD, max: 2 ** 17 },
  { name: 'write zeroes', type: spec.VIRTIO_BLK_T_WRITE_ZEROES, max: 2 ** 13 },
])('$name', ({ type, max }) => {
  it('clears the range and nothing else', () => {
    const disk = numberedDisk()
    const guest = setUp(disk)
    expect(guest.request(type, 0, { data: guest.writeRange(3, 2) })).toEqual({ status: OK, length: 1 })
    expect([2, 3, 4, 5].map((sector) => disk.bytes[sector * SECTOR_SIZE])).toEqual([2, 0, 0, 5])
    expect(disk.bytes[5 * SECTOR_SIZE - 1]).toBe(0)
    expect(guest.request(type, 0, { data: guest.writeRange(SECTORS - 1, 1) }).status).toBe(OK)
  })

  it.each<[string, number | bigint, number]>([
    ['past the end', SECTORS, 1],
    ['across the end', SECTORS - 1, 2],
    ['with a sector that overflows', 2n ** 64n - 1n, 2],
    ['longer than the device takes', 0, 2 ** 32 - 1],
  ])('fails %s', (_, sector, sectors) => {
    const guest = setUp()
    expect(guest.request(type, 0, { data: guest.writeRange(sector, sectors) }).status).toBe(IOERR)
  })

  it('has the limit that it tells', () => {
    const disk = Object.assign(new SlowDisk(), { size: 2 ** 40, canDiscard: true })
    const guest = new BlkGuest({ disk })
    guest.begin()
    guest.send(type, 0, { data: guest.writeRange(0, max) })
    expect(disk.requests.map(({ length }) => length)).toEqual([max * SECTOR_SIZE])
    expect(guest.request(type, 0, { data: guest.writeRange(0, max + 1) }).status).toBe(IOERR)
  })

  it('does not know flags but one, which is for zeroes', () => {
    const guest = setUp()
    const unmap = type === spec.VIRTIO_BLK_T_WRITE_ZEROES ? OK : UNSUPP
    expect(guest.request(type, 0, { data: guest.writeRange(0, 1, 1) }).status).toBe(unmap)
    for (const flags of [2, 3, 0x8000_0000]) {
      expect(guest.request(type, 0, { data: guest.writeRange(0, 1, flags) }).status).toBe(UNSUPP)
    }
  })

  it('takes one range: no less, no more, and nothing writable', () => {
    for (const data of [[], [readable(DATA, 15)], [readable(DATA, 17)], [readable(DATA, 32)]]) {
      expect(setUp().request(type, 0, { data }).status).toBe(IOERR)
    }
    expect(setUp().request(type, 0, { data: [readable(DATA, 16), writable(DATA, 16)] }).status).toBe(IOERR)
  })

  it('is not supported unless negotiated', () => {
    const guest = setUp(numberedDisk(), 0)
    expect(guest.request(type, 0, { data: guest.writeRange(0, 1) }).status).toBe(UNSUPP)
  })
})

describe('a request that is none', () => {
  it.each([2, 3, 5, 14, 16, 0x8000_0000, 0x8000_0001])('of type %i is not supported', (type) => {
    expect(setUp().request(type, 0, { data: [writable(DATA, 512)] })).toEqual({ status: UNSUPP, length: 0 })
  })

  it('with a header that is short, or writable, gets an error', () => {
    for (const header of [[readable(HEADER, 15)], [], [writable(HEADER, 16)]]) {
      const guest = setUp()
      expect(guest.request(IN, 0, { header }).status).toBe(IOERR)
      expect(guest.faults.map(({ code }) => code)).toEqual(['ERR_BLK_REQUEST'])
      expect(guest.status).toBe(DRIVER_OK)
    }
  })

  it('without a writable byte for the status makes the device need a reset', () => {
    for (const status of [[], [readable(STATUS, 1)]]) {
      const guest = setUp()
      expect(guest.request(IN, 0, { status })).toEqual({ status: UNTOUCHED, length: 0 })
      expect(guest.faults.map(({ code }) => code)).toEqual(['ERR_BLK_NO_STATUS'])
      expect(guest.status).toBe(DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET)
    }
  })

  it('with a status or a header outside memory is returned, and the next one served', () => {
    const guest = setUp()
    const layouts = [{ status: [writable(MEMORY_SIZE, 1)] }, { header: [readable(MEMORY_SIZE - 8, 16)] }]
    for (const layout of layouts) {
      expect(guest.request(IN, 0, { ...layout, data: [writable(DATA, 512)] }).length).toBe(0)
    }
    expect(guest.mock.read(DATA, 1)).toEqual(Uint8Array.of(0))
    expect(guest.request(IN, 4, { data: [writable(DATA, 512)] }).status).toBe(OK)
  })
})

describe('requests in flight', () => {
  const data = [writable(DATA, 512)]

  it('complete in any order, with a status each, and a commit for the lot', () => {
    const disk = new SlowDisk()
    const guest = new BlkGuest({ disk })
    guest.begin()
    for (const sector of [0, 1, 2]) {
      guest.writeHeader(IN, sector, HEADER + 16 * sector)
      const buffers = [readable(HEADER + 16 * sector, 16), ...data, writable(STATUS + sector, 1)]
      guest.driver.add(buffers)
    }
    guest.driver.publish()
    guest.notify(0)
    expect([disk.requests.length, disk.commits, guest.device.pending]).toEqual([3, 1, 3])
    expect(disk.requests.map(({ position }) => position)).toEqual([0, 512, 1024])
    expect(codeThrownBy(() => guest.transport.state())).toBe('ERR_DEVICE_BUSY')
    disk.finish(0, 2)
    disk.finish(1, 0)
    expect(guest.driver.reapAll()).toEqual([])
    disk.sink.flush()
    expect(guest.driver.reapAll().map(({ length }) => length)).toEqual([513, 0])
    expect([...guest.mock.read(STATUS, 3)]).toEqual([IOERR, 0, OK])
    expect(guest.interrupt.count).toBe(1)
    disk.finish()
    disk.sink.flush()
    expect(guest.transport.state().status).toBe(DRIVER_OK)
  })

  it('do not touch memory after a reset, whenever they end', () => {
    const disk = new SlowDisk()
    const guest = new BlkGuest({ disk })
    guest.begin()
    guest.send(IN, 0, { data })
    guest.status = 0
    const before = guest.mock.read(0, MEMORY_SIZE)
    expect(disk.requests[0]?.isCurrent).toBe(false)
    disk.finish()
    disk.sink.flush()
    expect(Buffer.compare(guest.mock.read(0, MEMORY_SIZE), before)).toBe(0)
    expect([guest.interrupt.count, guest.device.pending]).toEqual([0, 0])
  })

  it("do not end up in the next driver's queue", () => {
    const disk = new SlowDisk()
    const guest = new BlkGuest({ disk })
    guest.begin()
    guest.send(IN, 0, { data })
    guest.begin()
    guest.send(IN, 1, { data })
    disk.finish()
    disk.sink.flush()
    expect(guest.driver.reapAll()).toEqual([])
    disk.finish()
    disk.sink.flush()
    expect(guest.driver.reapAll().map(({ length }) => length)).toEqual([513])
  })

  /** Fills the disk with requests that nobody waits for, and begins anew. */
  const crowd = (guest: BlkGuest): void => {
    guest.begin()
    while (guest.device.pending < guest.device.queueSizes.length * 4) {
      for (let queue = 0; queue < guest.drivers.length; queue += 1) sendTwo(guest, queue)
      guest.begin()
    }
  }
  const sendTwo = (guest: BlkGuest, queue = 0): void => {
    guest.writeHeader(IN, 0)
    const driver = guest.drivers[queue]
    for (let i = 0; i < 2; i += 1) driver?.add([readable(HEADER, 16), writable(STATUS, 1)])
    driver?.publish()
    guest.notify(queue)
  }
  const drainOf = (disk: SlowDisk) => (): void => {
    while (disk.requests.length > 0) {
      disk.finish()
      disk.sink.flush()
    }
  }

  it('are drained before a reset of the device or the queue is over', () => {
    for (const reset of ['device', 'queue']) {
      const disk = new SlowDisk()
      const guest = new BlkGuest({ disk })
      guest.begin()
      guest.send(IN, 0, { data })
      disk.drained = () => {
        expect(disk.requests[0]?.isCurrent).toBe(true)
        drainOf(disk)()
      }
      if (reset === 'device') guest.status = 0
      else {
        guest.select(0)
        guest.write(reg.VIRTIO_MMIO_QUEUE_RESET, 1)
      }
      expect(guest.device.pending).toBe(0)
      expect(guest.driver.reapAll().length).toBe(1)
    }
  })

  it('are not begun in place of those that a reset drains', () => {
    const disk = new SlowDisk()
    const guest = new BlkGuest({ disk, queueSize: 4 })
    crowd(guest)
    sendTwo(guest)
    disk.drained = drainOf(disk)
    guest.status = 0
    guest.turns()
    expect([disk.requests.length, guest.device.pending]).toEqual([0, 0])
  })

  it('of other queues go on after the reset of one', () => {
    const disk = new SlowDisk()
    const guest = new BlkGuest({ disk, queueSize: 4, queues: 2 })
    crowd(guest)
    sendTwo(guest, 1)
    disk.drained = drainOf(disk)
    guest.select(0)
    guest.write(reg.VIRTIO_MMIO_QUEUE_RESET, 1)
    expect(guest.device.pending).toBe(0)
    guest.turns()
    expect(disk.requests.length).toBe(2)
  })

  it('may be completed while they are submitted, even by a disk that throws then', () => {
    for (const fails of [false, true]) {
      const disk = new SlowDisk()
      disk.submit = (request) => {
        request.sink.complete(request, 0)
        request.sink.flush()
        if (fails) throw new Error('too late')
        return -1
      }
      const guest = new BlkGuest({ disk })
      guest.begin()
      expect(guest.request(IN, 0, { data })).toEqual({ status: OK, length: 513 })
      expect(guest.request(IN, 0, { data })).toEqual({ status: OK, length: 513 })
      expect([guest.device.pending, guest.failures.length]).toEqual([0, fails ? 2 : 0])
    }
  })

  it('are as many as fit the queues, those of before resets included', () => {
    const disk = new SlowDisk()
    const guest = new BlkGuest({ disk, queueSize: 4 })
    crowd(guest)
    for (let i = 0; i < 10; i += 1) {
      sendTwo(guest)
      expect(disk.requests.length).toBe(4)
      guest.begin()
    }
    sendTwo(guest)
    // Room for those that wait, as soon as there is any.
    disk.finish()
    disk.sink.flush()
    expect(disk.requests.length).toBe(4)
    drainOf(disk)()
    expect(guest.driver.reapAll().length).toBe(2)
  })

  it('fail when the disk throws, and the host hears of it', () => {
    const error = new Error('the cable is out')
    const disk = new SlowDisk()
    disk.submit = () => {
      throw error
    }
    const guest = new BlkGuest({ disk })
    guest.begin()
    expect(guest.request(IN, 0, { data })).toEqual({ status: IOERR, length: 0 })
    expect(guest.failures).toEqual([error])
    expect([guest.device.pending, guest.status]).toEqual([0, DRIVER_OK])
  })

  it('leave no write untracked when they fail half-way', () => {
    const disk = new SlowDisk()
    const guest = new BlkGuest({ disk })
    guest.begin()
    for (const fail of [() => 1 as const, () => -1 as const]) {
      disk.submit = (request) => {
        // As a system call writes: behind the tracker's back.
        const piece = request.target.takePiece(10)
        const { pieceRegion, pieceOffset } = request.target
        pieceRegion.bytes.fill(8, pieceOffset, pieceOffset + piece)
        disk.requests.push(request)
        return fail() as -1
      }
      guest.send(IN, 0, { data })
      if (guest.device.pending > 0) disk.finish(1, 1)
      expect(guest.mock.isDirty(DATA, 10)).toBe(true)
    }
  })

  it('of several devices that share a disk go back to their own', () => {
    const disk = new SlowDisk()
    const guests = [0, 1].map(() => new BlkGuest({ disk }))
    for (const guest of guests) {
      guest.begin()
      guest.send(IN, 0, { data })
    }
    for (const [done, guest] of guests.entries()) {
      const [request] = disk.requests
      disk.finish()
      request?.sink.flush()
      expect(guest.driver.reapAll().length).toBe(1)
      expect(guests.map(({ device }) => device.pending)).toEqual(done === 0 ? [0, 1] : [0, 0])
    }
  })

  it('are completed once, however often a disk says so', () => {
    const disk = new SlowDisk()
    const guest = new BlkGuest({ disk })
    guest.begin()
    guest.send(IN, 0, { data })
    const [request] = disk.requests
    disk.finish()
    if (request !== undefined) disk.sink.complete(request, 0)
    disk.sink.flush()
    expect(guest.driver.reapAll().length).toBe(1)
    expect(guest.device.pending).toBe(0)
  })

  it('are waited for by idle()', async () => {
    const disk = new SlowDisk()
    const guest = new BlkGuest({ disk })
    guest.begin()
    await guest.device.idle()
    guest.send(IN, 0, { data })
    let isIdle = false
    const idle = guest.device.idle().then(() => (isIdle = true))
    await Promise.resolve()
    expect(isIdle).toBe(false)
    disk.finish()
    await idle
  })

  it('of all queues go to the one disk, and back to where they came from', () => {
    const disk = new SlowDisk()
    const guest = new BlkGuest({ disk, queues: 2 })
    guest.begin()
    guest.send(IN, 0, { data }, 1)
    guest.send(IN, 1, { data }, 0)
    disk.finish()
    disk.sink.flush()
    expect(guest.drivers.map((driver) => driver.reapAll().length)).toEqual([0, 1])
  })

  it('that copy much let the event loop go in between', () => {
    const disk = new BufferDisk(new Uint8Array(2 ** 25))
    const guest = new BlkGuest({ disk, queueSize: 64 })
    guest.begin()
    guest.writeHeader(IN, 0)
    const big = Array.from({ length: 40 }, () => writable(0x9_0000, 0x6_0000))
    for (let i = 0; i < 3; i += 1) {
      guest.driver.add([readable(HEADER, 16), ...big, writable(STATUS, 1)], { indirect: true })
    }
    guest.driver.publish()
    guest.notify(0)
    // 15 MiB each: the second one passes the limit, the third has to wait.
    expect(guest.driver.reapAll().length).toBe(2)
    expect(guest.turns()).toBe(1)
    expect(guest.driver.reapAll().length).toBe(1)
  })

  it('let the event loop go in between when they have yet to become durable, or come while others are served', () => {
    const big = [
      writable(0x9_0000, 0x6_0000),
      ...Array.from({ length: 39 }, () => writable(0x9_0000, 0x6_0000)),
    ]
    const size = 2 ** 25
    for (const addsMore of [false, true]) {
      // Such a disk copies at once, and then waits for the medium.
      const disk = Object.assign(new SlowDisk(), { size })
      const guest = new BlkGuest({ disk, queueSize: 64 })
      guest.begin()
      guest.writeHeader(IN, 0)
      const add = (): void => {
        guest.driver.add([readable(HEADER, 16), ...big, writable(STATUS, 1)], { indirect: true })
        guest.driver.publish()
      }
      if (addsMore) disk.commit = add
      else for (let i = 0; i < 3; i += 1) add()
      add()
      guest.notify(0)
      expect(disk.requests.length).toBe(2)
      guest.deferred.shift()?.()
      expect(disk.requests.length).toBe(4)
    }
  })

  it('that wait for room put off one look at the queues, however often a queue is reset', () => {
    const disk = new SlowDisk()
    const guest = new BlkGuest({ disk, queueSize: 4 })
    crowd(guest)
    for (let i = 0; i < 10; i += 1) {
      sendTwo(guest)
      guest.select(0)
      guest.write(reg.VIRTIO_MMIO_QUEUE_RESET, 1)
      guest.drivers = [guest.driverOf(0)]
      guest.enable(0, guest.driver)
    }
    expect(guest.deferred.length).toBe(1)
    drainOf(disk)()
    expect(guest.turns()).toBe(1)
  })
})

describe('the write cache', () => {
  const durable = (guest: BlkGuest, disk: SlowDisk): boolean | undefined => {
    guest.send(OUT, 0, { data: [readable(DATA, 512)] })
    return disk.requests.at(-1)?.durable
  }
  const WRITEBACK = reg.VIRTIO_MMIO_CONFIG + spec.CONFIG_WRITEBACK_OFFSET

  it("is the driver's choice, until the reset", () => {
    const disk = new SlowDisk()
    const guest = new BlkGuest({ disk })
    guest.begin()
    expect(durable(guest, disk)).toBe(false)
    guest.write(WRITEBACK, 0, 1)
    expect(guest.config(spec.CONFIG_WRITEBACK_OFFSET, 1)).toBe(0)
    expect(durable(guest, disk)).toBe(true)
    guest.write(WRITEBACK, 2, 1)
    guest.write(WRITEBACK, 1, 2)
    guest.write(WRITEBACK - 1, 0x0100, 2)
    expect(guest.config(spec.CONFIG_WRITEBACK_OFFSET, 1)).toBe(0)
    guest.write(WRITEBACK, 1, 1)
    expect(durable(guest, disk)).toBe(false)
    guest.write(WRITEBACK, 0, 1)
    guest.status = 0
    expect(guest.config(spec.CONFIG_WRITEBACK_OFFSET, 1)).toBe(1)
  })

  it('begins as the VMM says', () => {
    const disk = new SlowDisk()
    const guest = new BlkGuest({ disk, writeback: false })
    guest.begin()
    expect(durable(guest, disk)).toBe(true)
  })

  it('is not there for a driver that cannot flush', () => {
    const disk = new SlowDisk()
    const guest = new BlkGuest({ disk })
    guest.begin(0)
    expect(durable(guest, disk)).toBe(true)
    guest.write(WRITEBACK, 0, 1)
    expect(guest.config(spec.CONFIG_WRITEBACK_OFFSET, 1)).toBe(1)
    guest.begin(featureBit(spec.VIRTIO_BLK_F_FLUSH))
    expect(durable(guest, disk)).toBe(false)
  })

  it('cannot be changed otherwise: nothing else of the configuration can', () => {
    const guest = setUp()
    for (let offset = 0; offset < 60; offset += 1) {
      if (offset === spec.CONFIG_WRITEBACK_OFFSET) continue
      const before = guest.config(offset, 1)
      guest.write(reg.VIRTIO_MMIO_CONFIG + offset, before ^ 1, 1)
      expect(guest.config(offset, 1)).toBe(before)
    }
  })
})

describe('a saved virtio-blk', () => {
  const restore = (guest: BlkGuest, state: unknown, disk = numberedDisk()): BlkGuest =>
    new BlkGuest({ disk }, { memory: guest.mock }, (options) =>
      MmioTransport.fromState(state as never, options),
    )

  it('comes back with its write cache and queues', () => {
    const guest = setUp()
    guest.write(reg.VIRTIO_MMIO_CONFIG + spec.CONFIG_WRITEBACK_OFFSET, 0, 1)
    guest.request(IN, 0, { data: [writable(DATA, 512)] })
    const state = JSON.parse(JSON.stringify(guest.transport.state()))
    expect(state.device).toEqual({
      version: 1,
      writeback: false,
      size: SECTORS * SECTOR_SIZE,
      rateLimit: null,
    })
    const copy = restore(guest, state)
    copy.drivers = guest.drivers
    copy.transport.resume()
    expect(copy.config(spec.CONFIG_WRITEBACK_OFFSET, 1)).toBe(0)
    expect(copy.request(IN, 9, { data: [writable(DATA, 512)] })).toEqual({ status: OK, length: 513 })
    expect(copy.mock.read(DATA, 1)).toEqual(Uint8Array.of(9))
  })

  it.each([
    null,
    { version: 2, writeback: true, size: SECTORS * SECTOR_SIZE },
    { version: 1, writeback: 1, size: SECTORS * SECTOR_SIZE },
    { version: 1, writeback: true, size: SECTORS * SECTOR_SIZE + 1 },
    { version: 1, writeback: true, size: -1 },
  ])('is refused with %o', (device) => {
    const guest = setUp()
    const state = { ...guest.transport.state(), device }
    expect(codeThrownBy(() => restore(guest, state))).toBe('ERR_DEVICE_STATE')
  })

  it('tells its driver of a disk that is larger now, once', () => {
    const guest = setUp()
    const state = guest.transport.state()
    const copy = restore(guest, state, numberedDisk(2 * SECTORS))
    copy.drivers = guest.drivers
    copy.transport.resume()
    expect(copy.config(spec.CONFIG_CAPACITY_OFFSET)).toBe(2 * SECTORS)
    expect(copy.handleInterrupt()).toBe(reg.VIRTIO_MMIO_INT_CONFIG)
    copy.request(IN, SECTORS + 1, { data: [writable(DATA, 512)] })
    expect(copy.mock.read(DATA, 1)).toEqual(Uint8Array.of(SECTORS + 1))
    copy.handleInterrupt()
    const same = restore(copy, copy.transport.state(), numberedDisk(2 * SECTORS))
    same.transport.resume()
    expect(same.transport.counters.configInterrupts).toBe(0)
    expect(codeThrownBy(() => restore(copy, copy.transport.state()))).toBe('ERR_DEVICE_STATE')
  })

  it('is refused a write cache on a disk that is read-only', () => {
    const guest = setUp(numberedDisk(SECTORS, true))
    const state = guest.transport.state()
    const device = { ...(state.device as object), writeback: true }
    const disk = numberedDisk(SECTORS, true)
    expect(() => restore(guest, state, disk)).not.toThrow()
    expect(codeThrownBy(() => restore(guest, { ...state, device }, numberedDisk(SECTORS, true)))).toBe(
      'ERR_DEVICE_STATE',
    )
  })
})
